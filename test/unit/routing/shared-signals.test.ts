/** Quantiles of an agent's latency, and what several replicas know of one agent together. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  errorRateAt,
  latencyAt,
  latencyQuantileAt,
  mergeSignals,
  newSignals,
  observe,
  type Signals,
  seenAt,
} from "../../../src/domain/routing/agent-signals.ts";
import { QUANTILE_DECAY_MS } from "../../../src/domain/routing/latency-histogram.ts";

const anyObservations = fc.array(
  fc.record({
    atMs: fc.nat({ max: 2_000_000 }),
    latencyMs: fc.double({ min: 1, max: 1e6, noNaN: true }),
    failed: fc.boolean(),
  }),
  { maxLength: 40 },
);

const NOW_MS = 2_000_000;

function signalsOf(observations: readonly { atMs: number; latencyMs: number; failed: boolean }[]): Signals {
  const signals = newSignals();
  for (const { atMs, ...rest } of observations.toSorted((a, b) => a.atMs - b.atMs)) {
    observe(signals, { ...rest, nowMs: atMs });
  }
  return signals;
}

/** All that can be read of signals. */
const readings = (signals: Signals) => [
  signals.succeeded,
  signals.failed,
  latencyAt(signals, NOW_MS) ?? -1,
  errorRateAt(signals, NOW_MS),
  seenAt(signals, NOW_MS),
  ...[0, 0.5, 0.95, 1].map((q) => latencyQuantileAt(signals, q, NOW_MS) ?? -1),
];

function expectSame(a: Signals, b: Signals): void {
  const [ours, theirs] = [readings(a), readings(b)];
  for (const [i, value] of ours.entries()) {
    expect(Math.abs(value - theirs[i]!)).toBeLessThanOrEqual(1e-6 * Math.max(1, Math.abs(value)));
  }
}

describe("a quantile", () => {
  test("is unknown before a task has ended well, and long after the last", () => {
    const signals = newSignals();
    observe(signals, { latencyMs: 100, failed: true, nowMs: 0 });
    expect(latencyQuantileAt(signals, 0.5, 0)).toBeUndefined();
    observe(signals, { latencyMs: 100, failed: false, nowMs: 0 });
    expect(latencyQuantileAt(signals, 0.5, 0)).toBeGreaterThan(50);
    expect(latencyQuantileAt(signals, 0.5, QUANTILE_DECAY_MS * 20)).toBeUndefined();
  });

  test("is at most a bucket from the true one, and grows with its share", () => {
    fc.assert(
      fc.property(
        fc.array(fc.double({ min: 1, max: 1e6, noNaN: true }), { minLength: 1, maxLength: 200 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        (latencies, q) => {
          const signals = newSignals();
          for (const latencyMs of latencies) observe(signals, { latencyMs, failed: false, nowMs: 0 });
          const sorted = latencies.toSorted((a, b) => a - b);
          const exact = sorted[Math.max(0, Math.ceil(q * sorted.length - 1e-9) - 1)]!;
          const found = latencyQuantileAt(signals, q, 0)!;
          expect(found / exact).toBeGreaterThan(1 / 1.51);
          expect(found / exact).toBeLessThan(1.51);
          expect(latencyQuantileAt(signals, 1, 0)).toBeGreaterThanOrEqual(found * (1 - 1e-9));
        },
      ),
    );
  });

  test("follows what the agent has become", () => {
    const signals = newSignals();
    for (let i = 0; i < 100; i++) observe(signals, { latencyMs: 100, failed: false, nowMs: 0 });
    const laterMs = 5 * QUANTILE_DECAY_MS;
    for (let i = 0; i < 10; i++) observe(signals, { latencyMs: 5_000, failed: false, nowMs: laterMs });
    expect(latencyQuantileAt(signals, 0.5, laterMs)).toBeGreaterThan(3_000);
    // For months, without a number that grows beyond all bounds.
    const months = 1e4 * QUANTILE_DECAY_MS;
    observe(signals, { latencyMs: 100, failed: false, nowMs: months });
    expect(latencyQuantileAt(signals, 0.9, months)).toBeLessThan(200);
  });
});

describe("what several replicas have seen", () => {
  test("does not depend on the order in which it is put together", () => {
    fc.assert(
      fc.property(fc.array(anyObservations, { maxLength: 5 }), (all) => {
        const signals = all.map(signalsOf);
        expectSame(mergeSignals(signals, NOW_MS), mergeSignals(signals.toReversed(), NOW_MS));
      }),
    );
  });

  test("is what one has seen, where the others have seen nothing", () => {
    fc.assert(
      fc.property(anyObservations, (observations) => {
        const signals = signalsOf(observations);
        expectSame(mergeSignals([signals], NOW_MS), signals);
        expectSame(mergeSignals([newSignals(), signals, newSignals()], NOW_MS), signals);
      }),
    );
  });

  test("counts tasks, failures and quantiles as if one had seen them all", () => {
    fc.assert(
      fc.property(anyObservations, anyObservations, (ours, theirs) => {
        const merged = mergeSignals([signalsOf(ours), signalsOf(theirs)], NOW_MS);
        const all = [...ours, ...theirs];
        expect(merged.succeeded + merged.failed).toBe(all.length);
        expect(merged.failed).toBe(all.filter(({ failed }) => failed).length);
        const one = signalsOf(all);
        for (const q of [0.1, 0.5, 0.9]) {
          const [found, exact] = [latencyQuantileAt(merged, q, NOW_MS), latencyQuantileAt(one, q, NOW_MS)];
          if (found !== undefined && exact !== undefined) expect(found / exact).toBeCloseTo(1, 6);
        }
        const latencies = [latencyAt(signalsOf(ours), NOW_MS), latencyAt(signalsOf(theirs), NOW_MS)];
        const known = latencies.filter((latency) => latency !== undefined);
        const latency = latencyAt(merged, NOW_MS);
        if (known.length === 0) expect(latency).toBeUndefined();
        else expect(latency).toBeLessThanOrEqual(Math.max(...known) * (1 + 1e-9));
      }),
    );
  });
});
