/** A canary's share: as large as it is said to be, always the same contexts, and growing only. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { isInCanary } from "../../../src/domain/routing/canary.ts";

const percent = fc.integer({ min: 0, max: 100 });
const share = (percentage: number, capability: string, count: number) => {
  let taken = 0;
  for (let i = 0; i < count; i++) if (isInCanary(`context-${i}`, capability, percentage)) taken++;
  return taken;
};

describe("a canary's share", () => {
  test.each([1, 10, 30, 50, 99])("of %i percent is about so many contexts, of each capability", (percentage) => {
    const count = 20_000;
    const p = percentage / 100;
    // Six standard deviations of the binomial distribution, and the contexts are always the same.
    const bound = 6 * Math.sqrt(count * p * (1 - p));
    for (const capability of ["", "translate", "translate-2"])
      expect(Math.abs(share(percentage, capability, count) - count * p)).toBeLessThan(bound);
  });

  test("of 0 is nobody, and of 100 everybody", () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), (context, capability) => {
        expect(isInCanary(context, capability, 0)).toBe(false);
        expect(isInCanary(context, capability, 100)).toBe(true);
      }),
    );
  });

  test("keeps who is in it when it grows", () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), percent, percent, (context, capability, a, b) => {
        const [less, more] = [Math.min(a, b), Math.max(a, b)];
        if (isInCanary(context, capability, less)) expect(isInCanary(context, capability, more)).toBe(true);
      }),
      { numRuns: 1_000 },
    );
  });

  test("is another one for another capability", () => {
    let both = 0;
    for (let i = 0; i < 10_000; i++) if (isInCanary(`c${i}`, "a", 50) && isInCanary(`c${i}`, "b", 50)) both++;
    // Independent halves have a quarter in common: six standard deviations.
    expect(Math.abs(both - 2_500)).toBeLessThan(260);
  });
});
