/** One timer for all: each item has its whole time and not much more. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { createTimeLimit } from "../../src/transport/time-limit.ts";

const LIMIT_MS = 60;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
});
afterEach(() => {
  vi.useRealTimers();
});

test("what does not end in time is told once, in its order and at its time", () => {
  const late: [string, number][] = [];
  const begun = new Map<string, number>();
  const limit = createTimeLimit<string>(LIMIT_MS, (item) => late.push([item, performance.now() - begun.get(item)!]));
  for (const item of ["first", "in time", "second", "third"]) {
    begun.set(item, performance.now());
    limit.begin(item);
    vi.advanceTimersByTime(15);
  }
  limit.end("in time");
  vi.advanceTimersByTime(LIMIT_MS * 3);
  expect(late).toEqual(["first", "second", "third"].map((item) => [item, LIMIT_MS]));
  expect(vi.getTimerCount()).toBe(0);
});

test("what begins after a rest has its whole time, too", () => {
  const late: string[] = [];
  const limit = createTimeLimit<string>(LIMIT_MS, (item) => late.push(item));
  limit.begin("over at once");
  limit.end("over at once");
  vi.advanceTimersByTime(LIMIT_MS * 2);
  limit.begin("late");
  vi.advanceTimersByTime(LIMIT_MS - 1);
  expect(late).toEqual([]);
  vi.advanceTimersByTime(1);
  expect(late).toEqual(["late"]);
});
