/** Durations as people write them: 500ms, 90s, 1.5h, 7d. */

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** A decimal number and its unit, one of ms, s, m, h and d, in whole milliseconds, rounded; undefined for any other text. */
export function durationMs(text: string): number | undefined {
  const [, number, unit] = /^(\d{1,12}(?:\.\d{1,6})?)(ms|s|m|h|d)$/.exec(text.trim()) ?? [];
  if (unit === undefined) return undefined;
  const ms = Math.round(Number(number) * UNIT_MS[unit]!);
  return Number.isSafeInteger(ms) ? ms : undefined;
}
