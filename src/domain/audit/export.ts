/**
 * An exported log: a line for each entry, the very bytes that were hashed, in the order of the log; after some thousands of them lines
 * that tell their order in short, which help to find what was done to the file; then one with the checkpoint. docs/audit.md has it in full. Pure.
 */
import { HASH_BYTES, subtreeCount } from "./merkle.ts";

/** Entries of one chain that stand together in the log. */
export interface Span {
  chainId: string;
  /** The number of the first of them in its chain. */
  firstNumber: number;
  count: number;
  /** The hash of the last of them. */
  lastHash: Uint8Array;
}

/** Where an export begins that does not begin with the log: its first line. */
export interface Start {
  /** Place in the log of the first entry that is here. */
  start: number;
  /** The roots of the full subtrees of the log before it, from the left. */
  before: Uint8Array[];
}

/** What an export comes to, in its last line. */
export interface Seal {
  /** The signed note. */
  checkpoint: string;
  /** Place in the log of the entry after the last that is here. */
  end: number;
  /** The proof that the log of the checkpoint begins with that of size `end`; none where it has that size. */
  consistency: Uint8Array[];
  /** All keys, the oldest first: the verifier key, and what the key before it signed. */
  keys: { verifierKey: string; signedByPrevious: Uint8Array | undefined }[];
  /** The name that keys are signed under. */
  keyOrigin: string;
}

/** Spans that one line tells at most. */
export const MOST_SPANS = 1_000;
export const START_BEGIN = '{"start":';
export const ORDER_BEGIN = '{"order":';
export const SEAL_BEGIN = '{"checkpoint":';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString("base64");

/** The line, without a line feed. */
export const startLine = ({ start, before }: Start): string => JSON.stringify({ start, before: before.map(base64) });

/** The line, without a line feed. */
export const orderLine = (spans: readonly Span[]): string =>
  JSON.stringify({ order: spans.map((s) => [s.chainId, s.firstNumber, s.count, hex(s.lastHash)]) });

/** The line, without a line feed. */
export const sealLine = ({ checkpoint, end, consistency, keys, keyOrigin }: Seal): string =>
  JSON.stringify({
    checkpoint,
    end,
    consistency: consistency.map(base64),
    keyOrigin,
    keys: keys.map(({ verifierKey, signedByPrevious }) => ({
      key: verifierKey,
      ...(signedByPrevious && { signedByPrevious: base64(signedByPrevious) }),
    })),
  });

/** Undefined for what is no such line. */
export function readOrderLine(line: string): Span[] | undefined {
  const found = parsed(line)?.order;
  if (!Array.isArray(found)) return undefined;
  const spans = found.map((item: unknown) => {
    const [chainId, firstNumber, count, last]: unknown[] = Array.isArray(item) ? item : [];
    if (typeof chainId !== "string" || typeof last !== "string" || !isCount(firstNumber) || !isCount(count))
      return undefined;
    return { chainId, firstNumber, count, lastHash: Buffer.from(last, "hex") };
  });
  return spans.every((span) => span !== undefined) ? spans : undefined;
}

/** Undefined for what is no such line. */
export function readStartLine(line: string): Start | undefined {
  const found = parsed(line);
  const before = hashesIn(found?.before);
  if (!isCount(found?.start) || before?.length !== subtreeCount(found.start)) return undefined;
  return { start: found.start, before };
}

/** Undefined for what is no such line. */
export function readSealLine(line: string): Seal | undefined {
  const found = parsed(line);
  if (!found) return undefined;
  const { checkpoint, end, keyOrigin } = found;
  const consistency = hashesIn(found.consistency);
  if (typeof checkpoint !== "string" || !isCount(end) || typeof keyOrigin !== "string") return undefined;
  if (!consistency || !Array.isArray(found.keys)) return undefined;
  const keys = found.keys.map((item: unknown) => {
    const { key, signedByPrevious } = (item ?? {}) as Record<string, unknown>;
    return {
      verifierKey: String(key),
      signedByPrevious: typeof signedByPrevious === "string" ? Buffer.from(signedByPrevious, "base64") : undefined,
    };
  });
  return { checkpoint, end, consistency, keys, keyOrigin };
}

function parsed(line: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

function hashesIn(value: unknown): Buffer[] | undefined {
  if (!Array.isArray(value)) return undefined;
  const hashes = value.map((item) => Buffer.from(typeof item === "string" ? item : "", "base64"));
  return hashes.every((found) => found.length === HASH_BYTES) ? hashes : undefined;
}
