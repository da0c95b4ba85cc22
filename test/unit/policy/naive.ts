/** A policy as docs/policy.md tells it, in the plainest way: every rule is looked at, one after another. For comparison only. */
import type { Condition, PolicyDocument, PolicyRule, Requirement, Test } from "../../../src/domain/policy/document.ts";
import type { Facts, PolicyPhase } from "../../../src/domain/policy/facts.ts";
import type { RuleRef, Verdict } from "../../../src/domain/policy/verdict.ts";

const ORDER = ["CAPABILITY", "AGENT", "TENANT", "GLOBAL"];
const PRIORITIES = ["BACKGROUND", "LOW", "NORMAL", "HIGH", "CRITICAL"];

/** The effect and the paths of the rules that decide. Expressions are not for it. */
export function naiveVerdict(
  documents: readonly PolicyDocument[],
  phase: PolicyPhase,
  facts: Facts,
): { effect: Verdict["effect"]; rules: string[] } {
  const rules = documents.flatMap((document) => document.rules);
  const asked = rules.filter((rule) => (phase === "CANDIDATE" ? rule.phase !== "RESULT" : rule.phase === phase));
  const matching = asked.filter((rule) => holds(rule, facts));
  const of = (effect: RuleRef["effect"]) => matching.filter(({ ref }) => ref.effect === effect);
  const isClosed = documents.some((document) => document.default === "DENY");
  const laterAllow =
    phase === "ADMISSION" && rules.some((rule) => rule.phase === "CANDIDATE" && rule.ref.effect === "ALLOW");
  const otherwise = isClosed && phase !== "RESULT" && !laterAllow ? "DENY" : "ALLOW";

  if (of("DENY").length > 0) return { effect: "DENY", rules: told(of("DENY").map(({ ref }) => ref)) };
  const unmet = of("REQUIRE").flatMap((rule) => missing(rule.then!, rule.ref, facts));
  if (unmet.length > 0) return { effect: "DENY", rules: told(unmet) };
  if (of("ALLOW").length === 0 && otherwise === "DENY") return { effect: "DENY", rules: [] };
  const approvals = of("REQUIRE").flatMap((rule) => wanted(rule.then!, rule.ref, facts));
  if (approvals.length > 0) return { effect: "REQUIRE_APPROVAL", rules: told(approvals) };
  return { effect: "ALLOW", rules: told(of("ALLOW").map(({ ref }) => ref)) };

  /** The most specific first, then in the order of the documents; each once, and 16 at most. */
  function told(refs: readonly RuleRef[]): string[] {
    const all = rules.flatMap(withNested).map(({ ref }) => ref);
    return [...new Set(refs)]
      .sort((a, b) => ORDER.indexOf(a.scope) - ORDER.indexOf(b.scope) || all.indexOf(a) - all.indexOf(b))
      .slice(0, 16)
      .map(({ path }) => path);
  }
}

const withNested = (rule: PolicyRule): PolicyRule[] => [rule, ...(rule.then?.rules.flatMap(withNested) ?? [])];

function missing({ rules, minimumReputation }: Requirement, ref: RuleRef, facts: Facts): RuleRef[] {
  const of = (effect: RuleRef["effect"]) => rules.filter((rule) => rule.ref.effect === effect);
  const matching = rules.filter((rule) => holds(rule, facts));
  const score = facts.reputation_score as number | undefined;
  const isPoor = minimumReputation !== undefined && (score === undefined || score < minimumReputation);
  const isNotAllowed = of("ALLOW").length > 0 && !matching.some((rule) => rule.ref.effect === "ALLOW");
  return [
    ...matching.filter((rule) => rule.ref.effect === "DENY").map((rule) => rule.ref),
    ...matching.filter((rule) => rule.then).flatMap((rule) => missing(rule.then!, rule.ref, facts)),
    ...(isPoor || isNotAllowed ? [ref] : []),
  ];
}

const wanted = ({ rules, approval }: Requirement, ref: RuleRef, facts: Facts): RuleRef[] => [
  ...(approval ? [ref] : []),
  ...rules.filter((rule) => rule.then && holds(rule, facts)).flatMap((rule) => wanted(rule.then!, rule.ref, facts)),
];

const holds = (rule: PolicyRule, facts: Facts): boolean => rule.when.every((condition) => isMet(condition, facts));

function isMet({ fact, tests }: Condition, facts: Facts): boolean {
  const value = fact.startsWith("labels.") ? facts.labels?.[fact.slice("labels.".length)] : facts[fact];
  const values = (Array.isArray(value) ? value : value === undefined ? [] : [value]) as (string | number)[];
  return tests.every((test) => passes(test, values, fact));
}

function passes(test: Test, values: readonly (string | number)[], fact: string): boolean {
  const numbers = values.map((value) => (fact === "task_priority" ? PRIORITIES.indexOf(String(value)) : Number(value)));
  switch (test.operator) {
    case "in":
      return values.some((value) => test.values.includes(value));
    case "not_in":
      return values.every((value) => !test.values.includes(value));
    case "matches":
      return values.some((value) => new RegExp(test.pattern).test(String(value)));
    case "exists":
      return values.length > 0 === test.exists;
    case "<":
      return numbers.some((value) => value < test.value);
    case "<=":
      return numbers.some((value) => value <= test.value);
    case ">":
      return numbers.some((value) => value > test.value);
    case ">=":
      return numbers.some((value) => value >= test.value);
  }
}
