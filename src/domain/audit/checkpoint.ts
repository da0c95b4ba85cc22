/**
 * Checkpoints: what a log says of itself and signs. The text is a tlog-checkpoint, the envelope a signed note, and keys are
 * written as verifier keys, all of C2SP (https://c2sp.org/tlog-checkpoint, https://c2sp.org/signed-note). Ed25519. Pure.
 */
import { createPrivateKey, createPublicKey, hash, type KeyObject, sign, verify } from "node:crypto";
import { HASH_BYTES } from "./merkle.ts";

/** What a checkpoint says: the log of that name has so many entries, and its tree this root. */
export interface CheckpointBody {
  origin: string;
  size: number;
  root: Uint8Array;
}

/** A public key of Ed25519, under the name of the log that it signs for. */
export interface VerifierKey {
  name: string;
  /** The four bytes by which signatures name it. */
  id: Uint8Array;
  /** 32 bytes. */
  publicKey: Uint8Array;
}

/** Ed25519, as signed notes number it. */
const ED25519 = 1;
const KEY_BYTES = 32;
const SIGNATURE_BYTES = 64;
/** Signatures of a note that are looked at. */
const MOST_SIGNATURES = 16;
/** Before the 32 bytes of a public key, or of a seed, in DER (RFC 8410). */
const PUBLIC_DER = Buffer.from("302a300506032b6570032100", "hex");
const PRIVATE_DER = Buffer.from("302e020100300506032b657004220420", "hex");

/** The name of a workspace's log. The names of workspaces are DNS labels. */
export const originOf = (origin: string, workspaceId: string): string => `${origin}/${workspaceId}`;

/** Whether logs may be named so: an address without a scheme, as `example.com/audit`. */
export const isOrigin = (text: string): boolean => /^[A-Za-z0-9][A-Za-z0-9._~/-]{0,199}$/.test(text);

export function verifierKey(name: string, publicKey: Uint8Array): VerifierKey {
  const typed = Buffer.concat([Buffer.from(`${name}\n`), Buffer.from([ED25519]), publicKey]);
  return { name, id: hash("sha256", typed, "buffer").subarray(0, 4), publicKey };
}

/** `<name>+<id>+<key>`. */
export function writeVerifierKey({ name, id, publicKey }: VerifierKey): string {
  const key = Buffer.concat([Buffer.from([ED25519]), publicKey]);
  return `${name}+${Buffer.from(id).toString("hex")}+${key.toString("base64")}`;
}

/** Undefined for what is no verifier key of Ed25519, or one whose id is not its own. */
export function readVerifierKey(text: string): VerifierKey | undefined {
  // 33 bytes are 44 characters, without padding.
  const [, name, id, key] = /^([^\s+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/]{44})$/.exec(text.trim()) ?? [];
  const bytes = Buffer.from(key ?? "", "base64");
  if (name === undefined || bytes.length !== 1 + KEY_BYTES || bytes[0] !== ED25519) return undefined;
  const found = verifierKey(name, bytes.subarray(1));
  return Buffer.from(found.id).toString("hex") === id ? found : undefined;
}

/** The text that is signed. */
const bodyText = ({ origin, size, root }: CheckpointBody): string =>
  `${origin}\n${size}\n${Buffer.from(root).toString("base64")}\n`;

/** A checkpoint, signed with each of the keys, as a note. */
export function signCheckpoint(body: CheckpointBody, signers: readonly KeyObject[]): string {
  const text = bodyText(body);
  const lines = signers.map((key) => {
    const { id } = verifierKey(body.origin, publicBytes(key));
    const signature = Buffer.concat([id, sign(null, Buffer.from(text), key)]);
    return `— ${body.origin} ${signature.toString("base64")}\n`;
  });
  return `${text}\n${lines.join("")}`;
}

/** A note that was taken apart. Nothing of it is to be believed before `isSignedBy` says so. */
export interface Note extends CheckpointBody {
  readonly text: string;
  readonly signatures: readonly { name: string; id: Uint8Array; signature: Uint8Array }[];
}

/** Undefined for what is no signed checkpoint. */
export function readNote(note: string): Note | undefined {
  const end = note.lastIndexOf("\n\n");
  if (end < 0 || note.length > 65_536) return undefined;
  const text = note.slice(0, end + 1);
  const [, origin, digits, root64] =
    /^([^\n]+)\n(0|[1-9]\d{0,15})\n([A-Za-z0-9+/]{43}=)\n(?:[^\n]+\n)*$/.exec(text) ?? [];
  if (origin === undefined) return undefined;
  const size = Number(digits);
  const root = Buffer.from(root64!, "base64");
  if (!Number.isSafeInteger(size) || root.length !== HASH_BYTES) return undefined;
  const lines = note.slice(end + 2).split("\n");
  if (lines.pop() !== "" || lines.length === 0 || lines.length > MOST_SIGNATURES) return undefined;
  const signatures = [];
  for (const line of lines) {
    const [, name, value] = /^— ([^\s+]+) ([A-Za-z0-9+/]+={0,2})$/.exec(line) ?? [];
    if (name === undefined) return undefined;
    const bytes = Buffer.from(value!, "base64");
    if (bytes.length < 5) return undefined;
    signatures.push({ name, id: bytes.subarray(0, 4), signature: bytes.subarray(4) });
  }
  return { origin, size, root, text, signatures };
}

/** Whether a note has a signature of that key, and it is right. One that is wrong spoils the note. */
export function isSignedBy({ text, signatures }: Note, key: VerifierKey): boolean {
  const own = signatures.filter(({ name, id }) => name === key.name && Buffer.compare(id, key.id) === 0);
  return own.length > 0 && own.every(({ signature }) => isSignature(key.publicKey, Buffer.from(text), signature));
}

function isSignature(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
  if (signature.length !== SIGNATURE_BYTES) return false;
  const key = createPublicKey({ key: Buffer.concat([PUBLIC_DER, publicKey]), format: "der", type: "spki" });
  return verify(null, message, key, signature);
}

/** The 32 bytes of the public half of a key of either half. */
export function publicBytes(key: KeyObject): Buffer {
  const half = key.type === "private" ? createPublicKey(key) : key;
  return half.export({ format: "der", type: "spki" }).subarray(-KEY_BYTES);
}

/** A private key of Ed25519: as PEM (PKCS 8), or its seed of 32 bytes in base64 or hexadecimal. Undefined for anything else. */
export function readPrivateKey(given: string): KeyObject | undefined {
  const text = given.trim();
  try {
    const seed = readKeyBytes(text);
    const key = seed ? keyOfSeed(seed) : createPrivateKey(text);
    return key.asymmetricKeyType === "ed25519" ? key : undefined;
  } catch {
    return undefined;
  }
}

/** 32 bytes that are written in hexadecimal or in base64; undefined for any other text, as a path that would pass for base64. */
export function readKeyBytes(text: string): Buffer | undefined {
  if (/^[0-9a-f]{64}$/i.test(text)) return Buffer.from(text, "hex");
  return /^[A-Za-z0-9+/]{43}=$/.test(text) ? Buffer.from(text, "base64") : undefined;
}

function keyOfSeed(seed: Buffer): KeyObject {
  return createPrivateKey({ key: Buffer.concat([PRIVATE_DER, seed]), format: "der", type: "pkcs8" });
}

/** What a key signs to make another its successor: a text of three lines, with the name of the logs and the new public key. */
export const successionText = (origin: string, publicKey: Uint8Array): string =>
  `signalbox audit key\n${origin}\n${Buffer.from(publicKey).toString("base64")}\n`;

/** The signature of a key over its successor. */
export const signSuccessor = (origin: string, publicKey: Uint8Array, key: KeyObject): Buffer =>
  sign(null, Buffer.from(successionText(origin, publicKey)), key);

/** A key, and what the key before it signed; nothing for the first. */
export interface ChainedKey {
  publicKey: Uint8Array;
  signedByPrevious: Uint8Array | undefined;
}

/**
 * The keys that may be believed by whoever believes one of them: itself, and those after it for as long as each was signed by the one
 * before it. None where the key is not among them.
 */
export function keysAfter(trusted: Uint8Array, keys: readonly ChainedKey[], origin: string): Uint8Array[] {
  const at = keys.findIndex(({ publicKey }) => Buffer.compare(publicKey, trusted) === 0);
  if (at < 0) return [];
  const believed = [keys[at]!.publicKey];
  for (const { publicKey, signedByPrevious } of keys.slice(at + 1)) {
    const message = Buffer.from(successionText(origin, publicKey));
    if (!signedByPrevious || !isSignature(believed.at(-1)!, message, signedByPrevious)) break;
    believed.push(publicKey);
  }
  return believed;
}
