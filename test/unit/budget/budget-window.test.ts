/** Windows of budgets: hours, days and months follow each other without gap or overlap, wherever clocks are set. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { WindowClock, WindowEnds, windowAt } from "../../../src/domain/budget/budget-window.ts";

const HOUR_MS = 3_600_000;
const at = (time: string) => Date.parse(time);
const shown = ({ startMs, endMs }: { startMs: number; endMs: number }) =>
  [startMs, endMs].map((ms) => new Date(ms).toISOString().slice(0, 16));

// Whole hours, half hours and quarters; a clock that is set by half an hour, one that was set at midnight, one at a minute past
// midnight, a day that was left out, and none that is ever set.
const ZONES = [
  "UTC",
  "Europe/Berlin",
  "America/New_York",
  "America/Sao_Paulo",
  "America/St_Johns",
  "Australia/Lord_Howe",
  "Asia/Kathmandu",
  "Pacific/Apia",
  "Africa/Casablanca",
];
const anyTime = fc.integer({ min: at("1990-01-01"), max: at("2060-01-01") });
const anyZone = fc.constantFrom(...ZONES);
const anyPeriod = fc.constantFrom("HOURLY" as const, "DAILY" as const, "MONTHLY" as const);

describe("the windows of budgets", () => {
  test("hold the moment that they are asked for, and are the same for all that they hold", () => {
    fc.assert(
      fc.property(
        anyPeriod,
        anyZone,
        anyTime,
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        (period, zone, ms, share) => {
          const window = windowAt(period, zone, ms);
          expect(window.startMs).toBeLessThanOrEqual(ms);
          expect(window.endMs).toBeGreaterThan(ms);
          const within = window.startMs + Math.floor(share * (window.endMs - window.startMs));
          expect(windowAt(period, zone, within)).toEqual(window);
        },
      ),
      { numRuns: 300 },
    );
  });

  test("follow each other without gap or overlap, also where the clock is set", () => {
    fc.assert(
      fc.property(anyPeriod, anyZone, anyTime, (period, zone, ms) => {
        const window = windowAt(period, zone, ms);
        expect(windowAt(period, zone, window.endMs).startMs).toBe(window.endMs);
        expect(windowAt(period, zone, window.startMs - 1).endMs).toBe(window.startMs);
      }),
      { numRuns: 300 },
    );
  });

  test.each([
    ["DAILY", "UTC", "2026-11-27T13:37:00Z", ["2026-11-27T00:00", "2026-11-28T00:00"]],
    // 23 hours, and 25.
    ["DAILY", "Europe/Berlin", "2026-03-29T12:00:00Z", ["2026-03-28T23:00", "2026-03-29T22:00"]],
    ["DAILY", "Europe/Berlin", "2026-10-25T12:00:00Z", ["2026-10-24T22:00", "2026-10-25T23:00"]],
    ["MONTHLY", "Europe/Berlin", "2026-10-25T12:00:00Z", ["2026-09-30T22:00", "2026-10-31T23:00"]],
    ["MONTHLY", "UTC", "2028-02-29T23:59:59.999Z", ["2028-02-01T00:00", "2028-03-01T00:00"]],
    // 02:30 comes twice: two hours.
    ["HOURLY", "Europe/Berlin", "2026-10-25T00:30:00Z", ["2026-10-25T00:00", "2026-10-25T01:00"]],
    ["HOURLY", "Europe/Berlin", "2026-10-25T01:30:00Z", ["2026-10-25T01:00", "2026-10-25T02:00"]],
    ["HOURLY", "Asia/Kathmandu", "2026-01-01T00:20:00Z", ["2026-01-01T00:15", "2026-01-01T01:15"]],
    // From 02:00 back to 01:30: the half hour that comes again is one of its own.
    ["HOURLY", "Australia/Lord_Howe", "2026-04-04T15:10:00Z", ["2026-04-04T15:00", "2026-04-04T15:30"]],
    // At 00:01 back to 23:01 of the day before, which had ended.
    ["DAILY", "America/St_Johns", "2010-11-07T03:00:00Z", ["2010-11-07T02:30", "2010-11-08T03:30"]],
    // The 30th of December 2011 was left out.
    ["DAILY", "Pacific/Apia", "2011-12-30T12:00:00Z", ["2011-12-30T10:00", "2011-12-31T10:00"]],
  ] as const)("%s in %s at %s", (period, zone, time, expected) => {
    expect(shown(windowAt(period, zone, at(time)))).toEqual(expected);
  });

  test("end when they end, also where that is known already", () => {
    const ends = new WindowEnds();
    fc.assert(
      fc.property(anyPeriod, anyZone, anyTime, (period, zone, ms) => {
        const { startMs, endMs } = windowAt(period, zone, ms);
        expect([ends.of(period, zone, startMs), ends.of(period, zone, startMs)]).toEqual([endMs, endMs]);
      }),
    );
  });

  test("are not left for the one before when the clock is set back a little, and are when it was wrong by hours", () => {
    const clock = new WindowClock();
    const noon = at("2026-11-27T12:00:00Z");
    const hour = clock.at("HOURLY", "UTC", noon + 1_000);
    expect(clock.at("HOURLY", "UTC", noon - 60_000)).toEqual(hour);
    expect(clock.at("HOURLY", "UTC", noon + HOUR_MS)).toEqual(windowAt("HOURLY", "UTC", noon + HOUR_MS));
    expect(clock.at("HOURLY", "UTC", noon + 59_000)).toEqual(windowAt("HOURLY", "UTC", noon + HOUR_MS));
    expect(clock.at("HOURLY", "UTC", noon - 2 * HOUR_MS)).toEqual(windowAt("HOURLY", "UTC", noon - 2 * HOUR_MS));
  });
});
