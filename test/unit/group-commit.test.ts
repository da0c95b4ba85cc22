import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createGroupCommit } from "../../src/store/group-commit.ts";

const turn = () => new Promise((resolve) => setImmediate(resolve));

/** A flush that ends when the test says so. */
function manual() {
  const started: Batch[] = [];
  const wanted: ((batch: Batch) => void)[] = [];
  const flush = (items: number[]) =>
    new Promise<number[]>((resolve, reject) => {
      const batch = { items, done: () => resolve(items.map((n) => n * 10)), fail: reject };
      const want = wanted.shift();
      if (want) want(batch);
      else started.push(batch);
    });
  const next = () =>
    new Promise<Batch>((resolve) => {
      const batch = started.shift();
      if (batch) resolve(batch);
      else wanted.push(resolve);
    });
  return { flush, started, next };
}

interface Batch {
  items: number[];
  done(): void;
  fail(error: unknown): void;
}

describe("batches", () => {
  test("what comes in one turn goes together; what comes in flight is the next batch", async () => {
    const { flush, started, next } = manual();
    const group = createGroupCommit({ name: "test", flush, maxBatch: 10, maxWaiting: 100 });
    const answers = [group.submit(1), Promise.resolve().then(() => group.submit(2))];
    const first = await next();
    expect(first.items).toEqual([1, 2]);
    answers.push(group.submit(3));
    await turn();
    answers.push(group.submit(4));
    await turn();
    expect(started).toEqual([]);
    first.done();
    const second = await next();
    expect(second.items).toEqual([3, 4]);
    second.done();
    expect(await Promise.all(answers)).toEqual([10, 20, 30, 40]);
  });

  test("what the first of a large batch do next is on its way while the others are answered", async () => {
    const { flush, next } = manual();
    const group = createGroupCommit({ name: "test", flush, maxBatch: 500, maxWaiting: 500 });
    let answered = 0;
    const answers = Array.from({ length: 300 }, async (_, n) => {
      await group.submit(n);
      answered += 1;
      return group.submit(1000 + n);
    });
    const first = await next();
    expect(first.items).toHaveLength(300);
    first.done();
    const second = await next();
    expect(answered).toBeGreaterThan(0);
    expect(answered).toBeLessThan(300);
    expect(second.items[0]).toBe(1000);
    second.done();
    for (let items = second.items.length; items < 300; ) {
      const batch = await next();
      items += batch.items.length;
      batch.done();
    }
    expect(await Promise.all(answers)).toEqual(Array.from({ length: 300 }, (_, n) => (1000 + n) * 10));
    await group.close();
  });

  test("lanes bound the batches in flight", async () => {
    const { flush, started, next } = manual();
    const group = createGroupCommit({ name: "test", flush, maxBatch: 1, maxWaiting: 100, lanes: 2 });
    const answers = [1, 2, 3].map((n) => group.submit(n));
    const [first, second] = [await next(), await next()];
    await turn();
    expect(started).toEqual([]);
    second.done();
    const third = await next();
    expect(third.items).toEqual([3]);
    first.done();
    third.done();
    expect(await Promise.all(answers)).toEqual([10, 20, 30]);
  });

  test("a full queue refuses, and says how long to wait", async () => {
    const { flush, next } = manual();
    const group = createGroupCommit({ name: "test", flush, maxBatch: 1, maxWaiting: 2 });
    const answers = [group.submit(1)];
    const first = await next();
    answers.push(group.submit(2), group.submit(3));
    await expect(group.submit(4)).rejects.toMatchObject({
      code: "RESOURCE_EXHAUSTED",
      reason: "QUEUE_FULL",
      metadata: { queue: "test" },
      retryAfterMs: expect.any(Number),
    });
    first.done();
    (await next()).done();
    answers.push(group.submit(5));
    (await next()).done();
    (await next()).done();
    expect(await Promise.all(answers)).toEqual([10, 20, 30, 50]);
  });
});

describe("errors", () => {
  test("an Error among the answers is for its caller alone", async () => {
    const group = createGroupCommit<number, number>({
      name: "test",
      flush: async (items) => items.map((n) => (n === 2 ? new Error("not two") : n)),
      maxBatch: 10,
      maxWaiting: 10,
    });
    const results = await Promise.allSettled([1, 2, 3].map((n) => group.submit(n)));
    expect(results.map((r) => (r.status === "fulfilled" ? r.value : r.reason.message))).toEqual([1, "not two", 3]);
  });

  test("what a flush throws is for all of its batch, and the next batch is untouched", async () => {
    const { flush, next } = manual();
    const group = createGroupCommit({ name: "test", flush, maxBatch: 2, maxWaiting: 10 });
    const settled = Promise.allSettled([1, 2, 3].map((n) => group.submit(n)));
    (await next()).fail(new Error("down"));
    (await next()).done();
    expect(await settled).toMatchObject([{ status: "rejected" }, { status: "rejected" }, { value: 30 }]);
  });

  test("a flush that answers too little fails its batch", async () => {
    const group = createGroupCommit<number, number>({
      name: "test",
      flush: async () => [],
      maxBatch: 9,
      maxWaiting: 9,
    });
    await expect(group.submit(1)).rejects.toThrow("0 answers for 1 items");
  });

  test("isolation finds the guilty, and only them, whoever they are", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.boolean(), { minLength: 1, maxLength: 40 }), async (guilty) => {
        const group = createGroupCommit<number, number>({
          name: "test",
          flush: async (items) => {
            if (items.some((n) => guilty[n])) throw new Error("guilty");
            return items;
          },
          maxBatch: 64,
          maxWaiting: 64,
          isolate: (error) => error instanceof Error && error.message === "guilty",
        });
        const results = await Promise.allSettled(guilty.map((_, n) => group.submit(n)));
        expect(results.map((r) => r.status === "rejected")).toEqual(guilty);
      }),
    );
  });
});

describe("close", () => {
  test("waits for the rest and takes no more", async () => {
    const { flush, next } = manual();
    const group = createGroupCommit({ name: "test", flush, maxBatch: 1, maxWaiting: 10 });
    const all = Promise.all([group.submit(1), group.submit(2)]);
    const closed = group.close();
    await expect(group.submit(3)).rejects.toMatchObject({ reason: "DATABASE_UNAVAILABLE" });
    (await next()).done();
    (await next()).done();
    await closed;
    expect(await all).toEqual([10, 20]);
  });

  test("ends at once when nothing is under way, and twice is once", async () => {
    const group = createGroupCommit({ name: "test", flush: async (items) => items, maxBatch: 1, maxWaiting: 1 });
    await Promise.all([group.close(), group.close()]);
  });
});

test("everyone gets the answer to their own item, in batches of the right size, in order, whatever the timing", async () => {
  const plan = fc.record({
    maxBatch: fc.integer({ min: 1, max: 7 }),
    lanes: fc.integer({ min: 1, max: 4 }),
    submits: fc.array(fc.record({ pauseTurns: fc.nat(2), flushTurns: fc.nat(3) }), { maxLength: 60 }),
  });
  await fc.assert(
    fc.asyncProperty(plan, async ({ maxBatch, lanes, submits }) => {
      const taken: number[] = [];
      let inFlight = 0;
      const group = createGroupCommit<number, string>({
        name: "test",
        maxBatch,
        maxWaiting: 1000,
        lanes,
        flush: async (items) => {
          inFlight += 1;
          expect(inFlight).toBeLessThanOrEqual(lanes);
          expect(items.length).toBeGreaterThan(0);
          expect(items.length).toBeLessThanOrEqual(maxBatch);
          taken.push(...items);
          for (let turns = submits[items[0] ?? 0]?.flushTurns ?? 0; turns > 0; turns -= 1) await turn();
          inFlight -= 1;
          return items.map((n) => `answer ${n}`);
        },
      });
      const answers: Promise<string>[] = [];
      for (const [n, { pauseTurns }] of submits.entries()) {
        for (let turns = pauseTurns; turns > 0; turns -= 1) await turn();
        answers.push(group.submit(n));
      }
      await group.close();
      expect(await Promise.all(answers)).toEqual(submits.map((_, n) => `answer ${n}`));
      expect(taken).toEqual(submits.map((_, n) => n));
    }),
    { numRuns: 60 },
  );
});
