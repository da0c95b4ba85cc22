/** What the policy says of the agents that one search finds: each is decided about once. */
import type { RouteDecision } from "../../gen/signalbox/v1/routing_pb.ts";
import type { SignalboxError } from "../domain/errors.ts";
import { together } from "../domain/policy/compile.ts";
import type { Facts } from "../domain/policy/facts.ts";
import { type ApprovalTerms, MAX_REPORTED_RULES, type Verdict } from "../domain/policy/verdict.ts";
import type { ActivePolicy } from "./policies.ts";
import { decisionOf, policyDenied } from "./policy-decision.ts";
import { candidateFacts, keptFacts, type LookedFor } from "./policy-facts.ts";
import type { Possible } from "./routing/offers.ts";

/** Decides about agents that may take a task. */
export interface Judge {
  /** What is asked again is what was said before. */
  of(offer: Possible): Verdict;
  /** What a client is told of an agent that is refused. */
  refusal(offer: Possible, verdict: Verdict): SignalboxError;
}

/** What is said of the agents that a search finds. */
export interface SearchPolicy {
  /** Undefined where no rule is about agents: each may take it. */
  readonly judge: Judge | undefined;
  /**
   * Notes in a decision what was said of the agent that was chosen, and of what. Returns on what terms the task must be
   * approved first, if it must.
   */
  note(decision: RouteDecision, chosen: Possible): ApprovalTerms | undefined;
}

export interface SearchPolicyDeps {
  readonly active: ActivePolicy;
  /** What is known of the request. */
  readonly asked: Facts;
  /** How far an agent is trusted for what it offers. */
  readonly score: (offer: Possible) => number | undefined;
  /** Decides about an agent by all that is known then. */
  readonly decide: (facts: Facts) => Verdict;
  /** What a verdict comes to. */
  readonly settle: (verdict: Verdict) => Verdict;
}

/** A verdict, and as what its agent was decided about: of one that was named alone, what of its offers was refused, if any was. */
interface Judged {
  readonly reading: Possible;
  readonly verdict: Verdict;
}

export function createSearchPolicy(
  { active, asked, score, decide, settle }: SearchPolicyDeps,
  looked: LookedFor,
): SearchPolicy {
  const known = new Map<object, Judged>();

  function judged(offer: Possible): Judged {
    // Each of them is of one agent, and stays the same while it does not change.
    const key = offer.capability ?? offer.among ?? offer.agent;
    let found = known.get(key);
    if (!found) {
      const { reading, verdict } = judgedAnew(offer);
      found = { reading, verdict: settle(verdict) };
      known.set(key, found);
    }
    return found;
  }

  /**
   * Whoever names an agent alone asks for anything that it does: it must be allowed for all that it offers, and for what is none
   * of that.
   */
  function judgedAnew(offer: Possible): Judged {
    const itself = decideOne(offer);
    if (offer.capability || !offer.among) return itself;
    return strictest([itself, ...offer.among.map((capability) => decideOne({ agent: offer.agent, capability }))]);
  }

  const decideOne = (reading: Possible): Judged => ({
    reading,
    verdict: decide(candidateFacts(asked, reading, looked, score(reading))),
  });

  const judge: Judge | undefined = active.compiled.matters("CANDIDATE")
    ? {
        of: (offer) => judged(offer).verdict,
        refusal: ({ agent }, verdict) =>
          policyDenied(active, verdict, `Policy does not let agent "${agent.agentId}" take this`),
      }
    : undefined;

  return {
    judge,
    note(decision, chosen) {
      const { reading, verdict } = judge ? judged(chosen) : { reading: chosen };
      decision.policyFacts = keptFacts(asked, reading, looked, decision);
      if (verdict) decision.policy = decisionOf(active, "CANDIDATE", verdict);
      return verdict?.approval;
    },
  };
}

/** What all of them allow: the first that refuses, else one approval that does for each that wants one. */
function strictest(all: readonly Judged[]): Judged {
  const of = (effect: Verdict["effect"]) => all.filter(({ verdict }) => verdict.effect === effect);
  const [denied] = of("DENY");
  if (denied) return denied;
  const asking = of("REQUIRE_APPROVAL");
  const [first] = asking;
  if (!first) return all[0]!;
  const verdicts = asking.map(({ verdict }) => verdict);
  const rules = [...new Set(verdicts.flatMap((each) => each.rules))].slice(0, MAX_REPORTED_RULES);
  const approval = together(verdicts.flatMap((each) => each.approval ?? []));
  return { ...first, verdict: { ...first.verdict, rules, approval } };
}
