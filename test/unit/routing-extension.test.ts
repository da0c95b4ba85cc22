/** What clients may say about where their task goes and how it is carried. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { STRATEGIES } from "../../src/domain/routing/strategy.ts";
import { ROUTING_EXTENSION, routingDeclaration, routingWishes } from "../../src/domain/routing-extension.ts";

const FIELD = `metadata["${ROUTING_EXTENSION}"]`;
const read = (said: unknown) => routingWishes({ [ROUTING_EXTENSION]: said });

/** The fields that are refused. */
function refused(said: unknown): string[] {
  const wishes = read(said);
  if (!Array.isArray(wishes)) return [];
  for (const { description } of wishes) expect(description).not.toBe("");
  return wishes.map(({ field }) => field);
}

test("all keys together", () => {
  const said = {
    capability: "translate",
    agent: "alpha-1",
    labels: { region: "eu", tier: "" },
    strategy: "LEAST_LOAD",
    maxCost: 0.25,
    priority: "HIGH",
    deadlineMs: 60_000,
  };
  const { maxCost: _, ...rest } = said;
  expect(read(said)).toEqual({ ...rest, maxCostMicros: 250_000 });
});

test("nothing, an empty object and keys of others say nothing", () => {
  expect(routingWishes(undefined)).toEqual({});
  expect(routingWishes({ other: { priority: 1 } })).toEqual({});
  expect(read({})).toEqual({});
  expect(read({ of: "others", toString: 1 })).toEqual({});
});

test.each([null, 1, "x", true, []])("%j is no object", (said) => {
  expect(refused(said)).toEqual([FIELD]);
});

describe.each(["capability", "agent"])("%s", (key) => {
  test.each(["a", "0", "a-b", "x".repeat(63)])("takes %j", (id) => {
    expect(read({ [key]: id })).toEqual({ [key]: id });
  });

  test.each(["", "A", "a.b", "-a", "a-", "ü", "a\n", "x".repeat(64), null, 1, [], {}, ["a"]])("refuses %j", (id) => {
    expect(refused({ [key]: id })).toEqual([`${FIELD}.${key}`]);
  });
});

describe("labels", () => {
  const many = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, i) => [`l${i}`, "v"]));
  const LONG = "x".repeat(63);

  test.each([{}, { region: "eu" }, { [LONG]: LONG }, many(16), JSON.parse('{"__proto__": "x"}')])(
    "takes %j",
    (labels) => {
      expect(read({ labels })).toEqual({ labels });
    },
  );

  test.each([null, "region=eu", ["eu"], many(17)])("refuses %j", (labels) => {
    expect(refused({ labels })).toEqual([`${FIELD}.labels`]);
  });

  test.each([
    [{ ok: "x", bad: 1 }, '["bad"]'],
    [{ bad: null, worse: [] }, '["bad"]'],
    [{ bad: `${LONG}x` }, '["bad"]'],
    [{ "": "x" }, '[""]'],
    [{ [`${LONG}x`]: "x" }, `["${LONG}…"]`],
    [{ 'a"b': 1 }, '["a\\"b"]'],
  ])("refuses %j by the label", (labels, path) => {
    expect(refused({ labels })).toEqual([`${FIELD}.labels${path}`]);
  });

  test("repeats no more of a key than can be read", () => {
    expect(refused({ labels: { ["\0".repeat(1_000_000)]: 1 } })[0]!.length).toBeLessThan(500);
  });
});

describe("strategy", () => {
  test.each(STRATEGIES)("takes %s, also in lower case", (strategy) => {
    const lower = strategy.toLowerCase();
    for (const said of [strategy, lower, lower.replaceAll("_", "-")])
      expect(read({ strategy: said })).toEqual({ strategy });
  });

  test.each(["", "LEAST", "Least_Load", "LEAST-LOAD", "leaſt_load", "least load", null, 0, ["LEAST_LOAD"], {}])(
    "refuses %j",
    (strategy) => {
      expect(refused({ strategy })).toEqual([`${FIELD}.strategy`]);
    },
  );
});

describe("routeMode", () => {
  test.each(["AUTO", "LOCAL", "REMOTE"] as const)("takes %s, also in lower case", (routeMode) => {
    for (const said of [routeMode, routeMode.toLowerCase()]) expect(read({ routeMode: said })).toEqual({ routeMode });
  });

  test.each(["", "Local", "NEAR", null, 0, [], {}])("refuses %j", (routeMode) => {
    expect(refused({ routeMode })).toEqual([`${FIELD}.routeMode`]);
  });
});

describe("maxCost", () => {
  test.each([
    [0, 0],
    [-0, 0],
    [0.000001, 1],
    [1.1, 1_100_000],
    [1e3, 1_000_000_000],
    [9_007_199_254, 9_007_199_254_000_000],
    ["0", 0],
    ["007.5", 7_500_000],
    ["0.000001", 1],
    ["9007199254.740991", Number.MAX_SAFE_INTEGER],
  ])("takes %j", (maxCost, micros) => {
    expect(read({ maxCost })).toEqual({ maxCostMicros: micros });
  });

  test.each([
    ...[-1, -0.000001, 0.0000001, 1e-300, 0.1234567, 9_007_199_255, 1e20, Number.NaN, Number.POSITIVE_INFINITY],
    ...["", "-1", "+1", "1.", ".5", "1e3", "0.0000001", "1,5", " 1", "1\n", "9007199254.740992", "99999999999"],
    ...[null, true, [], {}, [1]],
  ])("refuses %j", (maxCost) => {
    expect(refused({ maxCost })).toEqual([`${FIELD}.maxCost`]);
  });

  test("is exact for every sum, as a number and as a text", () => {
    const sum = fc.oneof(fc.nat({ max: 10_000_000 }), fc.integer({ min: 0, max: 1_000_000_000_000_000 }));
    fc.assert(
      fc.property(sum, (micros) => {
        const text = `${Math.floor(micros / 1_000_000)}.${String(micros % 1_000_000).padStart(6, "0")}`;
        expect(read({ maxCost: text })).toEqual({ maxCostMicros: micros });
        expect(read({ maxCost: Number(text) })).toEqual({ maxCostMicros: micros });
      }),
    );
  });
});

test("whatever is said, it is read or refused by path", () => {
  const known = ["capability", "agent", "labels", "strategy", "maxCost", "priority", "deadlineMs", "routeMode"];
  fc.assert(
    fc.property(fc.dictionary(fc.constantFrom(...known), fc.jsonValue()), (said) => {
      for (const field of refused(said)) expect(field).toMatch(/^metadata\["[a-z0-9:]+"\]\.[a-zA-Z]+(\[".*"\])?$/s);
    }),
  );
});

test("everything that is wrong is told at once", () => {
  const said = {
    capability: "",
    agent: 1,
    labels: [],
    strategy: "x",
    maxCost: -1,
    priority: "URGENT",
    deadlineMs: 0,
    routeMode: "AWAY",
  };
  expect(refused(said)).toEqual(Object.keys(said).map((key) => `${FIELD}.${key}`));
});

test("its declaration names all keys", () => {
  const { description } = routingDeclaration();
  for (const key of ["capability", "agent", "labels", "strategy", "maxCost", "priority", "deadlineMs", "routeMode"]) {
    expect(description).toContain(key);
  }
});
