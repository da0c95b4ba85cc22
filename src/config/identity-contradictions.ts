/** Settings of who may call, and of how connections are made, that are right alone and wrong together. */
import { accessSync, constants } from "node:fs";
import type { ConfigProblem } from "./config-error.ts";
import { isLoopbackHost } from "./kinds.ts";
import type { Config, SettingKey } from "./settings.ts";
import { tokenContradictions } from "./token-contradictions.ts";
import { unreadable } from "./unreadable.ts";

export function identityContradictions(config: Config, where: (key: SettingKey) => string): ConfigProblem[] {
  const problems: ConfigProblem[] = [];
  const { host, http, grpc, auth, tls } = config;
  const tell = (key: SettingKey, message: string) => problems.push({ where: where(key), message });
  const needs = (key: SettingKey, value: unknown, other: SettingKey, otherValue: unknown) => {
    if (value !== undefined && otherValue === undefined) tell(key, `${key} needs ${other} beside it.`);
  };

  if (!isLoopbackHost(host) && auth.anonymousRole !== "none" && !auth.exposeAnonymous) {
    tell(
      "auth.anonymous-role",
      `host is ${JSON.stringify(host)}, which other machines can reach, and auth.anonymous-role lets anybody in there as ${auth.anonymousRole}. Leave it out, or set auth.expose-anonymous if that is what you want.`,
    );
  }
  needs("tls.certificate", tls.certificate, "tls.key", tls.key);
  needs("tls.key", tls.key, "tls.certificate", tls.certificate);
  needs("tls.client-ca", tls.clientCa, "tls.certificate", tls.certificate);
  needs("tls.client-crl", tls.clientCrl, "tls.client-ca", tls.clientCa);
  if (tls.clientCertificates === "required") {
    needs("tls.client-certificates", tls.clientCertificates, "tls.client-ca", tls.clientCa);
  }
  const files = {
    "tls.certificate": tls.certificate,
    "tls.key": tls.key,
    "tls.client-ca": tls.clientCa,
    "tls.client-crl": tls.clientCrl,
    "card.trusted-keys": config.card.trustedKeys,
  } as const;
  for (const [key, path] of Object.entries(files)) {
    if (path === undefined) continue;
    try {
      accessSync(path, constants.R_OK);
    } catch (error) {
      tell(key as SettingKey, unreadable(path, error));
    }
  }
  if (http.socket !== undefined && http.socket === grpc.socket) {
    tell("grpc.socket", `grpc.socket and http.socket are both ${http.socket}. Give each listener its own.`);
  }
  if (auth.trustedProxies.includes("unix") && http.socket === undefined && grpc.socket === undefined) {
    tell(
      "auth.trusted-proxies",
      "auth.trusted-proxies names unix, and there is no Unix socket. Set http.socket, or grpc.socket.",
    );
  }
  return [...problems, ...tokenContradictions(config, where)];
}
