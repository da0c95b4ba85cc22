/** What a replica remembers of an agent, and the chance that replays share. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  ERROR_DECAY_MS,
  errorRateAt,
  LATENCY_DECAY_MS,
  latencyAt,
  newSignals,
  observe,
} from "../../../src/domain/routing/agent-signals.ts";
import { seededRandom } from "../../../src/domain/routing/seeded-random.ts";
import { anySeed } from "./candidates.ts";

const anyObservations = fc.array(
  fc.record({ afterMs: fc.nat({ max: 100_000 }), latencyMs: fc.nat({ max: 1e6 }), failed: fc.boolean() }),
  { maxLength: 50 },
);

describe("signals", () => {
  test("know nothing before the first task has ended", () => {
    expect(latencyAt(newSignals(), 1_000)).toBeUndefined();
    expect(errorRateAt(newSignals(), 1_000)).toBe(0);
  });

  test("rise to a peak at once, and fall to 1/e of the difference in a decay time", () => {
    const signals = newSignals();
    observe(signals, { latencyMs: 100, failed: false, nowMs: 0 });
    observe(signals, { latencyMs: 900, failed: false, nowMs: 1 });
    expect(latencyAt(signals, 1)).toBe(900);
    observe(signals, { latencyMs: 100, failed: false, nowMs: 1 + LATENCY_DECAY_MS });
    expect(latencyAt(signals, 1 + LATENCY_DECAY_MS)).toBeCloseTo(100 + 800 / Math.E, 9);
  });

  test("fade while nothing is seen, so that an agent that was slow is tried again", () => {
    const signals = newSignals();
    observe(signals, { latencyMs: 1_000, failed: true, nowMs: 0 });
    observe(signals, { latencyMs: 1_000, failed: false, nowMs: 0 });
    expect(latencyAt(signals, LATENCY_DECAY_MS)).toBeCloseTo(1_000 / Math.E, 9);
    const fresh = errorRateAt(signals, 0);
    expect(fresh).toBeCloseTo(1 / 3, 9);
    expect(errorRateAt(signals, ERROR_DECAY_MS)).toBeLessThan(fresh);
    expect(errorRateAt(signals, ERROR_DECAY_MS * 20)).toBeLessThan(1e-6);
  });

  test("remember an agent whose tasks take minutes for longer", () => {
    const signals = newSignals();
    observe(signals, { latencyMs: 60_000, failed: false, nowMs: 0 });
    expect(latencyAt(signals, 60_000)).toBeGreaterThan(30_000);
  });

  test("take no quick failure for speed", () => {
    const signals = newSignals();
    observe(signals, { latencyMs: 1, failed: true, nowMs: 0 });
    expect(latencyAt(signals, 0)).toBeUndefined();
    observe(signals, { latencyMs: 500, failed: false, nowMs: 0 });
    observe(signals, { latencyMs: 1, failed: true, nowMs: 0 });
    expect(latencyAt(signals, 0)).toBe(500);
    observe(signals, { latencyMs: 3_000, failed: true, nowMs: 0 });
    expect(latencyAt(signals, 0)).toBe(3_000);
    expect(signals).toMatchObject({ succeeded: 1, failed: 3 });
  });

  test("stay within what was seen, whatever comes in whatever order", () => {
    fc.assert(
      fc.property(anyObservations, (observations) => {
        const signals = newSignals();
        let nowMs = 0;
        for (const { afterMs, latencyMs, failed } of observations) {
          nowMs += afterMs;
          observe(signals, { latencyMs, failed, nowMs });
        }
        const slowest = Math.max(0, ...observations.map(({ latencyMs }) => latencyMs));
        const latency = latencyAt(signals, nowMs) ?? 0;
        expect(latency).toBeGreaterThanOrEqual(0);
        expect(latency).toBeLessThanOrEqual(slowest);
        const errors = errorRateAt(signals, nowMs);
        expect(errors).toBeGreaterThanOrEqual(0);
        expect(errors).toBeLessThan(1);
        expect(signals.succeeded + signals.failed).toBe(observations.length);
      }),
    );
  });

  test("survive a clock that goes back, and a time that is no number", () => {
    const signals = newSignals();
    observe(signals, { latencyMs: 100, failed: false, nowMs: 1_000 });
    observe(signals, { latencyMs: 50, failed: false, nowMs: 0 });
    expect(latencyAt(signals, 0)).toBe(100);
    observe(signals, { latencyMs: Number.NaN, failed: false, nowMs: 1_000 });
    expect(latencyAt(signals, 1_000)).toBeGreaterThan(100);
  });
});

describe("seeded chance", () => {
  test("is the same everywhere", () => {
    const random = seededRandom(42);
    expect([random(), random(), random()].map((value) => Math.floor(value * 2 ** 32))).toEqual([
      2581720956, 1925393290, 3661312704,
    ]);
  });

  test("is from 0 up to but not including 1, and even", () => {
    fc.assert(
      fc.property(anySeed, (seed) => {
        const random = seededRandom(seed);
        const values = Array.from({ length: 1_000 }, random);
        expect(values.every((value) => value >= 0 && value < 1)).toBe(true);
        const mean = values.reduce((sum, value) => sum + value) / values.length;
        // Seven standard deviations of the mean.
        expect(Math.abs(mean - 0.5)).toBeLessThan(7 * Math.sqrt(1 / 12 / values.length));
      }),
    );
  });
});
