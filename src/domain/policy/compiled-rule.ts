/** A rule as closures: whether it matches, and what it requires. */

import type { CompileContext } from "./compile-context.ts";
import { type Predicate, predicateOf, readerOf } from "./condition.ts";
import type { Condition, PolicyRule, Requirement } from "./document.ts";
import { factOf } from "./fact-table.ts";
import type { Facts } from "./facts.ts";
import { dayText, timeText } from "./operand.ts";
import type { ApprovalTerms, RuleRef } from "./verdict.ts";

export interface CompiledRule {
  readonly rule: PolicyRule;
  readonly ref: RuleRef;
  readonly effect: RuleRef["effect"];
  /** Its place in reports: the most specific first, then in the order of the documents. */
  readonly rank: number;
  /** Whether it matches where those of its conditions hold that are left out. */
  test(conditions: readonly Condition[]): Predicate;
  /** Of a REQUIRE. */
  readonly require: ((facts: Facts, found: Shortfall) => void) | undefined;
}

/** What is missing, of all the requirements that were asked. */
export interface Shortfall {
  readonly unmet: Ranked<RuleRef>[];
  readonly approvals: Ranked<ApprovalTerms>[];
}

export interface Ranked<V> {
  readonly rank: number;
  readonly value: V;
}

const SPECIFICITY: Readonly<Record<RuleRef["scope"], number>> = { CAPABILITY: 0, AGENT: 1, TENANT: 2, GLOBAL: 3 };

/** `order` numbers rules, those that are nested too. */
export function compileRule(rule: PolicyRule, context: CompileContext, order: () => number): CompiledRule {
  const rank = SPECIFICITY[rule.ref.scope] * 2 ** 40 + order();
  const { then } = rule;
  return {
    rule,
    ref: rule.ref,
    effect: rule.ref.effect,
    rank,
    test: (conditions) => matcherOf(rule, conditions, context),
    require: then && requirementOf(then, rule.ref, rank, context, order),
  };
}

/**
 * All conditions hold. One of which nothing can be known, because it throws, does not keep the others from saying no. If none
 * does, a rule that refuses or requires matches, and one that allows does not: what cannot be decided is not allowed.
 */
function matcherOf(
  { ref, timeZone, expr }: PolicyRule,
  when: readonly Condition[],
  context: CompileContext,
): Predicate {
  const compiled = when
    .toSorted((a, b) => costOf(a) - costOf(b))
    .map((condition) => predicateOf(condition, timeZone, context));
  const sure = all(compiled.filter(({ mayThrow }) => !mayThrow).map(({ test }) => test));
  const unsure = compiled.filter(({ mayThrow }) => mayThrow).map(({ test }) => test);
  if (expr !== undefined) unsure.push(expressionOf(expr, timeZone, context));
  if (unsure.length === 0) return sure;
  const undecided = ref.effect !== "ALLOW";
  return (facts) => {
    if (!sure(facts)) return false;
    let holds = true;
    for (const test of unsure) {
      try {
        if (!test(facts)) return false;
      } catch {
        holds = undecided;
      }
    }
    return holds;
  };
}

function all(tests: readonly Predicate[]): Predicate {
  const [first, second, ...more] = tests;
  if (first === undefined) return () => true;
  if (second === undefined) return first;
  if (more.length === 0) return (facts) => first(facts) && second(facts);
  return (facts) => tests.every((test) => test(facts));
}

/** Cheap ones, and those that are seldom true, come first. */
function costOf({ tests, fact }: Condition): number {
  if (tests.some(({ operator }) => operator === "matches")) return 3;
  if (factOf(fact)!.info.isOfClock) return 2;
  return tests.some(({ operator }) => operator === "in") ? 0 : 1;
}

function expressionOf(text: string, timeZone: string, context: CompileContext): Predicate {
  const readers = new Map<string, (facts: Facts) => unknown>();
  const { facts: names, holds } = context.expression(text);
  for (const name of names) readers.set(name, valueReader(name, timeZone, context));
  return (facts) => holds((name) => readers.get(name)!(facts));
}

/** A fact as an expression gets it: as documents write it. */
function valueReader(name: string, timeZone: string, context: CompileContext): (facts: Facts) => unknown {
  if (name === "labels") return ({ labels }) => labels;
  const read = readerOf(name, timeZone, context);
  const { kind } = factOf(name)!.info;
  if (kind !== "date" && kind !== "time") return read;
  const text = kind === "date" ? dayText : timeText;
  return (facts) => {
    const value = read(facts);
    return value === undefined ? undefined : text(value as number);
  };
}

function requirementOf(
  { rules, minimumReputation, approval }: Requirement,
  ref: RuleRef,
  rank: number,
  context: CompileContext,
  order: () => number,
): (facts: Facts, found: Shortfall) => void {
  const compiled = rules.map((rule) => {
    const made = compileRule(rule, context, order);
    return { ...made, matches: made.test(rule.when) };
  });
  const of = (effect: RuleRef["effect"]) => compiled.filter(({ rule }) => rule.ref.effect === effect);
  const [allows, denies, requires] = [of("ALLOW"), of("DENY"), of("REQUIRE")];
  const terms = approval && { rank, value: { rule: ref, ...approval } };
  return (facts, found) => {
    for (const deny of denies) if (deny.matches(facts)) found.unmet.push({ rank: deny.rank, value: deny.rule.ref });
    for (const each of requires) if (each.matches(facts)) each.require?.(facts, found);
    const isAllowed = allows.length === 0 || allows.some(({ matches }) => matches(facts));
    // Written so that an unknown score is too low.
    const isReputed = minimumReputation === undefined || (facts.reputation_score as number) >= minimumReputation;
    if (!isAllowed || !isReputed) found.unmet.push({ rank, value: ref });
    if (terms) found.approvals.push(terms);
  };
}
