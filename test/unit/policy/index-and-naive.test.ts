/** What is found by the index is what is found by looking at every rule. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { compilePolicy } from "../../../src/domain/policy/compile.ts";
import type { PolicyDocument } from "../../../src/domain/policy/document.ts";
import type { Facts, PolicyPhase } from "../../../src/domain/policy/facts.ts";
import { readPolicy } from "../../../src/domain/policy/read.ts";
import { naiveVerdict } from "./naive.ts";

// Few values, so that rules and facts meet.
const anyWord = fc.constantFrom("a", "b", "c", "d");
const anyScore = fc.integer({ min: 0, max: 4 }).map((n) => n / 4);
const anyPriority = fc.constantFrom("BACKGROUND", "LOW", "NORMAL", "HIGH", "CRITICAL");
const TEXTS = ["agent_id", "capability_id", "principal_id", "workspace_id", "parent_agent_id", "labels.k", "labels.l"];
const LISTS = ["principal_roles", "input_modes"];
const NUMBERS = ["reputation_score", "cost", "message_bytes"];

const anyTextTest = fc.oneof(
  anyWord,
  fc.array(anyWord, { minLength: 1, maxLength: 3 }),
  anyWord.map((word) => ({ "==": word })),
  anyWord.map((word) => ({ "!=": word })),
  fc.array(anyWord, { minLength: 1, maxLength: 3 }).map((words) => ({ in: words })),
  fc.array(anyWord, { minLength: 1, maxLength: 3 }).map((words) => ({ not_in: words })),
  anyWord.map((word) => ({ matches: `^[${word}x]` })),
  fc.boolean().map((exists) => ({ exists })),
  fc.tuple(anyWord, anyWord).map(([one, other]) => ({ in: ["a", one], "!=": other })),
);
const anyNumberTest = fc.oneof(
  anyScore,
  fc
    .tuple(fc.constantFrom("<", "<=", ">", ">=", "==", "!="), anyScore)
    .map(([operator, bound]) => ({ [operator]: bound })),
  fc.tuple(anyScore, anyScore).map(([least, most]) => ({ ">=": least, "<": most })),
  fc.boolean().map((exists) => ({ exists })),
);
const anyPriorityTest = fc.oneof(
  anyPriority,
  fc.tuple(fc.constantFrom("<", "<=", ">", ">="), anyPriority).map(([operator, bound]) => ({ [operator]: bound })),
);
const anyCondition = fc.oneof(
  { weight: 4, arbitrary: fc.tuple(fc.constantFrom(...TEXTS, ...LISTS), anyTextTest) },
  { weight: 2, arbitrary: fc.tuple(fc.constantFrom(...NUMBERS), anyNumberTest) },
  fc.tuple(fc.constant("task_priority"), anyPriorityTest),
);
const anyWhen = fc.array(anyCondition, { maxLength: 3 }).map((conditions) => Object.fromEntries(conditions));
const anyScope = fc.constantFrom("GLOBAL", "TENANT", "WORKSPACE", "AGENT", "CAPABILITY", undefined);

/** A value with a property `then` looks like a promise to a linter, so it gets that name late. */
const renamed = ([key, value]: [string, unknown]): [string, unknown] => [key === "items" ? "then" : key, value];

const { anyRule } = fc.letrec<{ anyRule: Record<string, unknown>; anyItem: unknown }>((tie) => ({
  anyRule: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    fc.record({ effect: fc.constantFrom("ALLOW", "DENY"), scope: anyScope, when: anyWhen }),
    fc
      .tuple(anyScope, anyWhen, fc.array(tie("anyItem"), { minLength: 1, maxLength: 3 }))
      .map(([scope, when, items]) =>
        Object.fromEntries(Object.entries({ effect: "REQUIRE", scope, when, items }).map(renamed)),
      ),
  ),
  anyItem: fc.oneof(
    { weight: 3, arbitrary: tie("anyRule") },
    fc.constant({ approval: true }),
    anyScore.map((minimum) => ({ minimum_reputation: minimum })),
  ),
}));

const anyDocument = fc
  .record({
    version: fc.constant(1),
    default: fc.constantFrom("ALLOW", "DENY", undefined),
    rules: fc.array(fc.tuple(anyRule, fc.constantFrom(undefined, "CANDIDATE", "RESULT")), { maxLength: 40 }),
  })
  .map(({ rules, ...rest }) => ({ ...rest, rules: rules.map(([rule, on]) => ({ ...rule, on })) }))
  // JSON is YAML. What is undefined is left out.
  .map((document) => readPolicy(JSON.stringify(document)))
  .filter((read): read is { document: PolicyDocument } => "document" in read)
  .map(({ document }) => document);

const maybe = <V>(any: fc.Arbitrary<V>) => fc.option(any, { nil: undefined, freq: 4 });
const anyFacts = fc.record({
  ...Object.fromEntries(TEXTS.filter((name) => !name.includes(".")).map((name) => [name, maybe(anyWord)])),
  ...Object.fromEntries(LISTS.map((name) => [name, maybe(fc.array(anyWord, { maxLength: 3 }))])),
  reputation_score: maybe(anyScore),
  cost: maybe(anyScore.map((units) => units * 1e6)),
  message_bytes: maybe(fc.integer({ min: 0, max: 1 })),
  task_priority: maybe(anyPriority),
  labels: maybe(fc.record({ k: anyWord, l: anyWord }, { requiredKeys: [] })),
}) as fc.Arbitrary<Facts>;
const anyPhase = fc.constantFrom<PolicyPhase>("ADMISSION", "CANDIDATE", "RESULT");

test("index and naive evaluation agree on random policies and facts", () => {
  fc.assert(
    fc.property(
      fc.array(anyDocument, { minLength: 1, maxLength: 2 }),
      fc.array(fc.tuple(anyPhase, anyFacts), { minLength: 20, maxLength: 20 }),
      (documents, questions) => {
        const policy = compilePolicy(documents);
        for (const [phase, facts] of questions) {
          const { effect, rules } = policy.decide(phase, facts);
          expect({ effect, rules: rules.map(({ path }) => path) }).toEqual(naiveVerdict(documents, phase, facts));
          if (!policy.matters(phase)) expect(effect).toBe("ALLOW");
          const { output_state: _, ...before } = facts;
          if (phase === "RESULT" && effect !== "ALLOW") expect(policy.guards(before)).toBe(true);
        }
      },
    ),
    { numRuns: 100 },
  );
});
