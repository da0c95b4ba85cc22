/** What the router proves itself with to an agent: its kinds, the secret in each, and where it may be sent. Pure. */
import type { AgentCredential } from "../../../gen/signalbox/v1/registry_pb.ts";

export type CredentialKind = AgentCredential["kind"];
/** A kind that was given. */
export type GivenKind = Exclude<CredentialKind, { case: undefined }>;

/** What a kind is called in commands, entries and messages. */
export const KIND_NAMES: Readonly<Record<GivenKind["case"], string>> = {
  bearer: "bearer",
  apiKey: "api-key",
  hmac: "hmac",
  oauth2: "oauth2",
  oidc: "oidc",
  mutualTls: "mtls",
};

/** The one secret of a kind. */
export function secretOf(kind: GivenKind): string {
  switch (kind.case) {
    case "bearer":
      return kind.value.token;
    case "apiKey":
      return kind.value.key;
    case "hmac":
      return kind.value.secret;
    case "oauth2":
    case "oidc":
      return kind.value.clientSecret;
    case "mutualTls":
      return kind.value.privateKey;
  }
}

/** The same with another secret: empty for what may be shown. */
export function withSecret(kind: GivenKind, secret: string): GivenKind {
  switch (kind.case) {
    case "bearer":
      return { case: "bearer", value: { ...kind.value, token: secret } };
    case "apiKey":
      return { case: "apiKey", value: { ...kind.value, key: secret } };
    case "hmac":
      return { case: "hmac", value: { ...kind.value, secret } };
    case "oauth2":
      return { case: "oauth2", value: { ...kind.value, clientSecret: secret } };
    case "oidc":
      return { case: "oidc", value: { ...kind.value, clientSecret: secret } };
    case "mutualTls":
      return { case: "mutualTls", value: { ...kind.value, privateKey: secret } };
  }
}

/**
 * The host and port of an address: of a URL, or of gRPC as `host:port`. What was set for one host is not sent to another that the card
 * names later. Undefined for what is no such address.
 */
export function hostOf(url: string): string | undefined {
  const parsed = URL.parse(/^https?:\/\//i.test(url) ? url : `http://${url}`);
  if (!parsed || parsed.hostname === "") return undefined;
  const port = parsed.port === "" ? (parsed.protocol === "https:" ? "443" : "80") : parsed.port;
  return `${parsed.hostname.replace(/\.$/, "")}:${port}`;
}
