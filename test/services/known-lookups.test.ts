/** What is asked at every request: held for a moment, read together, and gone by while the database is away. */
import { expect, test } from "vitest";
import { databaseUnavailable } from "../../src/domain/errors.ts";
import { createKnownLookups } from "../../src/services/identity/known-lookups.ts";
import type { Runtime } from "../../src/services/runtime.ts";

function lab({ found = 10, missing = 10 } = {}) {
  const clock = { ms: 0 };
  const truth = new Map<string, number>();
  const statements: string[][] = [];
  /** Waits to be ended by the test. */
  const waits = new Set<() => void>();
  const state: { away: boolean; held: Promise<void> | undefined } = { away: false, held: undefined };
  const runtime: Runtime = {
    now: () => new Date(clock.ms),
    elapsedMs: () => clock.ms,
    newId: () => "id",
    random: () => 0.5,
    wait: (_ms, signal) =>
      new Promise((resolve, reject) => {
        waits.add(resolve);
        signal.addEventListener("abort", () => reject(signal.reason));
      }),
  };
  const lookups = createKnownLookups<number>({
    name: "test",
    runtime,
    most: { found, missing },
    async load(keys) {
      statements.push([...keys]);
      const answer = new Map(keys.flatMap((key) => (truth.has(key) ? [[key, truth.get(key)!] as const] : [])));
      await state.held;
      if (state.away) throw databaseUnavailable();
      return answer;
    },
  });
  return { clock, truth, statements, waits, state, lookups };
}

/** Everything that is ready has run. */
const settled = () => new Promise((resolve) => setImmediate(resolve));

test("misses of one moment are one statement, and what is known is given without a promise", async () => {
  const { truth, statements, lookups } = lab();
  truth.set("a", 1).set("b", 2);
  const asked = ["a", "b", "a", "nobody"].map((key) => lookups.get(key));
  expect(await Promise.all(asked)).toEqual([1, 2, 1, undefined]);
  expect(statements).toEqual([["a", "b", "nobody"]]);
  expect(lookups.get("a")).toBe(1);
  expect(lookups.get("nobody")).toBeUndefined();
  expect(statements).toHaveLength(1);
});

test("an answer is renewed in the background from half a second on, and waited for after a second", async () => {
  const { clock, truth, statements, lookups } = lab();
  truth.set("a", 1);
  await lookups.get("a");
  truth.set("a", 2);
  clock.ms = 600;
  expect(lookups.get("a")).toBe(1);
  await settled();
  expect(lookups.get("a")).toBe(2);
  expect(statements).toHaveLength(2);
  truth.set("a", 3);
  clock.ms = 1_700;
  expect(await lookups.get("a")).toBe(3);
});

test("a change made here holds at once, also for who asks while what was there before is read", async () => {
  const { truth, state, lookups } = lab();
  truth.set("a", 1).set("b", 1);
  await Promise.all([lookups.get("a"), lookups.get("b")]);
  lookups.changed((key) => key === "a");
  const slow = Promise.withResolvers<void>();
  state.held = slow.promise;
  const before = lookups.get("a");
  await settled();
  truth.set("a", 2);
  lookups.changed((key) => key === "a");
  const after = lookups.get("a");
  slow.resolve();
  expect(await before).toBe(1);
  expect(await after).toBe(2);
  expect(lookups.get("a")).toBe(2);
  expect(lookups.get("b")).toBe(1);
});

test("while the database is away, what was known holds for half a minute, and nobody waits for it twice", async () => {
  const { clock, truth, statements, state, lookups } = lab();
  truth.set("a", 1);
  await lookups.get("a");
  state.away = true;
  clock.ms = 5_000;
  expect(await lookups.get("a")).toBe(1);
  expect(lookups.get("a")).toBe(1);
  await expect(lookups.get("new") as Promise<unknown>).rejects.toMatchObject({ reason: "DATABASE_UNAVAILABLE" });
  clock.ms = 30_001;
  await expect(lookups.get("a") as Promise<unknown>).rejects.toMatchObject({ reason: "DATABASE_UNAVAILABLE" });
  state.away = false;
  truth.set("a", 2);
  const before = statements.length;
  expect(await lookups.get("a")).toBe(2);
  expect(statements).toHaveLength(before + 1);
});

test("a database that hangs keeps nobody from what was known", async () => {
  const { clock, truth, waits, state, lookups } = lab();
  truth.set("a", 1);
  await lookups.get("a");
  state.held = new Promise(() => {});
  clock.ms = 2_000;
  const asked = lookups.get("a");
  expect(asked).toBeInstanceOf(Promise);
  for (const end of waits) end();
  expect(await asked).toBe(1);
  expect(lookups.get("a")).toBe(1);
});

test("what nobody knows keeps out nothing that somebody does, and what was used last stays", async () => {
  const { truth, statements, lookups } = lab({ found: 2, missing: 2 });
  for (const key of ["a", "b", "c"]) truth.set(key, 1);
  await lookups.get("a");
  await lookups.get("b");
  for (let i = 0; i < 20; i++) await lookups.get(`nobody-${i}`);
  expect([lookups.get("b"), lookups.get("a")]).toEqual([1, 1]);
  await lookups.get("c");
  const before = statements.length;
  expect(lookups.get("a")).toBe(1);
  expect(lookups.get("b")).toBeInstanceOf(Promise);
  await settled();
  expect(statements).toHaveLength(before + 1);
});

test("a queue that is full refuses who asks, and is no matter of who asks in the background", async () => {
  const { clock, truth, state, lookups } = lab();
  const unhandled: unknown[] = [];
  const note = (error: unknown) => unhandled.push(error);
  truth.set("a", 1);
  await lookups.get("a");
  const { promise: held, resolve: release } = Promise.withResolvers<void>();
  state.held = held;
  // The first is being read; behind it nobody else has room.
  const waiting = Array.from({ length: 10_501 }, (_, i) => lookups.get(`nobody-${i}`));
  const answers = Promise.allSettled(waiting);
  process.on("unhandledRejection", note);
  try {
    await settled();
    const more = Array.from({ length: 501 }, (_, i) => lookups.get(`late-${i}`));
    const late = Promise.allSettled(more);
    clock.ms = 600;
    expect(lookups.get("a")).toBe(1);
    await settled();
    await settled();
    expect(unhandled).toEqual([]);
    release();
    expect((await late).at(-1)).toMatchObject({ status: "rejected", reason: { reason: "QUEUE_FULL" } });
    await answers;
  } finally {
    process.off("unhandledRejection", note);
  }
});
