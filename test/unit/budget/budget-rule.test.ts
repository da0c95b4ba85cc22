/** The section of budgets: what is read, by which name it is known, and what is told of what is wrong. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createBudgetIndex } from "../../../src/domain/budget/budget-index.ts";
import {
  budgetKey,
  keysOf,
  lineOf,
  parseBudgetKey,
  type Spender,
  shareOf,
} from "../../../src/domain/budget/budget-key.ts";
import { type BudgetRule, budgetRulesIn, MAX_BUDGETS } from "../../../src/domain/budget/budget-rule.ts";

const rulesOf = (value: unknown): readonly BudgetRule[] => {
  const read = budgetRulesIn(value, "budgets");
  if ("problems" in read) throw new Error(JSON.stringify(read.problems));
  return read.rules;
};
const problemsOf = (value: unknown): string[] => {
  const read = budgetRulesIn(value, "budgets");
  return "problems" in read ? read.problems.map(({ path, description }) => `${path} ${description}`) : [];
};

test("of two documents with a budget of one id, both hold", () => {
  const rules = [
    ...rulesOf([{ id: "all", daily_limit: 1 }]),
    ...rulesOf([{ id: "all", agent_id: "a", daily_limit: 9 }]),
  ];
  const index = createBudgetIndex(rules, "w");
  const ids = index.matching({ agentId: "a", capabilityId: undefined, principalId: "p" }).map(({ id }) => id);
  expect(ids).toEqual(["all", "all+2"]);
  expect([...index.byId.keys()]).toEqual(ids);
  // No other budget has keys among those of the second.
  const { from, to } = keysOf("all+2");
  for (const id of ["all", "all+20", "all-2", "all.2"]) {
    const key = budgetKey(id, 0, "DAILY", "MONEY", "");
    expect(key >= from && key < to, key).toBe(false);
  }
});

test("what is no key is none, and half a character is no principal", () => {
  expect(parseBudgetKey("all/20260101T000000Z/DAILY.MONEY/principal:%")).toBeUndefined();
  expect(problemsOf([{ principal_id: "a\ud800", daily_limit: 1 }])).toHaveLength(1);
  const [each] = rulesOf([{ principal_id: "*", daily_limit: 1 }]);
  expect(shareOf(each!, { agentId: "a", capabilityId: undefined, principalId: "a\ud800" })).toBe(
    "/principal:a%EF%BF%BD",
  );
});

describe("the section of budgets", () => {
  test("is read with its defaults", () => {
    const [rule] = rulesOf([
      { agent_id: "agent-001", capability_id: "premium-service", daily_limit: 100.0, description: "Daily budget" },
    ]);
    expect(rule).toEqual({
      id: "agent.agent-001.capability.premium-service",
      agentId: "agent-001",
      capabilityId: "premium-service",
      principalId: undefined,
      workspaceId: undefined,
      limits: [{ period: "DAILY", unit: "MONEY", units: 100_000_000 }],
      timeZone: "UTC",
      onFailure: "RELEASE",
      description: "Daily budget",
    });
    expect(rulesOf(undefined)).toEqual([]);
    expect(
      rulesOf([
        { id: "all", hourly_limit: "0.000001", monthly_tasks: 3, time_zone: "Asia/Kathmandu", on_failure: "CHARGE" },
      ]),
    ).toMatchObject([
      {
        id: "all",
        limits: [
          { period: "HOURLY", unit: "MONEY", units: 1 },
          { period: "MONTHLY", unit: "TASKS", units: 3 },
        ],
        timeZone: "Asia/Kathmandu",
        onFailure: "CHARGE",
      },
    ]);
  });

  test.each([
    [{}, "workspace"],
    [{ workspace_id: "*" }, "workspace"],
    [{ agent_id: "*" }, "each-agent"],
    [{ principal_id: "a/b c" }, "principal.a%2Fb%20c"],
    [{ agent_id: "a", capability_id: "*", workspace_id: "w" }, "agent.a.each-capability.workspace.w"],
  ])("a budget for %j is known as %s, whatever its limit", (selectors, id) => {
    expect(rulesOf([{ ...selectors, daily_limit: 1 }])[0]!.id).toBe(id);
    expect(rulesOf([{ ...selectors, hourly_tasks: 2 }])[0]!.id).toBe(id);
  });

  test.each([
    [{}, "budgets must be a list of budgets"],
    [[1], "budgets[0] must be a budget, as {agent_id: writer, daily_limit: 100}"],
    [
      [{ agent_id: "a" }],
      "budgets[0] needs a limit: hourly_limit, daily_limit, monthly_limit, hourly_tasks, daily_tasks, monthly_tasks",
    ],
    [[{ dayly_limit: 1, daily_tasks: 1 }], "budgets[0].dayly_limit is no field of a budget. Did you mean daily_limit?"],
    [
      [{ daily_limit: -1 }],
      'budgets[0].daily_limit must be a decimal number from 0 to 9007199254.740991 with at most 6 decimals, as 99.5 or "99.50"',
    ],
    [
      [{ daily_limit: 0.0000001 }],
      'budgets[0].daily_limit must be a decimal number from 0 to 9007199254.740991 with at most 6 decimals, as 99.5 or "99.50"',
    ],
    [[{ daily_tasks: 1.5 }], "budgets[0].daily_tasks must be a whole number from 0 on"],
    [
      [{ daily_tasks: 1, time_zone: "+01:00" }],
      "budgets[0].time_zone must be the IANA name of a time zone, as Europe/Berlin",
    ],
    [[{ daily_tasks: 1, on_failure: "KEEP" }], "budgets[0].on_failure must be RELEASE or CHARGE"],
    [
      [{ daily_tasks: 1, agent_id: "A b" }],
      'budgets[0].agent_id must be the id of one, or "*": each has a budget of its own',
    ],
    [
      [{ daily_tasks: 1 }, { daily_limit: 1 }],
      "budgets[1] is for the same as budgets[0]; put their limits into one entry, or give one of them an id",
    ],
    [
      [
        { id: "x", daily_tasks: 1 },
        { id: "x", daily_tasks: 1 },
      ],
      "budgets[1].id is also that of budgets[0]; give each its own",
    ],
  ])("%j: %s", (section, problem) => {
    expect(problemsOf(section)).toEqual([problem]);
  });

  test("has its limit", () => {
    expect(problemsOf(Array.from({ length: MAX_BUDGETS + 1 }, () => ({})))).toHaveLength(1);
  });

  test("never throws, whatever it holds", () => {
    const key = fc.constantFrom(
      "id",
      "agent_id",
      "principal_id",
      "daily_limit",
      "daily_tasks",
      "time_zone",
      "on_failure",
      "x",
    );
    fc.assert(
      fc.property(fc.oneof(fc.anything(), fc.array(fc.dictionary(key, fc.anything()))), (value) => {
        budgetRulesIn(value, "budgets");
      }),
    );
  });
});

describe("the budgets of a task", () => {
  const id = fc.constantFrom("a", "b", "c");
  const selector = fc.option(fc.constantFrom("a", "b", "*"), { nil: undefined });
  const rule = fc
    .record({ agentId: selector, capabilityId: selector, principalId: selector, workspaceId: selector })
    .map((selectors) => ({
      ...selectors,
      limits: [],
      timeZone: "UTC",
      onFailure: "RELEASE" as const,
      description: "",
    }));
  const fits = (said: string | undefined, is: string | undefined) =>
    said === undefined || (is !== undefined && (said === "*" || said === is));

  test("are found by the index as by looking at all", () => {
    const spender = fc.record({
      agentId: id,
      capabilityId: fc.option(id, { nil: undefined }),
      among: fc.uniqueArray(id),
      principalId: id,
    });
    fc.assert(
      fc.property(fc.array(rule), spender, (given, { agentId, capabilityId, among, principalId }) => {
        const rules: BudgetRule[] = given.map((one, i) => ({ ...one, id: String(i) }));
        const found = createBudgetIndex(rules, "a").matching({ agentId, capabilityId, among, principalId });
        const fitsCapability = (said: string | undefined) =>
          fits(said, capabilityId) ||
          (capabilityId === undefined && said !== undefined && among.some((one) => one === said));
        const expected = rules.filter(
          (one) =>
            fits(one.agentId, agentId) &&
            fitsCapability(one.capabilityId) &&
            fits(one.principalId, principalId) &&
            fits(one.workspaceId, "a"),
        );
        expect(found.map((one) => one.id)).toEqual(expected.map((one) => one.id));
      }),
    );
  });

  test("have keys that tell what they are, next to each other and in the order of time", () => {
    const spender: Spender = { agentId: "a", capabilityId: "c", principalId: "p/1: ü" };
    const each: BudgetRule = rulesOf([{ agent_id: "*", principal_id: "*", daily_limit: 1 }])[0]!;
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 4e12 }), fc.integer({ min: 0, max: 4e12 }), (one, two) => {
        const [startMs, later] = [one, two].map((ms) => Math.floor(ms / 1000) * 1000).sort((a, b) => a - b) as [
          number,
          number,
        ];
        const keys = [startMs, later].map((ms) => budgetKey(each.id, ms, "DAILY", "MONEY", shareOf(each, spender)));
        expect(parseBudgetKey(keys[0]!)).toEqual({
          budgetId: each.id,
          startMs,
          period: "DAILY",
          unit: "MONEY",
          agentId: "a",
          principalId: "p/1: ü",
        });
        expect(keys[0]! <= keys[1]!).toBe(true);
        expect(lineOf(keys[0]!)).toBe(lineOf(keys[1]!));
        const { from, to } = keysOf(each.id);
        for (const key of keys) expect(from <= key && key < to).toBe(true);
      }),
    );
    expect(parseBudgetKey("agent/x")).toBeUndefined();
  });
});
