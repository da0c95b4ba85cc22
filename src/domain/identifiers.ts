/** Identifiers: how they are made and what they may look like. */

/** 64 random bits are not enough to guess a task by; UUIDs carry 74 and sort by time, which keeps index pages warm. */
export function uuidV7(nowMs: number, random: Uint8Array): string {
  BYTES.set(random.subarray(0, 16));
  let time = nowMs;
  for (let i = 5; i >= 0; i--) {
    BYTES[i] = time % 256;
    time = Math.floor(time / 256);
  }
  BYTES[6] = 0x70 | (BYTES[6]! & 0x0f);
  BYTES[8] = 0x80 | (BYTES[8]! & 0x3f);
  // Put together in one go: a string that grows piece by piece is kept as its pieces, for as long as the task lives.
  let at = 0;
  for (let i = 0; i < 16; i++) {
    CODES[at++] = HEX_DIGIT[BYTES[i]! >> 4]!;
    CODES[at++] = HEX_DIGIT[BYTES[i]! & 15]!;
    if (i === 3 || i === 5 || i === 7 || i === 9) CODES[at++] = DASH;
  }
  return String.fromCharCode(...CODES);
}

const BYTES = new Uint8Array(16);
const CODES = new Uint8Array(36);
const DASH = 45;
const HEX_DIGIT = Uint8Array.from("0123456789abcdef", (digit) => digit.charCodeAt(0));

const DNS_LABEL = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;

/** Whether a text may be the id of an agent, a capability or a workspace. */
export const isDnsLabel = (text: string): boolean => DNS_LABEL.test(text);

/** First segments of our routes: no agent may be called so, or its address would hide one of them. */
export const RESERVED_IDS: ReadonlySet<string> = new Set([
  "agents",
  "capabilities",
  "console",
  "extendedagentcard",
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
