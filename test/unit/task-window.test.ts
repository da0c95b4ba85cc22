/** The last five minutes of tasks, beside a list that forgets nothing. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { addTask, newTaskWindow, ratesOf, WINDOW_MS } from "../../src/domain/task-window.ts";

const anyTask = fc.record({
  pauseMs: fc.integer({ min: 0, max: 60_000 }),
  latencyMs: fc.double({ min: 0, max: 1e8, noNaN: true }),
  failed: fc.boolean(),
  retried: fc.boolean(),
});

test("tells what the tasks say that ended in it", () => {
  fc.assert(
    fc.property(fc.array(anyTask, { maxLength: 60 }), fc.nat({ max: 1e9 }), (tasks, startMs) => {
      const window = newTaskWindow();
      const all: ((typeof tasks)[number] & { atMs: number })[] = [];
      let nowMs = startMs;
      for (const task of tasks) {
        nowMs += task.pauseMs;
        addTask(window, task, nowMs);
        all.push({ ...task, atMs: nowMs });
      }
      const { samples, errorRate, retryRate, p95Ms } = ratesOf(window, nowMs);
      // A tenth of the window is forgotten at once.
      const oldestMs = (Math.floor(nowMs / (WINDOW_MS / 10)) - 9) * (WINDOW_MS / 10);
      const counted = all.filter(({ atMs }) => atMs >= oldestMs);
      expect(samples).toBe(counted.length);
      if (samples === 0) {
        expect([errorRate, retryRate, p95Ms]).toEqual([0, 0, 0]);
        return;
      }
      expect(errorRate).toBe(counted.filter(({ failed }) => failed).length / samples);
      expect(retryRate).toBe(counted.filter(({ retried }) => retried).length / samples);
      const times = counted.map(({ latencyMs }) => latencyMs).sort((a, b) => a - b);
      const exact = times[Math.ceil(samples * 0.95) - 1]!;
      expect(Math.abs(p95Ms - exact)).toBeLessThanOrEqual(1 + exact * 0.04);
    }),
    { numRuns: 300 },
  );
});

test("forgets all of it after five minutes", () => {
  const window = newTaskWindow();
  addTask(window, { latencyMs: 5, failed: true, retried: true }, 1_000_000);
  expect(ratesOf(window, 1_000_000 + WINDOW_MS * 0.89).samples).toBe(1);
  expect(ratesOf(window, 1_000_000 + WINDOW_MS)).toEqual({ samples: 0, errorRate: 0, retryRate: 0, p95Ms: 0 });
});
