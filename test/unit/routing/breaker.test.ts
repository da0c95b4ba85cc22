/** When a circuit opens and closes, whatever happens in whatever order. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  admits,
  type Breaker,
  type BreakerRules,
  callFailed,
  callSucceeded,
  circuitState,
  isForgotten,
  MOST_PROBES,
  newBreaker,
  openAsWell,
  PROBE_PATIENCE_MS,
  SUCCESSES_TO_CLOSE,
  takeProbe,
} from "../../../src/domain/routing/breaker.ts";

const rules: BreakerRules = { failures: 3, openMs: 1_000, openMaxMs: 8_000 };

function fail(breaker: Breaker, times: number, nowMs: number, random = 0): void {
  for (let i = 0; i < times; i++) callFailed(breaker, rules, nowMs, random);
}

/** Opens it, and lets it fail its probes so many times. Returns how long it was open each time. */
function openTimes(reopenings: number, random: number): number[] {
  const breaker = newBreaker();
  const times: number[] = [];
  let nowMs = 0;
  fail(breaker, rules.failures, nowMs, random);
  for (let i = 0; i <= reopenings; i++) {
    times.push(breaker.openUntilMs! - nowMs);
    nowMs = breaker.openUntilMs!;
    takeProbe(breaker, nowMs);
    callFailed(breaker, rules, nowMs, random);
  }
  return times;
}

describe("a breaker", () => {
  test("opens after so many failures in a row, and a success between them begins anew", () => {
    const breaker = newBreaker();
    fail(breaker, 2, 0);
    callSucceeded(breaker, 0);
    fail(breaker, 2, 0);
    expect(circuitState(breaker, 0)).toBe("CLOSED");
    fail(breaker, 1, 0);
    expect(circuitState(breaker, 0)).toBe("OPEN");
    expect(admits(breaker, 999)).toBe(false);
    expect(circuitState(breaker, 1_000)).toBe("HALF_OPEN");
  });

  test("opens when half of many calls fail, though never many in a row", () => {
    const breaker = newBreaker();
    let calls = 0;
    while (circuitState(breaker, calls) === "CLOSED" && calls < 100) {
      callFailed(breaker, rules, calls, 0);
      callSucceeded(breaker, calls);
      calls += 1;
    }
    expect(calls).toBeGreaterThanOrEqual(10);
    expect(calls).toBeLessThan(15);
  });

  test("closes after enough probes have succeeded, and opens for twice as long when one fails", () => {
    expect(openTimes(5, 0)).toEqual([1_000, 2_000, 4_000, 8_000, 8_000, 8_000]);
    const breaker = newBreaker();
    fail(breaker, 3, 0);
    for (let i = 0; i < SUCCESSES_TO_CLOSE; i++) {
      expect(circuitState(breaker, 1_000)).toBe("HALF_OPEN");
      takeProbe(breaker, 1_000);
      callSucceeded(breaker, 1_000);
    }
    expect(circuitState(breaker, 1_000)).toBe("CLOSED");
  });

  test("remembers for a while that it was open, so that who comes and goes is left alone for longer", () => {
    const breaker = newBreaker();
    const closeAt = (nowMs: number) => {
      for (let i = 0; i < SUCCESSES_TO_CLOSE; i++) callSucceeded(breaker, nowMs);
    };
    fail(breaker, 3, 0);
    closeAt(1_000);
    fail(breaker, 3, 1_000);
    expect(breaker.openUntilMs).toBe(3_000);
    closeAt(3_000);
    expect(isForgotten(breaker, rules, 3_000)).toBe(false);
    fail(breaker, 3, 3_000 + 2 * rules.openMaxMs);
    expect(breaker.openUntilMs).toBe(3_000 + 2 * rules.openMaxMs + 1_000);
  });

  test("gives a probe that is lost to another", () => {
    const breaker = newBreaker();
    fail(breaker, 3, 0);
    for (let i = 0; i < MOST_PROBES; i++) takeProbe(breaker, 1_000);
    expect(admits(breaker, 1_000)).toBe(false);
    expect(admits(breaker, 1_000 + PROBE_PATIENCE_MS)).toBe(true);
  });

  test("is open as long as the one of another replica, and never for shorter than it was", () => {
    const breaker = newBreaker();
    openAsWell(breaker, 500, 3, 0);
    expect(circuitState(breaker, 499)).toBe("OPEN");
    openAsWell(breaker, 400, 1, 0);
    expect(breaker).toMatchObject({ openUntilMs: 500, openings: 3 });
    expect(circuitState(breaker, 500)).toBe("HALF_OPEN");
  });

  const anyStep = fc.record({
    kind: fc.constantFrom("fail", "succeed", "call", "hear"),
    afterMs: fc.nat({ max: 3_000 }),
    random: fc.double({ min: 0, max: 0.999, noNaN: true }),
  });

  test("never closes without a success, lets few probes through at once, and is open within bounds", () => {
    fc.assert(
      fc.property(fc.array(anyStep, { maxLength: 200 }), (steps) => {
        const breaker = newBreaker();
        let nowMs = 0;
        let under = 0;
        let lastProbeMs = Number.NEGATIVE_INFINITY;
        for (const { kind, afterMs, random } of steps) {
          nowMs += afterMs;
          const before = circuitState(breaker, nowMs);
          const { openUntilMs } = breaker;
          if (kind === "fail") callFailed(breaker, rules, nowMs, random);
          if (kind === "succeed") callSucceeded(breaker, nowMs);
          if (kind === "hear") openAsWell(breaker, nowMs + random * rules.openMaxMs, 1, nowMs);
          if (kind === "call" && admits(breaker, nowMs)) {
            takeProbe(breaker, nowMs);
            if (before === "HALF_OPEN") {
              if (nowMs - lastProbeMs >= PROBE_PATIENCE_MS) under = 0;
              under += 1;
              lastProbeMs = nowMs;
              expect(under).toBeLessThanOrEqual(MOST_PROBES);
            }
          }
          const after = circuitState(breaker, nowMs);
          // Only a success closes, and only what is half-open.
          if (before !== "CLOSED" && after === "CLOSED") expect([kind, before]).toEqual(["succeed", "HALF_OPEN"]);
          if (before === "OPEN") expect(admits(breaker, nowMs)).toBe(false);
          if (kind === "fail" && breaker.openUntilMs !== openUntilMs) {
            expect(breaker.openUntilMs! - nowMs).toBeGreaterThanOrEqual(rules.openMs * 0.8);
            expect(breaker.openUntilMs! - nowMs).toBeLessThanOrEqual(rules.openMaxMs);
          }
          if (kind === "succeed" && before === "HALF_OPEN") under = Math.max(0, under - 1);
          if (after !== "HALF_OPEN") under = 0;
        }
      }),
    );
  });

  test("that is forgotten would have behaved as a new one", () => {
    fc.assert(
      fc.property(fc.array(anyStep, { maxLength: 60 }), (steps) => {
        const breaker = newBreaker();
        let nowMs = 0;
        for (const { kind, afterMs, random } of steps) {
          nowMs += afterMs;
          if (kind === "fail") callFailed(breaker, rules, nowMs, random);
          else callSucceeded(breaker, nowMs);
        }
        nowMs += 1_000_000;
        if (!isForgotten(breaker, rules, nowMs)) return;
        const fresh = newBreaker();
        fail(breaker, rules.failures, nowMs);
        fail(fresh, rules.failures, nowMs);
        expect(breaker.openUntilMs).toBe(fresh.openUntilMs);
      }),
    );
  });
});
