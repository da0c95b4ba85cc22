/**
 * Keeps what the server must know of others' secrets: AES-256-GCM under keys that are not in the database. A sealed text is a byte of
 * 1, 4 bytes that tell its key, 12 of a nonce, the ciphertext, and the tag of 16.
 */
import { createCipheriv, createDecipheriv, hash, randomBytes } from "node:crypto";
import { SignalboxError } from "../../domain/errors.ts";

const VERSION = 1;
const TELLING_BYTES = 4;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
/** Of AES-256. */
export const SECRET_KEY_BYTES = 32;
const HEAD_BYTES = 1 + TELLING_BYTES + NONCE_BYTES;

export interface SecretBox {
  /** Whether there is a key to seal with. */
  readonly canSeal: boolean;
  /**
   * `about` says what it is and where it belongs, such as `agent_credentials/<workspace>/<agent>`: elsewhere it does not open.
   *
   * @throws SignalboxError SECRETS_KEY_MISSING
   */
  seal(secret: Uint8Array, about: string): Buffer;
  /** @throws SignalboxError SECRET_UNREADABLE where no key opens it: it was changed, or its key is not here any more. */
  open(sealed: Uint8Array, about: string): Buffer;
  /** Whether it was sealed with another key than new ones are. */
  isOld(sealed: Uint8Array): boolean;
}

/** `keys` have SECRET_KEY_BYTES each: the first seals, all open. */
export function createSecretBox(keys: readonly Uint8Array[]): SecretBox {
  const byTelling = new Map(keys.map((key) => [tellingOf(key), key]));
  const [first] = keys;
  const headOf = (sealed: Uint8Array): string => Buffer.from(sealed.subarray(1, 1 + TELLING_BYTES)).toString("hex");
  return {
    canSeal: first !== undefined,
    seal(secret, about) {
      if (!first) throw secretsKeyMissing();
      const nonce = randomBytes(NONCE_BYTES);
      const cipher = createCipheriv("aes-256-gcm", first, nonce).setAAD(Buffer.from(about));
      const body = [cipher.update(secret), cipher.final()];
      const telling = Buffer.from(tellingOf(first), "hex");
      return Buffer.concat([Buffer.of(VERSION), telling, nonce, ...body, cipher.getAuthTag()]);
    },
    open(sealed, about) {
      const key = byTelling.get(headOf(sealed));
      if (sealed[0] !== VERSION || !key || sealed.length < HEAD_BYTES + TAG_BYTES) throw secretUnreadable(about);
      const nonce = sealed.subarray(1 + TELLING_BYTES, HEAD_BYTES);
      const decipher = createDecipheriv("aes-256-gcm", key, nonce, { authTagLength: TAG_BYTES });
      decipher.setAAD(Buffer.from(about)).setAuthTag(sealed.subarray(-TAG_BYTES));
      try {
        return Buffer.concat([decipher.update(sealed.subarray(HEAD_BYTES, -TAG_BYTES)), decipher.final()]);
      } catch (error) {
        throw secretUnreadable(about, error);
      }
    },
    isOld: (sealed) => first === undefined || headOf(sealed) !== tellingOf(first),
  };
}

/** Tells keys apart, and nothing of what they are. */
const tellingOf = (key: Uint8Array): string =>
  hash("sha256", Buffer.concat([TELLING_LABEL, key])).slice(0, 2 * TELLING_BYTES);

const TELLING_LABEL = Buffer.from("signalbox secrets key ");

const secretsKeyMissing = () =>
  new SignalboxError({
    code: "FAILED_PRECONDITION",
    reason: "SECRETS_KEY_MISSING",
    message: "This server has no key to keep secrets with. Its operator gives it one in secrets.key.",
  });

const secretUnreadable = (about: string, cause?: unknown) =>
  new SignalboxError({
    code: "FAILED_PRECONDITION",
    reason: "SECRET_UNREADABLE",
    message:
      "A secret that the server keeps cannot be read with the keys in secrets.key. Give it the key that it was kept with, or set the secret again.",
    metadata: { about },
    cause,
  });
