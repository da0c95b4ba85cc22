/**
 * Amounts of money as decimal texts and as whole numbers of millionths of the currency. Sums and comparisons are made with the
 * latter: money is counted, and a tenth has no exact float.
 */

/** Millionths in one unit of the currency. */
const MICRO_DIGITS = 6;
/** At most 18 digits, 6 of them after the point, no sign and no exponent. */
const DECIMAL = /^(\d{1,12})(?:\.(\d{1,6}))?$/;

/** The largest amount, 9007199254.740991: beyond it, whole numbers are no longer exact. */
export const MAX_MICROS = Number.MAX_SAFE_INTEGER;

/**
 * The millionths that a decimal number such as `0.25` is: whole, from 0 to MAX_MICROS. The empty text is 0. Undefined for what is
 * no such number, has more than 18 digits or more than 6 after the point, or is too large.
 */
export function costMicros(text: string): number | undefined {
  if (text === "") return 0;
  const [, whole, fraction = ""] = DECIMAL.exec(text) ?? [];
  if (whole === undefined) return undefined;
  const micros = Number(whole + fraction.padEnd(MICRO_DIGITS, "0"));
  return micros <= MAX_MICROS ? micros : undefined;
}

/**
 * The shortest decimal number that is so many millionths: `0.25` for 250000, `0` for none. `micros` is whole and not negative; a
 * number is at most MAX_MICROS, a sum that may be larger is a bigint.
 */
export function decimalOf(micros: number | bigint): string {
  const digits = String(micros).padStart(MICRO_DIGITS + 1, "0");
  const fraction = digits.slice(-MICRO_DIGITS).replace(/0+$/, "");
  const whole = digits.slice(0, -MICRO_DIGITS);
  return fraction === "" ? whole : `${whole}.${fraction}`;
}
