/** Keys of cards: those that sign ours, as they are named or in the data folder, and those that others' may be signed with. */
import { createPrivateKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { JWK } from "jose";
import type { Logger } from "pino";
import type { Config } from "../config/settings.ts";
import { SignalboxError } from "../domain/errors.ts";
import type { CardKeys } from "../services/card-signer.ts";
import { isPublicKey } from "../services/card-verifier.ts";
import { makeKeyFile, readKeyFile } from "./key-file.ts";

const KEY_FILE = "card-key.pem";

/**
 * With PostgreSQL and nothing named there is none: other servers of the database could not know it.
 *
 * @throws SignalboxError CARD_KEY_UNREADABLE for one that is named and cannot be used.
 */
export function readCardKeys({ card, data, database }: Config, log: Logger): CardKeys {
  const previous = card.previousKey === undefined ? undefined : namedKey("card.previous-key", card.previousKey);
  if (card.key !== undefined) return { key: namedKey("card.key", card.key), previous };
  if (database.url !== undefined) return { key: undefined, previous };
  return { key: fileKey(join(data.dir, KEY_FILE)) ?? makeKey(data.dir, log), previous };
}

/** @throws SignalboxError CARD_TRUSTED_KEYS_UNREADABLE */
export function readTrustedKeys({ card: { trustedKeys: path } }: Config): readonly JWK[] {
  if (path === undefined) return [];
  let set: unknown;
  try {
    set = JSON.parse(readFileSync(path, "utf8"));
  } catch (error) {
    throw untrustable(path, (error as Error).message, error);
  }
  const keys = (set as { keys?: unknown } | null)?.keys;
  if (!Array.isArray(keys)) throw untrustable(path, "it has no list of keys");
  const wrong = keys.findIndex((key) => !isPublicKey(key));
  if (wrong >= 0) throw untrustable(path, `keys[${wrong}] is no public key of the types EC, RSA and OKP`);
  const secret = keys.findIndex((key) => (key as JWK).d !== undefined);
  if (secret >= 0) throw untrustable(path, `keys[${secret}] is a private key: give its public half`);
  return keys as JWK[];
}

function namedKey(setting: string, given: string): KeyObject {
  const key = given.includes("-----BEGIN") ? readKey(given) : fileKey(given);
  if (key) return key;
  // The value may be a key that was cut off: it is not shown.
  throw unreadable(`${setting} is no private EC key of the curve P-256, and names no file that can be read.`);
}

/** Undefined when there is no such file. */
function fileKey(path: string): KeyObject | undefined {
  const text = readKeyFile(path, unreadable);
  if (text === undefined) return undefined;
  const key = readKey(text);
  if (!key) throw unreadable(`${path} holds no private EC key of the curve P-256.`);
  return key;
}

function readKey(pem: string): KeyObject | undefined {
  try {
    const key = createPrivateKey(pem);
    const isP256 = key.asymmetricKeyType === "ec" && key.asymmetricKeyDetails?.namedCurve === "prime256v1";
    return isP256 ? key : undefined;
  } catch {
    return undefined;
  }
}

/** The file first: nobody should have trusted a key that is lost with this process. */
function makeKey(folder: string, log: Logger): KeyObject | undefined {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const path = join(folder, KEY_FILE);
  try {
    const pem = String(privateKey.export({ format: "pem", type: "pkcs8" }));
    if (!makeKeyFile(path, pem)) return fileKey(path);
  } catch (err) {
    log.error(
      { err, path },
      "no key for cards could be kept, and cards are not signed: set card.key (SIGNALBOX_CARD_KEY)",
    );
    return undefined;
  }
  log.info({ path }, "a key that signs cards was made; keep a copy of it");
  return privateKey;
}

const unreadable = (why: string) =>
  new SignalboxError({
    code: "FAILED_PRECONDITION",
    reason: "CARD_KEY_UNREADABLE",
    message: `${why} It takes PEM (PKCS 8 or SEC 1), or the path of a file with one.`,
  });

const untrustable = (path: string, why: string, cause?: unknown) =>
  new SignalboxError({
    code: "FAILED_PRECONDITION",
    reason: "CARD_TRUSTED_KEYS_UNREADABLE",
    message: `card.trusted-keys: ${path} cannot be read as a JWK Set (RFC 7517): ${why}. It takes {"keys": [...]}.`,
    cause,
  });
