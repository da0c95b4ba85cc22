/**
 * Where anonymous callers are let in, or a peer's address says who calls, being able to reach the server is a credential that every
 * browser on the machine has. A web page could use it: by having its own name resolve to this machine (DNS rebinding), which makes it
 * same-origin with the whole API, or by posting here from elsewhere without asking to read the answer. What a browser says of the
 * page, in Host and Origin, tells both.
 */
import { isIPv4 } from "node:net";
import { clip, SignalboxError } from "../domain/errors.ts";
import type { HttpRequest } from "./http-exchange.ts";

export interface HostGuardOptions {
  /**
   * Whether only names that are ours are let through. Not needed where everybody must show a credential that browsers do not send by
   * themselves: there a server may be called by whatever name leads to it. What pages may call is asked in any case, because a
   * browser that has a client's certificate shows it by itself.
   */
  checksHost: boolean;
  /** The host that the listener binds. */
  host: string;
  /** `public.url`: its host is ours, and so is its origin. */
  publicUrl: string | undefined;
  /** `public.grpc`: its host is ours. */
  publicGrpc: string | undefined;
  /** Origins of pages that may call; `*` among them means all. */
  corsOrigins: readonly string[];
}

/** Methods that change nothing; what they answer a page reads only where CORS lets it. */
const SAFE_METHODS = new Set(["GET", "HEAD", "OPTIONS"]);

/**
 * Says why a request may not come in, or nothing when it may: HOST_NOT_ALLOWED (421) for a name that is not ours,
 * ORIGIN_NOT_ALLOWED (403) for a page of another origin that is not among `corsOrigins`.
 */
export function createHostGuard(options: HostGuardOptions): (req: HttpRequest) => SignalboxError | undefined {
  const { publicUrl, corsOrigins } = options;
  const ours = new Set(
    [
      nameOf(options.host.includes(":") ? `[${options.host}]` : options.host),
      publicUrl && URL.parse(publicUrl)?.hostname,
      options.publicGrpc && nameOf(options.publicGrpc),
    ].filter((name) => name !== undefined),
  );
  const origins = new Set([...corsOrigins, publicUrl && URL.parse(publicUrl)?.origin]);
  /** What was ours last: most requests name what the one before has named, and reading it is dear. */
  let familiar: string | undefined;

  return (req) => {
    const authority = "authority" in req ? req.authority : req.headers.host;
    // HTTP/1.0 may leave it out. Browsers never do.
    if (options.checksHost && authority !== undefined && authority !== familiar) {
      const name = nameOf(authority);
      if (name === undefined || !(ours.has(name) || isLoopbackName(name))) return hostNotAllowed(authority);
      familiar = authority;
    }
    const { origin } = req.headers;
    if (origin === undefined || SAFE_METHODS.has(req.method ?? "")) return undefined;
    if (origins.has("*") || origins.has(origin) || isOriginOf(origin, authority)) return undefined;
    return originNotAllowed(origin);
  };
}

/** The host of `host[:port]` as URLs write it, without the dot that may end a name; undefined when it is none. */
function nameOf(authority: string): string | undefined {
  if (!/^[\w.:[\]-]+$/.test(authority)) return undefined;
  return URL.parse(`http://${authority}`)?.hostname.replace(/\.$/, "");
}

function isLoopbackName(name: string): boolean {
  return (
    name === "localhost" || name.endsWith(".localhost") || name === "[::1]" || (isIPv4(name) && name.startsWith("127."))
  );
}

/** Whether a page of `origin` came from the host and port that it now calls. */
function isOriginOf(origin: string, authority: string | undefined): boolean {
  const page = URL.parse(origin);
  return page !== null && page.host !== "" && page.host === URL.parse(`${page.protocol}//${authority}`)?.host;
}

const hostNotAllowed = (host: string) =>
  new SignalboxError({
    code: "PERMISSION_DENIED",
    reason: "HOST_NOT_ALLOWED",
    message: `This server is not known as "${clip(host)}". If it should be, the operator names that address in public.url.`,
    metadata: { host: clip(host) },
  });

const originNotAllowed = (origin: string) =>
  new SignalboxError({
    code: "PERMISSION_DENIED",
    reason: "ORIGIN_NOT_ALLOWED",
    message: `Pages of "${clip(origin)}" may not call this server. If they should, the operator names that origin in http.cors-origins.`,
    metadata: { origin: clip(origin) },
  });
