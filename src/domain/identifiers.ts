/** Identifiers: how they are made and what they may look like. */

/** 64 random bits are not enough to guess a task by; UUIDs carry 74 and sort by time, which keeps index pages warm. */
export function uuidV7(nowMs: number, random: Uint8Array): string {
  const bytes = new Uint8Array(16);
  bytes.set(random.subarray(0, 16));
  let time = nowMs;
  for (let i = 5; i >= 0; i--) {
    bytes[i] = time % 256;
    time = Math.floor(time / 256);
  }
  bytes[6] = 0x70 | (bytes[6]! & 0x0f);
  bytes[8] = 0x80 | (bytes[8]! & 0x3f);
  let hex = "";
  for (let i = 0; i < 16; i++) {
    hex += HEX[bytes[i]!];
    if (i === 3 || i === 5 || i === 7 || i === 9) hex += "-";
  }
  return hex;
}

const HEX = Array.from({ length: 256 }, (_, i) => i.toString(16).padStart(2, "0"));

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
