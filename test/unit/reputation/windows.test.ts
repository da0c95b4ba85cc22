/** What windows count, how long tasks took by a sketch, and how all of it is stored. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  addLatency,
  addSketch,
  LATENCY_ERROR,
  type LatencySketch,
  quantilesOf,
} from "../../../src/domain/reputation/latency-sketch.ts";
import {
  type Counted,
  countTask,
  newWindows,
  viewWindows,
  WINDOWS,
  wilson,
} from "../../../src/domain/reputation/windows.ts";
import { decodeWindows, encodeWindows } from "../../../src/store/window-codec.ts";

const latency = fc.oneof(fc.double({ min: 0, max: 10, noNaN: true }), fc.double({ min: 0, max: 6e8, noNaN: true }));

function sketchOf(latencies: readonly number[]): LatencySketch {
  const sketch: LatencySketch = new Map();
  for (const each of latencies) addLatency(sketch, each);
  return sketch;
}

describe("a sketch of latencies", () => {
  test("tells every quantile to its error", () => {
    fc.assert(
      fc.property(fc.array(latency, { minLength: 1, maxLength: 300 }), (latencies) => {
        const sorted = latencies.toSorted((a, b) => a - b);
        const qs = [0, 0.01, 0.25, 0.5, 0.9, 0.95, 0.99, 1];
        const told = quantilesOf(sketchOf(latencies), qs)!;
        for (const [i, q] of qs.entries()) {
          const exact = sorted[Math.max(1, Math.ceil(q * sorted.length)) - 1]!;
          if (exact <= 1) expect(told[i]).toBe(1);
          else expect(Math.abs(told[i]! - exact)).toBeLessThanOrEqual(exact * LATENCY_ERROR * (1 + 1e-9));
        }
      }),
    );
  });

  test("of parts, added in any order, is that of the whole", () => {
    fc.assert(
      fc.property(fc.array(fc.array(latency)), (parts) => {
        const merged: LatencySketch = new Map();
        for (const part of parts.toReversed()) addSketch(merged, sketchOf(part));
        expect(new Map([...merged].sort())).toEqual(new Map([...sketchOf(parts.flat())].sort()));
      }),
    );
  });

  test("has a bound, and of nothing tells nothing", () => {
    expect(quantilesOf(new Map(), [0.5])).toBeUndefined();
    expect(Math.max(...sketchOf([0, 1e308, Number.POSITIVE_INFINITY]).keys())).toBeLessThan(410);
  });
});

const T0 = Date.UTC(2026, 5, 1);
const WEEK_MS = 7 * 86_400_000;

const task: fc.Arbitrary<Counted> = fc.record({
  isGood: fc.boolean(),
  atMs: fc.integer({ min: T0, max: T0 + 2 * WEEK_MS }),
  latencyMs: fc.option(fc.integer({ min: 0, max: 100_000 }), { nil: undefined }),
  isInSla: fc.option(fc.boolean(), { nil: undefined }),
});

describe("windows", () => {
  test("hold the tasks of their time, to a slot, in whatever order they come", () => {
    fc.assert(
      fc.property(fc.array(task, { maxLength: 50 }), fc.integer({ min: 0, max: WEEK_MS }), (tasks, laterMs) => {
        const windows = newWindows();
        for (const one of tasks) countTask(windows, one);
        const nowMs = Math.max(T0, ...tasks.map(({ atMs }) => atMs)) + laterMs;
        for (const [i, view] of viewWindows(windows, nowMs).entries()) {
          const { lengthMs, slotMs } = WINDOWS[i]!;
          const since = (Math.floor(nowMs / slotMs) - lengthMs / slotMs + 1) * slotMs;
          const within = tasks.filter(({ atMs }) => atMs >= since);
          const good = within.filter(({ isGood }) => isGood).length;
          const judged = within.filter(({ isInSla }) => isInSla !== undefined);
          expect(view).toMatchObject({ lengthMs, good, bad: within.length - good });
          expect(view.successRate?.share).toBe(within.length === 0 ? undefined : good / within.length);
          expect(view.slaAdherence).toBe(
            judged.length === 0 ? undefined : judged.filter(({ isInSla }) => isInSla).length / judged.length,
          );
          expect(windows[i]!.size).toBeLessThanOrEqual(lengthMs / slotMs);
        }
      }),
    );
  });

  test("are the same after they were stored", () => {
    fc.assert(
      fc.property(fc.array(task, { maxLength: 50 }), (tasks) => {
        const windows = newWindows();
        for (const one of tasks) countTask(windows, one);
        const stored = decodeWindows(encodeWindows(windows));
        expect(stored).toEqual(windows);
        expect(encodeWindows(stored)).toEqual(encodeWindows(windows));
      }),
    );
  });

  test("of a form that only a newer version knows are empty", () => {
    expect(decodeWindows(Buffer.from([2, 1, 2, 3]))).toEqual(newWindows());
    expect(decodeWindows(Buffer.alloc(0))).toEqual(newWindows());
  });

  test("of a busy week take little room", () => {
    const windows = newWindows();
    for (let i = 0; i < 20_000; i++) {
      const atMs = T0 + (i * WEEK_MS) / 20_000;
      countTask(windows, { isGood: i % 20 > 0, atMs, latencyMs: 80 + (i % 7) ** 3, isInSla: true });
    }
    expect(encodeWindows(windows).length).toBeLessThan(2_500);
  });
});

describe("the confidence of a share", () => {
  test("has bounds of which each is as far from the share as 95 % of what is seen would be", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1000 }), fc.double({ min: 0, max: 1, noNaN: true }), (n, part) => {
        const share = Math.floor(part * n) / n;
        const { low, high } = wilson(share * n, n);
        for (const bound of [low, high]) {
          const spread = 1.959963984540054 * Math.sqrt((bound * (1 - bound)) / n);
          // At 0 and 1 the share itself is a bound.
          if (bound > 0 && bound < 1) expect(Math.abs(share - bound)).toBeCloseTo(spread, 6);
        }
      }),
    );
  });

  test("holds the share, and narrows with more of the same", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1000 }), fc.double({ min: 0, max: 1, noNaN: true }), (n, part) => {
        const successes = Math.floor(part * n);
        const { low, high } = wilson(successes, n);
        const more = wilson(successes * 4, n * 4);
        expect(low - 1e-12 <= successes / n && successes / n <= high + 1e-12).toBe(true);
        expect(more.high - more.low).toBeLessThan(high - low);
      }),
    );
  });
});
