/** Tokens of API keys: `sbx_<key id>_<secret>`. Pure. */
import { hash, timingSafeEqual } from "node:crypto";

/** What begins every token: so that scanners for leaked secrets, and people, know one when they see it. */
export const TOKEN_PREFIX = "sbx_";

/** Bytes of the random part of a key id, and of a secret. */
export const KEY_ID_RANDOM_BYTES = 8;
export const SECRET_BYTES = 32;

/** A token, taken apart. */
export interface KeyToken {
  readonly keyId: string;
  readonly secret: string;
}

// Keys that operators write themselves, in auth.admin-key, may have other lengths than those that are made here.
const TOKEN = /^sbx_([a-z0-9]{4,32})_([A-Za-z0-9_-]{32,128})$/;
const KEY_ID = /^[a-z0-9]{4,32}$/;
/** 9 digits of base 36 hold milliseconds until the year 5188. */
const TIME_DIGITS = 9;
const RANDOM_DIGITS = 7;

/** Undefined for what is no token. */
export function parseKeyToken(text: string): KeyToken | undefined {
  const [, keyId, secret] = TOKEN.exec(text) ?? [];
  return keyId === undefined || secret === undefined ? undefined : { keyId, secret };
}

/** Whether a text may be the id of a key. */
export const isKeyId = (text: string): boolean => KEY_ID.test(text);

/** The id of a new key, of 16 characters: ids are in the order of their times. Takes 8 bytes of chance; an id is no secret. */
export function newKeyId(nowMs: number, random: Uint8Array): string {
  const chance = Buffer.from(random).readBigUInt64BE() % 36n ** BigInt(RANDOM_DIGITS);
  return nowMs.toString(36).padStart(TIME_DIGITS, "0") + chance.toString(36).padStart(RANDOM_DIGITS, "0");
}

/** The text of a secret of 32 bytes. It is this text that is hashed, or signs, and not the bytes: shells have texts. */
export const secretText = (random: Uint8Array): string => Buffer.from(random).toString("base64url");

export const keyToken = ({ keyId, secret }: KeyToken): string => `${TOKEN_PREFIX}${keyId}_${secret}`;

/** What is kept of a secret that is sent: SHA-256. A secret has 256 bits of chance, so nothing slower would make it safer. */
export const secretHash = (secret: string): Buffer => hash("sha256", secret, "buffer");

/** What nothing hashes to that anybody knows: an unknown key is compared with it, and takes the same work. */
export const NO_SECRET_HASH: Uint8Array = secretHash("signalbox: no key has this secret");

/** In constant time: both sides are digests, and equally long whatever was sent. */
export const matchesSecret = (secret: string, kept: Uint8Array): boolean => timingSafeEqual(secretHash(secret), kept);
