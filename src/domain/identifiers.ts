/** Identifiers: how they are made and what they may look like. */

/**
 * 64 random bits are not enough to guess a task by; UUIDs carry 74 and sort by time, which keeps index pages warm. Takes 16
 * bytes of `random` from `at` on.
 */
export function uuidV7(nowMs: number, random: Uint8Array, at = 0): string {
  const early = Math.floor(nowMs / 2 ** 32);
  const late = nowMs >>> 0;
  write(0, early >>> 8);
  write(2, early);
  write(4, late >>> 24);
  write(6, late >>> 16);
  write(9, late >>> 8);
  write(11, late);
  write(14, 0x70 | (random[at + 6]! & 0x0f));
  write(16, random[at + 7]!);
  write(19, 0x80 | (random[at + 8]! & 0x3f));
  write(21, random[at + 9]!);
  for (let i = 0; i < 6; i++) write(24 + 2 * i, random[at + 10 + i]!);
  // Put together in one go: a string that grows piece by piece is kept as its pieces, for as long as the task lives.
  return UUID.toString("latin1");
}

/** The least id that `uuidV7` makes in a millisecond, from 0 to 2^48 - 1: ids are in the order of their times. */
export const firstUuidV7 = (ms: number): string => uuidV7(ms, NO_BYTES);

const NO_BYTES = new Uint8Array(16);

/** The two digits of a byte. */
function write(place: number, byte: number): void {
  UUID[place] = HEX_DIGIT[(byte >> 4) & 15]!;
  UUID[place + 1] = HEX_DIGIT[byte & 15]!;
}

const UUID = Buffer.from("00000000-0000-7000-8000-000000000000");
const HEX_DIGIT = Buffer.from("0123456789abcdef");

const DNS_LABEL = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;

/** Whether a text may be the id of an agent, a capability or a workspace. */
export const isDnsLabel = (text: string): boolean => DNS_LABEL.test(text);

/** First segments of our routes: no agent may be called so, or its address would hide one of them. */
export const RESERVED_IDS: ReadonlySet<string> = new Set([
  "agents",
  "capabilities",
  "console",
  "extendedagentcard",
  "health",
  "healthz",
  "message",
  "metrics",
  "readyz",
  "rpc",
  "tasks",
  "v1",
  "ws",
]);

/** A DNS label made from a name, or undefined when nothing of it can stay: `Travel Agent (EU)` gives `travel-agent-eu`. */
export function slug(name: string): string | undefined {
  const label = name
    .normalize("NFKD")
    .replace(/\p{M}/gu, "")
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .slice(0, 63)
    .replace(/^-+|-+$/g, "");
  return label === "" ? undefined : label;
}
