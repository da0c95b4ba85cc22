/** The private keys of the audit log: as they are named, or in the data folder, where the first is made. */
import { generateKeyPairSync, type KeyObject } from "node:crypto";
import { join } from "node:path";
import type { Logger } from "pino";
import { KEY_FILE, PREVIOUS_KEY_FILE } from "../config/settings/audit.ts";
import type { Config } from "../config/settings.ts";
import { readPrivateKey } from "../domain/audit/checkpoint.ts";
import { SignalboxError } from "../domain/errors.ts";
import type { GivenKeys } from "../services/audit/signer.ts";
import { makeKeyFile, readKeyFile } from "./key-file.ts";

/**
 * `mayMake`: no key has signed the log yet.
 *
 * @throws SignalboxError AUDIT_KEY_UNREADABLE for one that is named and cannot be used; AUDIT_KEY_MISSING where only the one before it
 * is named.
 */
export function readAuditKeys({ audit, data }: Config, mayMake: boolean, log: Logger): GivenKeys {
  if (audit.key !== undefined) {
    const previous = audit.previousKey === undefined ? undefined : namedKey("audit.previous-key", audit.previousKey);
    return { key: namedKey("audit.key", audit.key), previous, isNamed: true };
  }
  if (audit.previousKey !== undefined) throw keyMissing();
  const key = fileKey(join(data.dir, KEY_FILE)) ?? (mayMake ? makeKey(data.dir, log) : undefined);
  return { key, previous: fileKey(join(data.dir, PREVIOUS_KEY_FILE)), isNamed: false };
}

function namedKey(setting: string, given: string): KeyObject {
  const key = fileKey(given) ?? readPrivateKey(given);
  if (key) return key;
  // The value may be a key that was cut off: it is not shown.
  throw unreadable(`${setting} is no private Ed25519 key, and names no file that can be read.`);
}

/** Undefined when there is no such file. */
function fileKey(path: string): KeyObject | undefined {
  const text = readKeyFile(path, unreadable);
  if (text === undefined) return undefined;
  const key = readPrivateKey(text);
  if (!key) throw unreadable(`${path} holds no private Ed25519 key.`);
  return key;
}

function makeKey(folder: string, log: Logger): KeyObject | undefined {
  const { privateKey } = generateKeyPairSync("ed25519");
  const path = join(folder, KEY_FILE);
  try {
    if (!makeKeyFile(path, privateKey.export({ format: "pem", type: "pkcs8" }) as string)) return fileKey(path);
  } catch (err) {
    log.error({ err, path }, "no key for the audit log could be kept: set audit.key (SIGNALBOX_AUDIT_KEY)");
    return undefined;
  }
  log.info({ path }, "a key for the audit log was made; keep a copy of it");
  return privateKey;
}

const unreadable = (why: string) =>
  new SignalboxError({
    code: "FAILED_PRECONDITION",
    reason: "AUDIT_KEY_UNREADABLE",
    message: `${why} It takes PEM (PKCS 8), or the seed of 32 bytes in base64 or hexadecimal, or the path of a file with one.`,
  });

const keyMissing = () =>
  new SignalboxError({
    code: "FAILED_PRECONDITION",
    reason: "AUDIT_KEY_MISSING",
    message:
      "audit.previous-key is set and audit.key is not. Set audit.key to the key that follows it, or leave audit.previous-key out.",
  });
