/** Arrays in binary: what PostgreSQL reads is what was written, and it reads all types of the hot statements. */
import fc from "fast-check";
import { expect, it, test } from "vitest";
import { isDataError } from "../../src/store/database-errors.ts";
import {
  type ArrayOf,
  boolArray,
  byteaArray,
  float8Array,
  int2Array,
  int4Array,
  int8Array,
  textArray,
  timestamptzArray,
} from "../../src/store/pg-arrays.ts";
import { describeEachBackend } from "./backends.ts";

const text = fc.string({ unit: "binary" }).map((s) => s.replaceAll("\0", "").toWellFormed());
const bits = (n: number) => ({ min: -(2 ** (n - 1)), max: 2 ** (n - 1) - 1 });
// What node-postgres reads as a Date; the ends of timestamptz are below.
const time = fc.date({ min: new Date("0001-01-01"), max: new Date("9999-12-31T23:59:59.999Z"), noInvalidDate: true });

const TYPES: [type: string, array: ArrayOf<never>, values: fc.Arbitrary<unknown>][] = [
  ["text", textArray, text],
  ["bytea", byteaArray, fc.uint8Array({ maxLength: 300 })],
  ["boolean", boolArray, fc.boolean()],
  ["smallint", int2Array, fc.integer(bits(16))],
  ["integer", int4Array, fc.integer(bits(32))],
  ["bigint", int8Array, fc.maxSafeInteger()],
  ["double precision", float8Array, fc.double({ noNaN: true }).filter((n) => !Object.is(n, -0))],
  ["timestamptz", timestamptzArray, time],
];

const all = <Value>(array: ArrayOf<Value>, values: readonly (Value | null | undefined)[]) => array(values, (v) => v);

describeEachBackend(
  "binary arrays",
  (ctx) => {
    /** What comes back, whole: NULL too, and an array that was empty or not sent. */
    const echo = async (type: string, array: Buffer | null) => {
      const statement = {
        name: `binary-${type}`,
        text: `select v from unnest($1::${type}[]) with ordinality as u(v, n) order by n`,
      };
      return (await ctx.db.query(statement, [array])).map((row) => row.v);
    };

    test.each(TYPES)("of %s come back as they went", async (type, array, values) => {
      await fc.assert(
        fc.asyncProperty(fc.array(fc.option(values), { maxLength: 30 }), async (sent) => {
          const nothing = sent.length > 0 && sent.every((value) => value === null);
          const encoded = all(array as ArrayOf<unknown>, sent);
          expect(encoded === null).toBe(nothing);
          expect(await echo(type, encoded)).toStrictEqual(nothing ? [] : sent);
        }),
        { numRuns: 60 },
      );
    });

    it("makes one dimension that begins at 1, and none when there is nothing", async () => {
      const statement = {
        name: "dimensions",
        text: "select array_dims($1::text[]) as some, $2::text[] = '{}' as none",
      };
      const [row] = await ctx.db.query(statement, [all(textArray, ["a", undefined]), all(textArray, [])]);
      expect(row).toEqual({ some: "[1:2]", none: true });
    });

    it("keeps times of all centuries, to the millisecond", async () => {
      const times = [
        "-004000-01-01",
        "1969-12-31T23:59:59.999Z",
        "1999-12-31T23:59:59.999Z",
        "2286-01-01T00:00:00.001Z",
      ];
      const dates = [...times, "+275760-09-13"].map((at) => new Date(at));
      const statement = {
        name: "milliseconds",
        text: "select (extract(epoch from v) * 1000)::bigint as ms from unnest($1::timestamptz[]) as u(v)",
      };
      const rows = await ctx.db.query(statement, [all(timestamptzArray, dates)]);
      expect(rows.map(({ ms }) => ms)).toEqual(dates.map((date) => date.getTime()));
    });

    it("holds arrays of some megabytes, and many that are kept", async () => {
      const large = new Uint8Array(5_000_000).map((_, i) => i * 31);
      const kept = Array.from({ length: 3_000 }, (_, i) => all(textArray, [`the ${i}th`, "ü".repeat(i % 100)]));
      const [bytes] = await echo("bytea", all(byteaArray, [new Uint8Array([1]), large.subarray(7)])).then((v) =>
        v.slice(1),
      );
      expect(Buffer.compare(bytes as Uint8Array, large.subarray(7))).toBe(0);
      for (const i of [0, 999, 2_999])
        expect(await echo("text", kept[i]!)).toEqual([`the ${i}th`, "ü".repeat(i % 100)]);
    });

    it("leaves to PostgreSQL what only PostgreSQL refuses: a zero byte, and a time before its first", async () => {
      for (const [type, array] of [
        ["text", all(textArray, ["a\0b"])],
        ["timestamptz", all(timestamptzArray, [new Date(-8.64e15)])],
      ] as const) {
        const error = await echo(type, array).catch((e: unknown) => e);
        expect(isDataError(error), type).toBe(true);
      }
    });
  },
  { empty: true },
);

it("throws rather than to write another value", () => {
  for (const write of [
    () => all(int2Array, [40_000]),
    () => all(int4Array, [2 ** 31]),
    () => all(int4Array, [1.5]),
    () => all(int8Array, [2 ** 53]),
    () => all(timestamptzArray, [new Date(Number.NaN)]),
  ])
    expect(write).toThrow(RangeError);
  // And goes on with the next.
  expect(all(int2Array, [1])?.length).toBe(26);
});
