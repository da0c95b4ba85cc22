/** The listeners as they are configured: where they listen, with which certificates, and what connections may do there. */
import type { Logger } from "pino";
import { isLoopbackHost } from "../config/kinds.ts";
import type { Config } from "../config/settings.ts";
import type { ListenOptions, TlsOptions } from "../transport/acceptor.ts";
import type { Http2Limits } from "../transport/http2-guard.ts";
import { openTlsFiles, type TlsFiles } from "../transport/tls-files.ts";

export interface ListenerSettings {
  http: ListenOptions & { limits: Http2Limits };
  grpc: ListenOptions & { limits: Http2Limits };
}

/** The certificates, where there are some. Throws TLS_UNUSABLE for files that cannot be used. */
export async function openCertificates(
  { tls }: Config,
  log: Logger,
  onReload: (result: "loaded" | "refused") => void,
): Promise<TlsFiles | undefined> {
  const { certificate, key } = tls;
  if (certificate === undefined || key === undefined) return undefined;
  return openTlsFiles({ paths: { certificate, key, clientCa: tls.clientCa, clientCrl: tls.clientCrl }, log, onReload });
}

/** `isShared`: other processes of this server listen there, too. */
export function listenerSettings(config: Config, files: TlsFiles | undefined, isShared: boolean): ListenerSettings {
  const { limits, tls } = config;
  const tlsOptions: TlsOptions | undefined = files && {
    files,
    clientCertificates: tls.clientCa === undefined ? undefined : tls.clientCertificates,
  };
  const shared = {
    host: config.host,
    isShared,
    tls: tlsOptions,
    connections: limits.connections,
    addressConnections: limits.addressConnections,
    limits: {
      headerBytes: limits.headerBytes,
      streams: limits.connectionStreams,
      ageMs: limits.connectionAgeMs,
    },
  };
  return {
    http: { ...shared, port: config.http.port, socketPath: config.http.socket },
    grpc: { ...shared, port: config.grpc.port, socketPath: config.grpc.socket },
  };
}

/**
 * Whether the name that a request calls this server by is checked: wherever being able to reach it is a credential that browsers on the
 * same machine have, too. See transport/host-guard.ts.
 */
export const checksHost = ({ auth }: Config): boolean =>
  auth.anonymousRole !== "none" || auth.trustedProxies.some((proxy) => proxy !== "unix");

/** Says so when secrets cross the network in the clear. */
export function warnOfPlainSecrets({ host, tls, auth }: Config, log: Logger): void {
  if (isLoopbackHost(host) || tls.certificate !== undefined || auth.trustedProxies.length > 0) return;
  if (auth.anonymousRole !== "none") return;
  log.warn(
    { host },
    "other machines reach this server without TLS: whoever can listen on the network reads the keys and tokens of callers. Set tls.certificate and tls.key, or put a proxy in front and name it in auth.trusted-proxies",
  );
}
