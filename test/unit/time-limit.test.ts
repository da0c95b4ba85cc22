/** One timer for all: each item has its whole time and not much more. */
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { createTimeLimit } from "../../src/transport/time-limit.ts";

const LIMIT_MS = 60;

test("what does not end in time is told once, in its order and not before its time", async () => {
  const late: [string, number][] = [];
  const begun = new Map<string, number>();
  const limit = createTimeLimit<string>(LIMIT_MS, (item) => late.push([item, performance.now() - begun.get(item)!]));
  for (const item of ["first", "in time", "second", "third"]) {
    begun.set(item, performance.now());
    limit.begin(item);
    await sleep(15);
  }
  limit.end("in time");
  await expect.poll(() => late.map(([item]) => item)).toEqual(["first", "second", "third"]);
  for (const [, ms] of late) expect(ms).toBeGreaterThanOrEqual(LIMIT_MS);
  await sleep(LIMIT_MS * 2);
  expect(late).toHaveLength(3);
});

test("what begins after a rest has its whole time, too", async () => {
  const late: string[] = [];
  const limit = createTimeLimit<string>(LIMIT_MS, (item) => late.push(item));
  limit.begin("over at once");
  limit.end("over at once");
  await sleep(LIMIT_MS * 2);
  const begun = performance.now();
  limit.begin("late");
  await expect.poll(() => late, { interval: 5 }).toEqual(["late"]);
  expect(performance.now() - begun).toBeGreaterThanOrEqual(LIMIT_MS);
});
