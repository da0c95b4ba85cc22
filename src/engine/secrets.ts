/** The keys with which the server keeps what it must know of others' secrets: as they are named, or in the data folder. */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { SignalboxError } from "../domain/errors.ts";
import { createSecretBox, SECRET_KEY_BYTES, type SecretBox } from "../services/identity/secret-box.ts";
import { makeKeyFile, readKeyFile } from "./key-file.ts";
import type { EngineBase } from "./options.ts";

/** In `data.dir`. */
export const SECRETS_FILE = "secrets.key";
/** More keys than anybody changes through at once. */
const MOST_KEYS = 16;

/**
 * With the embedded database and no setting a key is made when the first secret is kept. With PostgreSQL and no setting there is
 * none: each server would have its own.
 *
 * @throws SignalboxError SECRETS_KEY_UNREADABLE for a setting, or a file, that holds no such keys.
 */
export function buildSecrets({ config, db, log }: Pick<EngineBase, "config" | "db" | "log">): SecretBox {
  const { key } = config.secrets;
  if (key !== undefined) return createSecretBox(keysIn(readKeyFile(key, unreadable) ?? key, "secrets.key"));
  if (db.backend !== "pglite") return createSecretBox([]);
  return madeWhenNeeded(join(config.data.dir, SECRETS_FILE), log);
}

function madeWhenNeeded(path: string, log: EngineBase["log"]): SecretBox {
  const read = (): Buffer[] | undefined => {
    const text = readKeyFile(path, unreadable);
    return text === undefined ? undefined : keysIn(text, path);
  };
  const make = (): Buffer[] => {
    const key = randomBytes(SECRET_KEY_BYTES);
    try {
      if (!makeKeyFile(path, `${key.toString("base64")}\n`)) return read()!;
    } catch (err) {
      throw notKept(path, err);
    }
    log.info({ path }, "a key that secrets are kept with was made; keep a copy of it");
    return [key];
  };
  let box = createSecretBox(read() ?? []);
  return {
    canSeal: true,
    seal(secret, about) {
      if (!box.canSeal) box = createSecretBox(make());
      return box.seal(secret, about);
    },
    open: (sealed, about) => box.open(sealed, about),
    isOld: (sealed) => box.isOld(sealed),
  };
}

/** The keys that a text holds. What is wrong with one is told without showing it. */
function keysIn(text: string, where: string): Buffer[] {
  const given = text.split(/\s+/).filter((word) => word !== "");
  if (given.length === 0) throw unreadable(`${where} holds no key.`);
  if (given.length > MOST_KEYS) throw unreadable(`${where} holds ${given.length} keys; ${MOST_KEYS} at most.`);
  return given.map((word, i) => {
    const key = Buffer.from(word, "base64");
    // Node reads whatever it is given; what is no base64, as a path where there is no file, comes out another than it went in.
    const isBase64 =
      key.toString("base64").replace(/=+$/, "") === word.replaceAll("-", "+").replaceAll("_", "/").replace(/=+$/, "");
    const which = given.length === 1 ? "the key" : `key ${i + 1}`;
    if (!isBase64) throw unreadable(`${where}: ${which} is no base64, and names no file that can be read.`);
    if (key.length !== SECRET_KEY_BYTES)
      throw unreadable(`${where}: ${which} has ${key.length} bytes, not ${SECRET_KEY_BYTES}.`);
    return key;
  });
}

const unreadable = (why: string) =>
  new SignalboxError({
    code: "FAILED_PRECONDITION",
    reason: "SECRETS_KEY_UNREADABLE",
    message: `${why} It takes base64 of ${SECRET_KEY_BYTES} bytes, as "openssl rand -base64 ${SECRET_KEY_BYTES}" makes them, one a line, or the path of a file with them.`,
  });

const notKept = (path: string, cause: unknown) =>
  new SignalboxError({
    code: "FAILED_PRECONDITION",
    reason: "SECRETS_KEY_MISSING",
    message:
      "This server has no key to keep secrets with, and could not write one down. Its operator gives it one in secrets.key.",
    cause: new Error(`${path} cannot be written`, { cause }),
  });
