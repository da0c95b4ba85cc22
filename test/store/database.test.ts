/** The Database itself: values, transactions, errors, closing. */
import fc from "fast-check";
import { sql } from "kysely";
import { beforeAll, expect, test } from "vitest";
import { isDataError, isOutcomeUnknown, isUnavailable, sqlState } from "../../src/store/database-errors.ts";
import { describeEachBackend } from "./backends.ts";

const echo = (type: string) => ({
  name: `echo-${type}`,
  text: `select v from unnest($1::${type}[]) with ordinality as u(v, n) order by n`,
});

const bytes = fc.uint8Array({ maxLength: 300 });
// PostgreSQL keeps no zero byte in a text, and no half of a surrogate pair exists in UTF-8.
const text = fc.string({ unit: "binary" }).map((s) => s.replaceAll("\0", "").toWellFormed());
const int8 = fc.maxSafeInteger();
const time = fc.date({ min: new Date("0001-01-01"), max: new Date("9999-12-31T23:59:59.999Z"), noInvalidDate: true });
const int8Text = fc.bigInt({ min: BigInt(Number.MIN_SAFE_INTEGER), max: BigInt(Number.MAX_SAFE_INTEGER) });

describeEachBackend(
  "database",
  (ctx) => {
    test.each([
      ["bytea", bytes],
      ["text", text],
      ["bigint", int8],
      ["timestamptz", time],
      ["boolean", fc.boolean()],
      ["double precision", fc.double({ noNaN: true, noDefaultInfinity: true }).filter((n) => !Object.is(n, -0))],
    ] as const)("arrays of %s come back as they went", async (type, arbitrary) => {
      await fc.assert(
        fc.asyncProperty(fc.array(fc.option(arbitrary as fc.Arbitrary<unknown>), { maxLength: 30 }), async (values) => {
          const rows = await ctx.db.query(echo(type), [values]);
          expect(rows.map((row) => row.v)).toStrictEqual(values);
        }),
        { numRuns: 60 },
      );
    });

    test("values come back as they went, one by one", async () => {
      const statement = {
        name: "echo-values",
        text: "select $1::bytea as bytes, $2::text as text, $3::bigint as int8, $4::timestamptz as time, $5::json as json",
      };
      await fc.assert(
        fc.asyncProperty(bytes, text, int8, time, async (b, t, n, d) => {
          const json = { text: t, list: [1, null, true] };
          const [row] = await ctx.db.query(statement, [b, t, n, d, json]);
          expect(row).toStrictEqual({ bytes: b, text: t, int8: n, time: d, json });
        }),
        { numRuns: 60 },
      );
    });

    test("bigint goes in, number comes out", async () => {
      await fc.assert(
        fc.asyncProperty(int8Text, async (n) => {
          expect(await ctx.db.query(echo("bigint"), [[n]])).toEqual([{ v: Number(n) }]);
        }),
        { numRuns: 30 },
      );
    });

    test("views into larger memory carry their own bytes only", async () => {
      const memory = new Uint8Array(1000).map((_, i) => i);
      const view = memory.subarray(17, 29);
      const rows = await ctx.db.query(echo("bytea"), [[view, Buffer.from(view)]]);
      expect(rows.map((row) => row.v)).toStrictEqual([view.slice(), view.slice()]);
    });

    test("arrays and bytea of some megabytes", async () => {
      const large = new Uint8Array(5_000_000).map((_, i) => i * 31);
      const rows = await ctx.db.query(echo("bytea"), [[large]]);
      expect(Buffer.compare(rows[0]?.v as Uint8Array, large)).toBe(0);
    });

    test("an int8 that a number cannot hold is an error, not another number", async () => {
      const statement = { name: "too-large", text: "select 9007199254740993 as n" };
      await expect(ctx.db.query(statement, [])).rejects.toThrow(/beyond the safe integers/);
      await expect(ctx.db.ping()).resolves.toBeUndefined();
    });

    test("arrays in a row have the same values as columns", async () => {
      const [row] = await ctx.db.query(
        { name: "arrays", text: "select array[1, null]::bigint[] as n, array['\\x00ff'::bytea] as b" },
        [],
      );
      expect(row).toStrictEqual({ n: [1, null], b: [new Uint8Array([0, 255])] });
    });

    test("the planner is told that random pages are cheap", async () => {
      const rows = await ctx.db.query({ name: "cost", text: "show random_page_cost" }, []);
      expect(rows).toEqual([{ random_page_cost: "1.1" }]);
    });

    test("errors of a statement keep what the server said, and spoil nothing", async () => {
      await sql`create table once (id int primary key)`.execute(ctx.db.kysely);
      const insert = { name: "once", text: "insert into once values ($1)" };
      await ctx.db.query(insert, [1]);
      const error = await ctx.db.query(insert, [1]).catch((e: unknown) => e);
      expect(error).toMatchObject({ code: "23505", constraint: "once_pkey", detail: "Key (id)=(1) already exists." });
      expect(isDataError(error)).toBe(true);
      const zero = await ctx.db.query(echo("text"), [["a\0b"]]).catch((e: unknown) => e);
      expect(sqlState(zero)).toBe("22021");
      expect(isDataError(zero)).toBe(true);
      await ctx.db.query(insert, [2]);
    });

    test("a transaction is alone: nobody sees or joins it before it ends", async () => {
      const { kysely } = ctx.db;
      await sql`create table ledger (entry text)`.execute(kysely);
      const entries = async () =>
        (await sql<{ entry: string }>`select entry from ledger order by entry`.execute(kysely)).rows.map(
          (r) => r.entry,
        );
      const opened = Promise.withResolvers<void>();
      const mayEnd = Promise.withResolvers<void>();
      const first = kysely.transaction().execute(async (tx) => {
        await sql`insert into ledger values ('first')`.execute(tx);
        opened.resolve();
        await mayEnd.promise;
        throw new Error("changed my mind");
      });
      await opened.promise;
      const second = kysely.transaction().execute((tx) => sql`insert into ledger values ('second')`.execute(tx));
      const plain = sql`insert into ledger values ('plain')`.execute(kysely);
      const hot = ctx.db.query({ name: "ledger", text: "insert into ledger values ('hot')" }, []);
      mayEnd.resolve();
      await expect(first).rejects.toThrow("changed my mind");
      await Promise.all([second, plain, hot]);
      expect(await entries()).toEqual(["hot", "plain", "second"]);
    });

    test("a statement that fails inside a transaction rolls it back", async () => {
      const { kysely } = ctx.db;
      await sql`create table kept (n int)`.execute(kysely);
      const broken = kysely.transaction().execute(async (tx) => {
        await sql`insert into kept values (1)`.execute(tx);
        await sql`select 1 / 0`.execute(tx);
      });
      await expect(broken).rejects.toMatchObject({ code: "22012" });
      expect((await sql`select * from kept`.execute(kysely)).rows).toEqual([]);
    });

    test("a prepared statement that a migration made stale is made anew on a new connection", async () => {
      await sql`create table shape (a int)`.execute(ctx.db.kysely);
      const read = { name: "shape", text: "select * from shape" };
      await ctx.db.query(read, []);
      await sql`alter table shape add column b int`.execute(ctx.db.kysely);
      const error = await ctx.db.query(read, []).catch((e: unknown) => e);
      expect(isUnavailable(error)).toBe(true);
      expect(isOutcomeUnknown(error)).toBe(false);
      await expect(ctx.db.query(read, [])).resolves.toEqual([]);
    });

    test("maintenance has a Kysely", async () => {
      const result = await ctx.db.maintain((kysely) => sql<{ n: number }>`select 1 as n`.execute(kysely));
      expect(result.rows).toEqual([{ n: 1 }]);
    });
  },
  { empty: true },
);

describeEachBackend(
  "closing",
  (ctx) => {
    let answers: unknown[] = [];
    beforeAll(async () => {
      const running = Array.from({ length: 20 }, (_, n) =>
        ctx.db.query({ name: "n", text: "select $1::int as n" }, [n]),
      );
      await ctx.db.close();
      answers = await Promise.all(running);
    });

    test("waits for what runs", () => {
      expect(answers).toEqual(Array.from({ length: 20 }, (_, n) => [{ n }]));
    });

    test("then refuses, in every way", async () => {
      await expect(ctx.db.query({ name: "late", text: "select 1" }, [])).rejects.toSatisfy(isUnavailable);
      await expect(ctx.db.ping()).rejects.toSatisfy(isUnavailable);
      await expect(sql`select 1`.execute(ctx.db.kysely)).rejects.toSatisfy(isUnavailable);
      await expect(ctx.db.kysely.transaction().execute(async () => 1)).rejects.toSatisfy(isUnavailable);
    });

    test("may be asked again", async () => {
      await expect(ctx.db.close()).resolves.toBeUndefined();
    });
  },
  { empty: true },
);
