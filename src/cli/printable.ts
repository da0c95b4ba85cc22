/** Makes text of others fit for a terminal. */

/** The text without control characters other than line breaks and tabs: what an agent writes must not steer the terminal. */
export function printable(text: string): string {
  return text.replace(/\r\n/g, "\n").replace(/[^\P{Cc}\n\t]/gu, "");
}

/** What stands before the first line break: what follows, as the raw text of an agent, is for programs. */
export const firstLine = (text: string): string => text.split("\n", 1)[0]!;

/** Rows under headings, as kubectl prints them: columns as wide as their widest cell, three spaces between them. */
export function table(headings: readonly string[], rows: readonly (readonly string[])[]): string {
  const cells = [headings, ...rows.map((row) => row.map((cell) => printable(cell).replace(/\s+/g, " ")))];
  const widths = headings.map((_, column) => Math.max(...cells.map((row) => row[column]?.length ?? 0)));
  const lines = cells.map((row) => row.map((cell, column) => cell.padEnd(widths[column]!)).join("   "));
  return lines.map((line) => `${line.trimEnd()}\n`).join("");
}

/** Names and values, the values in one column. Rows without a value are left out. */
export function facts(rows: readonly (readonly [name: string, value: string | undefined])[]): string {
  const shown = rows.filter(([, value]) => value);
  const width = Math.max(...shown.map(([name]) => name.length));
  return shown.map(([name, value]) => `${name.padEnd(width)}   ${printable(value!)}\n`).join("");
}

/** How long ago a moment was, as `5m`. */
export function age(since: Date, now: Date): string {
  const seconds = Math.max(0, Math.floor((now.getTime() - since.getTime()) / 1000));
  if (seconds < 120) return `${seconds}s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)}m`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3600)}h`;
  return `${Math.floor(seconds / 86_400)}d`;
}

/** A moment to the nearest minute, as `2026-11-28 00:00 UTC`. */
export function utcMinute(time: Date): string {
  const text = new Date(Math.round(time.getTime() / 60_000) * 60_000).toISOString();
  return `${text.slice(0, 16).replace("T", " ")} UTC`;
}

/** One JSON document, for a person to read too. */
export const json = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`;

/** One item of a stream: JSON on a line of its own. */
export const jsonLine = (value: unknown): string => `${JSON.stringify(value)}\n`;

/** A latency in whole milliseconds; one that is known is never 0. */
export const latencyText = (latencyMs: number): string =>
  latencyMs <= 0 ? "-" : latencyMs < 0.5 ? "<1" : String(Math.round(latencyMs));
