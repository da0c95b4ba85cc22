/** Durations as people write them: 90s, 15m, 1h, 7d. */
import { InvalidArgumentError } from "commander";

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** Milliseconds. For options of a command. */
export function parseDuration(text: string): number {
  const [, number, unit] = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(text) ?? [];
  const ms = Math.round(Number(number) * UNIT_MS[unit ?? ""]!);
  if (!Number.isSafeInteger(ms)) throw new InvalidArgumentError("It is a number with its unit: 90s, 15m, 1h or 7d.");
  return ms;
}
