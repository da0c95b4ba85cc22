/**
 * Makes a policy of documents. All their rules act together: any DENY that matches refuses; otherwise any REQUIRE that matches and
 * is not met; otherwise what an ALLOW or the default says. Nothing here reads a clock or keeps anything of what it was asked.
 */

import { type CompileContext, createCompileContext } from "./compile-context.ts";
import { type CompiledRule, compileRule, type Ranked, type Shortfall } from "./compiled-rule.ts";
import { type Predicate, predicateOf } from "./condition.ts";
import type { DefaultEffect, PolicyDocument, PolicyRule } from "./document.ts";
import { labelKey } from "./fact-table.ts";
import type { Facts, PolicyPhase } from "./facts.ts";
import { indexRules, type RuleIndex } from "./rule-index.ts";
import { type ApprovalTerms, type CompiledPolicy, MAX_REPORTED_RULES, type RuleRef, type Verdict } from "./verdict.ts";

/** What is asked in one phase. */
interface PhaseRules {
  readonly index: RuleIndex;
  /** Whether any of its rules could refuse. */
  readonly refuses: boolean;
  readonly otherwise: Verdict;
}

const ALLOWED: Verdict = { effect: "ALLOW", rules: [] };
const DENIED: Verdict = { effect: "DENY", rules: [] };

/**
 * `documents` are the server's files and the workspace's own, read by `readPolicy`. `fallback` is the default where no document says
 * one; where one says DENY, it is DENY whatever the others say.
 */
export function compilePolicy(documents: readonly PolicyDocument[], fallback: DefaultEffect = "ALLOW"): CompiledPolicy {
  const steps = policySteps(documents, fallback);
  for (;;) {
    const { done, value } = steps.next();
    if (done) return value;
  }
}

/** The same in small steps, between which others may have their turn: tens of thousands of rules take a second. */
export function* policySteps(
  documents: readonly PolicyDocument[],
  fallback: DefaultEffect,
): Generator<void, CompiledPolicy> {
  const context = createCompileContext();
  let count = 0;
  const order = () => count++;
  const rules: CompiledRule[] = [];
  for (const document of documents) {
    for (const rule of document.rules) {
      rules.push(compileRule(rule, context, order));
      yield;
    }
  }
  const isClosed = defaultOf(documents, fallback) === "DENY";
  const isOpenLater = rules.some(({ rule }) => rule.ref.effect === "ALLOW" && rule.phase === "CANDIDATE");
  const closed = (is: boolean) => (is ? DENIED : ALLOWED);
  const of = (...phases: PolicyPhase[]) => rules.filter(({ rule }) => phases.includes(rule.phase));
  const phases: Record<PolicyPhase, PhaseRules> = {
    // Nothing is refused for want of an ALLOW while one may still come.
    ADMISSION: yield* phaseRules(of("ADMISSION"), closed(isClosed && !isOpenLater), context),
    CANDIDATE: yield* phaseRules(of("ADMISSION", "CANDIDATE"), closed(isClosed), context),
    RESULT: yield* phaseRules(of("RESULT"), ALLOWED, context),
  };
  const guarding: Predicate[] = [];
  for (const { rule } of of("RESULT")) {
    guarding.push(couldMatch(rule, context));
    yield;
  }
  return {
    matters(phase) {
      const { refuses, otherwise } = phases[phase];
      return refuses || otherwise.effect === "DENY";
    },
    decide(phase, facts) {
      context.begin();
      return decide(phases[phase], facts);
    },
    guards(facts) {
      context.begin();
      return guarding.some((could) => could(facts));
    },
  };
}

function defaultOf(documents: readonly PolicyDocument[], fallback: DefaultEffect): DefaultEffect {
  const said = documents.flatMap((document) => document.default ?? []);
  if (said.length === 0) return fallback;
  return said.includes("DENY") ? "DENY" : "ALLOW";
}

function* phaseRules(
  rules: readonly CompiledRule[],
  otherwise: Verdict,
  context: CompileContext,
): Generator<void, PhaseRules> {
  const index = yield* indexRules(rules, context);
  return { index, refuses: rules.some(({ rule }) => rule.ref.effect !== "ALLOW"), otherwise };
}

function decide({ index, otherwise }: PhaseRules, facts: Facts): Verdict {
  const matching = index.matching(facts);
  if (matching.length === 0) return otherwise;
  const denying = ofEffect(matching, "DENY");
  if (denying.length > 0) return { effect: "DENY", rules: refs(denying) };
  const found: Shortfall = { unmet: [], approvals: [] };
  for (const { require } of matching) require?.(facts, found);
  if (found.unmet.length > 0) return { effect: "DENY", rules: reported(found.unmet) };
  const allowing = ofEffect(matching, "ALLOW");
  // Approval does not stand in for the ALLOW that a closed policy asks for.
  if (allowing.length === 0 && otherwise.effect === "DENY") return otherwise;
  if (found.approvals.length > 0) return awaiting(found.approvals);
  return allowing.length > 0 ? { effect: "ALLOW", rules: refs(allowing) } : otherwise;
}

function ofEffect(rules: readonly CompiledRule[], effect: RuleRef["effect"]): readonly CompiledRule[] {
  // Most often all are of one effect, and no list is to be made.
  return rules.every((rule) => rule.effect === effect) ? rules : rules.filter((rule) => rule.effect === effect);
}

function awaiting(approvals: readonly Ranked<ApprovalTerms>[]): Verdict {
  const terms = approvals.toSorted((a, b) => a.rank - b.rank).map(({ value }) => value);
  const rules = terms.map(({ rule }) => rule).slice(0, MAX_REPORTED_RULES);
  return { effect: "REQUIRE_APPROVAL", rules, approval: together(terms) };
}

/** One approval for all: in the shortest of their times, by somebody whom each of them takes. */
export function together(all: readonly ApprovalTerms[]): ApprovalTerms {
  const terms = [...new Set(all)];
  const [first] = terms;
  if (terms.length === 1) return first!;
  const lists = terms.flatMap((each) => [each.approvers, ...(each.also ?? [])]).filter((list) => list.length > 0);
  const [approvers = [], ...also] = new Set(lists);
  return {
    rule: first!.rule,
    expiresMs: Math.min(...terms.map(({ expiresMs }) => expiresMs)),
    approvers,
    self: terms.every(({ self }) => self),
    ...(also.length > 0 && { also }),
  };
}

const refs = (rules: readonly CompiledRule[]): RuleRef[] =>
  reported(rules.map(({ rank, ref }) => ({ rank, value: ref })));

function reported(found: readonly Ranked<RuleRef>[]): RuleRef[] {
  if (found.length === 1) return [found[0]!.value];
  const sorted = found.toSorted((a, b) => a.rank - b.rank).map(({ value }) => value);
  return [...new Set(sorted)].slice(0, MAX_REPORTED_RULES);
}

/** Whether a rule could match once all is known: conditions on what is not known yet are taken to hold. */
function couldMatch({ when, timeZone }: PolicyRule, context: CompileContext): Predicate {
  const conditions = when.map((condition) => {
    const { test } = predicateOf(condition, timeZone, context);
    const key = labelKey(condition.fact);
    return (facts: Facts): boolean => {
      const isKnown = key === undefined ? facts[condition.fact] !== undefined : facts.labels !== undefined;
      return !isKnown || test(facts);
    };
  });
  return (facts) => conditions.every((could) => could(facts));
}
