/** How a client command says who calls: by options, or by the environment. */
import { parseKeyToken } from "../domain/identity/key-token.ts";
import { ConfigError } from "./config-error.ts";
import { isLoopbackHost } from "./kinds.ts";
import type { ConfigSources } from "./load.ts";

/** One of the first three, or none. */
export interface ClientCredentials {
  /** A key that is sent with each call. */
  readonly apiKey?: string;
  /** A token of an issuer that the server trusts. */
  readonly token?: string;
  /** A key that signs each call. */
  readonly signingKey?: string;
  /** The workspace to work in, of several. */
  readonly workspace?: string;
}

export interface CredentialFlags {
  apiKey?: string;
  token?: string;
  signWith?: string;
  workspace?: string;
}

/** Variables of commands that call a server. */
export const CLIENT_VARIABLES = {
  apiKey: "SIGNALBOX_API_KEY",
  token: "SIGNALBOX_TOKEN",
  signingKey: "SIGNALBOX_SIGNING_KEY",
  workspace: "SIGNALBOX_WORKSPACE",
} as const;

/**
 * What the options say, and else what the environment says.
 *
 * @throws ConfigError for several credentials at once, and for a key that is none; it is not shown.
 */
export function clientCredentials(flags: CredentialFlags, env: ConfigSources["env"] = process.env): ClientCredentials {
  const given = {
    apiKey: ["--api-key", flags.apiKey] as const,
    token: ["--token", flags.token] as const,
    signingKey: ["--sign-with", flags.signWith] as const,
  };
  const byFlag = Object.values(given).some(([, value]) => value);
  const found = KINDS.flatMap((kind) => {
    const [where, value] = byFlag ? given[kind] : [CLIENT_VARIABLES[kind], env[CLIENT_VARIABLES[kind]]];
    return value ? [{ kind, where, value: value.trim() }] : [];
  });
  const [one, another] = found;
  if (one && another) {
    throw new ConfigError([
      { where: another.where, message: `A call has one credential. Leave out ${one.where}, or this.` },
    ]);
  }
  if (one && one.kind !== "token" && !parseKeyToken(one.value)) {
    throw new ConfigError([
      { where: one.where, message: "This is no key: keys are sbx_<key id>_<secret>, as they were shown once." },
    ]);
  }
  const workspace = flags.workspace || env[CLIENT_VARIABLES.workspace];
  return { ...(one && { [one.kind]: one.value }), ...(workspace && { workspace }) };
}

/** The key to sign with, of `signalbox sign`, which has no use for others. Throws ConfigError for what is none. */
export function signingKeyOf(flag: string | undefined, env: ConfigSources["env"] = process.env): string | undefined {
  return clientCredentials({ ...(flag && { signWith: flag }) }, { SIGNALBOX_SIGNING_KEY: env.SIGNALBOX_SIGNING_KEY })
    .signingKey;
}

const KINDS = ["apiKey", "token", "signingKey"] as const;

/** Whether a credential would be read by whoever is on the way to a server. A signature may be. */
export function isSentInTheClear({ apiKey, token }: ClientCredentials, serverUrl: string): boolean {
  const { protocol, hostname } = new URL(serverUrl);
  return (apiKey ?? token) !== undefined && protocol === "http:" && !isLoopbackHost(hostname.replace(/^\[|\]$/g, ""));
}
