/** What a command that calls a server over https trusts, and the certificate that it shows. */
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { ConfigError } from "./config-error.ts";
import { unreadable } from "./unreadable.ts";

/** Paths of PEM files. */
export interface TlsFlags {
  ca?: string;
  cert?: string;
  certKey?: string;
}

/** What the files hold. */
export interface ClientTls {
  ca?: Buffer;
  cert?: Buffer;
  key?: Buffer;
}

const GIVEN = [
  ["ca", "ca", "--ca", "SIGNALBOX_CA"],
  ["cert", "cert", "--cert", "SIGNALBOX_CERT"],
  ["key", "certKey", "--cert-key", "SIGNALBOX_CERT_KEY"],
] as const;

/** The files that flags or the environment name; undefined when they name none. Throws ConfigError for what cannot be used. */
export function clientTls(
  flags: TlsFlags,
  env: Readonly<Record<string, string | undefined>> = process.env,
  cwd: string = process.cwd(),
): ClientTls | undefined {
  const found: ClientTls = {};
  for (const [name, option, flag, variable] of GIVEN) {
    const path = flags[option] ?? env[variable];
    if (!path) continue;
    try {
      found[name] = readFileSync(resolve(cwd, path));
    } catch (error) {
      const where = flags[option] === undefined ? variable : flag;
      throw new ConfigError([{ where, message: unreadable(path, error) }]);
    }
  }
  if ((found.cert === undefined) !== (found.key === undefined)) {
    const [given, missing] = found.cert === undefined ? ["--cert-key", "--cert"] : ["--cert", "--cert-key"];
    throw new ConfigError([{ where: given!, message: `A certificate has a key: give ${missing} too.` }]);
  }
  return Object.keys(found).length === 0 ? undefined : found;
}
