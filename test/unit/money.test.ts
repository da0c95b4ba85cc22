import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { costMicros, decimalOf, MAX_MICROS } from "../../src/domain/money.ts";

describe("money", () => {
  test("every amount comes back as it was", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: MAX_MICROS }), (micros) => {
        expect(costMicros(decimalOf(micros))).toBe(micros);
      }),
    );
  });

  test("a decimal number is read exactly, as BigInt reads its digits", () => {
    const digits = (most: number) => fc.stringMatching(new RegExp(`^[0-9]{1,${most}}$`));
    fc.assert(
      fc.property(digits(12), digits(6), (whole, fraction) => {
        const exact = BigInt(whole) * 1_000_000n + BigInt(fraction.padEnd(6, "0"));
        const expected = exact <= BigInt(MAX_MICROS) ? Number(exact) : undefined;
        expect(costMicros(`${whole}.${fraction}`)).toBe(expected);
      }),
    );
  });

  test("the shortest text is written", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: MAX_MICROS }), (micros) => {
        expect(decimalOf(micros)).toMatch(/^(0|[1-9]\d*)(\.\d{0,5}[1-9])?$/);
      }),
    );
    expect([0, 1, 250_000, 1_000_000, MAX_MICROS].map(decimalOf)).toEqual([
      "0",
      "0.000001",
      "0.25",
      "1",
      "9007199254.740991",
    ]);
  });

  test.each([
    "-1",
    "+1",
    "1e3",
    ".5",
    "1.",
    "0x10",
    " 1",
    "1 ",
    "1,5",
    "NaN",
    "1.0000001",
    "1234567890123",
    "9007199254.740992",
  ])("%s is no amount", (text) => {
    expect(costMicros(text)).toBeUndefined();
  });

  test("nothing said is nothing paid", () => {
    expect(costMicros("")).toBe(0);
  });
});
