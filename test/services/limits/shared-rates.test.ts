/** Rates over several replicas: whatever they do at the same moment, no second lets more through than its limit. */
import fc from "fast-check";
import { afterEach, beforeEach, expect, it } from "vitest";
import { databaseUnavailable } from "../../../src/domain/errors.ts";
import { createSlicedRates, type SlicedRates } from "../../../src/services/limits/sliced-rates.ts";
import { systemRuntime } from "../../../src/services/runtime.ts";
import type { Database } from "../../../src/store/database.ts";
import { createSharedRates, type Drawn, type SharedRates } from "../../../src/store/shared-rates.ts";
import { describeEachBackend } from "../../store/backends.ts";
import { raw } from "../../store/tables.ts";

const runtime = systemRuntime();

describeEachBackend("rates that replicas share", (context) => {
  const open: SharedRates[] = [];
  let away = false;
  let statements = 0;

  beforeEach(async () => {
    [away, statements] = [false, 0];
    await raw(context.db, "truncate rate_windows");
  });
  afterEach(async () => {
    await Promise.all(open.splice(0).map((rates) => rates.close()));
  });

  function startReplica(onDrawn: (key: string, drawn: Drawn) => void = () => {}): SlicedRates {
    const db: Pick<Database, "query"> = {
      query(statement, values) {
        statements += 1;
        return away ? Promise.reject(databaseUnavailable()) : context.db.query(statement, values);
      },
    };
    const rates = createSharedRates(db, runtime.elapsedMs);
    open.push(rates);
    return createSlicedRates(
      {
        async draw(key, limit, points) {
          const drawn = await rates.draw(key, limit, points);
          onDrawn(key, drawn);
          return drawn;
        },
      },
      runtime,
    );
  }

  /** The end of the running window of a key, by the database. */
  const windowOf = async (key: string) =>
    (await raw(context.db, "select ends_at::text as ends, points from rate_windows where rate_key = $1", [key]))[0]!;

  /** Makes a window of the tests' own, that does not end while they look at it. */
  const holdWindow = (key: string) =>
    raw(context.db, "insert into rate_windows values ($1, 0, clock_timestamp() + interval '1 hour')", [key]);

  it("lets exactly the limit through in one window, whichever of three replicas is asked, and in whatever order", async () => {
    let round = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 120 }),
        fc.array(fc.tuple(fc.nat({ max: 2 }), fc.integer({ min: 1, max: 30 })), { minLength: 1, maxLength: 15 }),
        async (limit, bursts) => {
          const key = `key-${++round}`;
          await holdWindow(key);
          const replicas = [startReplica(), startReplica(), startReplica()];
          let [passed, asked, refused] = [0, 0, 0];
          for (const [at, calls] of bursts) {
            asked += calls;
            const answers = await Promise.all(Array.from({ length: calls }, () => replicas[at]!.take(key, limit)));
            passed += answers.filter((answer) => answer === undefined).length;
            refused += answers.filter((answer) => answer !== undefined).length;
            for (const answer of answers) if (answer !== undefined) expect(answer).toBeGreaterThan(0);
          }
          expect(passed).toBeLessThanOrEqual(limit);
          expect(passed + refused).toBe(asked);
          // What two others may have drawn and not spent is all that can be lacking.
          expect(passed).toBeGreaterThanOrEqual(Math.min(asked, limit - 2 * Math.max(0, Math.floor(limit / 20) - 1)));
        },
      ),
      { numRuns: 15 },
    );
  });

  it("never shares out more of any window than its limit, while windows come and go", async () => {
    const limit = 40;
    const shared = new Map<string, number>();
    const replicas = [0, 1, 2].map(() => startReplica());
    const deadline = runtime.elapsedMs() + 2_500;
    let passed = 0;
    const clients = replicas.map(async (replica) => {
      while (runtime.elapsedMs() < deadline) {
        const answer = replica.take("key", limit);
        if ((answer instanceof Promise ? await answer : answer) === undefined) passed += 1;
        await new Promise((resolve) => setImmediate(resolve));
      }
    });
    const looks = (async () => {
      while (runtime.elapsedMs() < deadline) {
        const [row] = await raw(
          context.db,
          "select ends_at::text as ends, points from rate_windows where rate_key = 'key'",
        );
        if (row) shared.set(row.ends as string, row.points as number);
      }
    })();
    await Promise.all([...clients, looks]);
    // 2.5 s touch four windows at most.
    expect(shared.size).toBeLessThanOrEqual(4);
    expect(passed).toBeLessThanOrEqual(limit * shared.size);
    expect(passed).toBeGreaterThanOrEqual(limit * 2 - 3);
  });

  it("asks the database some twenty times for a second's points, and not at each call", async () => {
    await holdWindow("key");
    const replica = startReplica();
    for (let call = 0; call < 1_000; call++) expect(await replica.take("key", 1_000)).toBeUndefined();
    expect(statements).toBe(20);
    expect(await replica.take("key", 1_000)).toBeGreaterThan(0);
    // Who is refused is told without the database.
    expect(statements).toBe(20);
    expect(replica.take("key", 1_000)).not.toBeInstanceOf(Promise);
  });

  it("begins a new window when the last one is over, by the clock of the database", async () => {
    const replica = startReplica();
    await holdWindow("key");
    expect(await replica.take("key", 1)).toBeUndefined();
    const { ends } = await windowOf("key");
    await raw(context.db, "update rate_windows set ends_at = clock_timestamp()");
    // Another replica finds it over.
    expect(await startReplica().take("key", 1)).toBeUndefined();
    const window = await windowOf("key");
    expect(window.points).toBe(1);
    expect(window.ends).not.toBe(ends);
  });

  it("tells apart who is asked for", async () => {
    const replica = startReplica();
    await holdWindow("a");
    await holdWindow("b");
    expect(await replica.take("a", 1)).toBeUndefined();
    expect(await replica.take("b", 1)).toBeUndefined();
    expect(await replica.take("a", 1)).toBeGreaterThan(0);
  });

  it("counts for itself while the database is away, and together again after it", async () => {
    away = true;
    const replicas = [startReplica(), startReplica()];
    for (const replica of replicas) {
      const answers = await Promise.all(Array.from({ length: 30 }, () => replica.take("key", 10)));
      expect(answers.filter((answer) => answer === undefined)).toHaveLength(10);
    }
    // Asked once by each: then it is left alone for a moment.
    expect(statements).toBe(2);
    away = false;
    await holdWindow("back");
    const third = startReplica();
    expect(await third.take("back", 1)).toBeUndefined();
    expect((await windowOf("back")).points).toBe(1);
  });

  it("forgets windows that are long over, and no others", async () => {
    const rates = createSharedRates(context.db, runtime.elapsedMs);
    open.push(rates);
    await raw(context.db, "insert into rate_windows values ('old', 1, clock_timestamp() - interval '2 minutes')");
    await holdWindow("new");
    expect(await rates.sweep()).toBe(1);
    expect((await raw(context.db, "select rate_key from rate_windows")).map((row) => row.rate_key)).toEqual(["new"]);
  });
});
