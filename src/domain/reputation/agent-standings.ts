/**
 * The standings of one agent: as a whole, and for each capability of which something was seen. A capability begins with the trust
 * and the score of the agent as a whole. What changes a standing says which, so that it can be stored. Pure.
 */
import type { Outcome } from "./outcome.ts";
import {
  foldJudgement,
  foldTask,
  type Judgement,
  newStanding,
  type Standing,
  scoreAt,
  setTrust,
  trustAt,
} from "./standing.ts";
import type { TrustRule } from "./trust-rule.ts";

/** The capability that stands for the agent as a whole. */
export const WHOLE = "";

/** By capability. */
export type AgentStandings = Map<string, Standing>;

/** What is asked of a standing most, as much of it as that takes. */
export type BriefStanding = Pick<Standing, "trust" | "weight" | "goodWeight" | "atMs">;

/** Takes in what became of a task. Returns the capabilities whose standings have changed. */
export function foldOutcome(standings: AgentStandings, outcome: Outcome, rule: TrustRule): string[] {
  return each(standings, outcome.capabilityId, rule, (standing) => foldTask(standing, outcome, rule));
}

/** Takes in what a judge says of the agent, or of what it does for one capability. */
export function judge(
  standings: AgentStandings,
  capabilityId: string | undefined,
  judgement: Judgement,
  rule: TrustRule,
): string[] {
  return each(standings, capabilityId, rule, (standing) => foldJudgement(standing, judgement, rule));
}

/** Sets the trust for one capability, or of the agent as a whole, and with it for all of its capabilities. */
export function giveTrust(
  standings: AgentStandings,
  capabilityId: string | undefined,
  value: number,
  atMs: number,
  rule: TrustRule,
): string[] {
  // The agent as a whole has a standing wherever one of its capabilities has.
  of(standings, WHOLE, rule);
  if (capabilityId === undefined) {
    for (const standing of standings.values()) setTrust(standing, value, atMs, rule);
    return [...standings.keys()];
  }
  setTrust(of(standings, capabilityId, rule), value, atMs, rule);
  return [WHOLE, capabilityId];
}

function each(
  standings: AgentStandings,
  capabilityId: string | undefined,
  rule: TrustRule,
  change: (standing: Standing) => void,
): string[] {
  const changed = capabilityId === undefined ? [WHOLE] : [capabilityId, WHOLE];
  // The capability first: it begins as the agent stood before.
  for (const id of changed) change(of(standings, id, rule));
  return changed;
}

function of(standings: AgentStandings, capabilityId: string, rule: TrustRule): Standing {
  const known = standings.get(capabilityId);
  if (known) return known;
  const begun = newStanding(
    capabilityId === WHOLE ? { trust: rule.initial, atMs: 0, setAtMs: undefined } : of(standings, WHOLE, rule),
  );
  standings.set(capabilityId, begun);
  return begun;
}

/** How an agent stands at a time. */
export interface StandingNow {
  readonly trust: number;
  readonly score: number;
}

/**
 * How an agent stands at a time, for a capability or as a whole. What is not known of the capability is as of the whole, and what is not
 * known of that is as of a new agent.
 */
export function standingAt(
  standings: ReadonlyMap<string, BriefStanding> | undefined,
  capabilityId: string | undefined,
  nowMs: number,
  rule: TrustRule,
): StandingNow {
  const whole = standings?.get(WHOLE);
  const wholeScore = whole ? scoreAt(whole, nowMs, rule, rule.initial) : rule.initial;
  const own = capabilityId === undefined ? undefined : standings?.get(capabilityId);
  const trusted = own ?? whole;
  return {
    trust: trusted ? trustAt(trusted, nowMs, rule) : rule.initial,
    score: own ? scoreAt(own, nowMs, rule, wholeScore) : wholeScore,
  };
}
