/** Pauses before a worker is started again. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { LONGEST_PAUSE_MS, restartPauseMs } from "../../src/app/workers/restart-pause.ts";

test("a pause is never longer than the longest, never none, and does not fall from death to death", () => {
  fc.assert(
    fc.property(fc.nat(10_000), fc.double({ min: 0, max: 1, noNaN: true }), (deaths, random) => {
      const pause = restartPauseMs(deaths, random);
      expect(pause).toBeGreaterThanOrEqual(100);
      expect(pause).toBeLessThanOrEqual(LONGEST_PAUSE_MS);
      expect(restartPauseMs(deaths + 1, random)).toBeGreaterThanOrEqual(pause);
    }),
  );
  expect([0, 1, 2, 20].map((deaths) => restartPauseMs(deaths, 1))).toEqual([200, 400, 800, 30_000]);
  expect(restartPauseMs(20, 0)).toBe(15_000);
});
