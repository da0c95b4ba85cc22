/**
 * Who is asked next, when those cannot take a task who should: the steps of a rollout's fallback chain, one level deep. The
 * conditions of all steps are about those who should have taken it.
 */
import type { FallbackCondition, FallbackStep, Rollout } from "../../domain/rollout.ts";
import type { AgentRecord } from "../../store/agent-repository.ts";
import type { WorkspaceAgents } from "../agent-directory.ts";
import type { Rollouts } from "../rollouts.ts";
import type { IsFull } from "./fullness.ts";
import { type Ask, type Cut, isUnavailable } from "./offers.ts";
import { alone, type Search } from "./searches.ts";
import { type Steered, steer, withCut } from "./steer.ts";

export interface FallbackDeps {
  readonly rollouts: Rollouts;
  /** Whether an agent is a function in this process. */
  readonly isLocal: (agent: AgentRecord) => boolean;
  readonly isFull: IsFull;
}

/** What all searches for the agent of one task have in common. */
export interface Quest {
  readonly workspaceId: string;
  readonly agents: WorkspaceAgents;
  readonly ask: Ask;
  /** What should stay with one agent: the task's context. */
  readonly key: string;
}

/** What a search came to, and by which step of a chain, if it was by one. */
export interface Found {
  readonly search: Search;
  readonly steered: Steered;
  readonly by?: { readonly step: FallbackStep; readonly condition: FallbackCondition };
}

/** Those who should take a task or, when they cannot, those whom the chain names. Nobody may fit. */
export function findWithFallback(deps: FallbackDeps, quest: Quest, search: Search): Found {
  const rollout = deps.rollouts.of(quest.workspaceId, search.capabilityId);
  const steered = steerBy(deps, quest, search, rollout);
  const found = { search, steered };
  if (rollout.fallbackChain.length === 0 || search.isNamed) return found;
  const condition = troubleOf(deps, quest, steered);
  const next = condition && nextInChain(deps, quest, search, condition);
  // When all whom the chain names are full as well, those who should take it have it wait for them.
  if (!next || (condition === "FULL" && areFull(deps, quest, next.steered))) return found;
  const cuts = [...withCut(steered.cuts, "FULL", steered.fit), ...next.steered.cuts];
  return { ...next, steered: { ...next.steered, cuts } };
}

/**
 * The first step that a condition leads to with somebody who can take the task and has room; else the first with somebody who
 * can take it. Agents of `exclude` are passed over.
 */
export function nextInChain(
  deps: FallbackDeps,
  quest: Quest,
  { capabilityId, source, matches }: Search,
  condition: FallbackCondition,
  exclude?: ReadonlySet<string>,
): Found | undefined {
  const rollout = deps.rollouts.of(quest.workspaceId, capabilityId);
  let full: Found | undefined;
  for (const step of rollout.fallbackChain) {
    if (!step.conditions.includes(condition)) continue;
    const named = whoIsNamed(quest.agents, step, capabilityId);
    const offers = exclude ? named.offers.filter(({ agent }) => !exclude.has(agent.agentId)) : named.offers;
    const search = { source, ...(matches && { matches }), ...named, offers };
    const steered = steerBy(deps, quest, search, rolloutOn(deps, quest, step, rollout));
    if (steered.fit.length === 0) continue;
    const found: Found = { search, steered, by: { step, condition } };
    if (!areFull(deps, quest, steered)) return found;
    full ??= found;
  }
  return full;
}

/**
 * The capability itself was asked already: only the workspace's chain may name it. An agent has the task for what was asked for,
 * also if it does not offer that.
 */
function whoIsNamed(
  agents: WorkspaceAgents,
  step: FallbackStep,
  asked: string | undefined,
): Pick<Search, "offers" | "capabilityId"> {
  if ("capabilityId" in step) {
    const { capabilityId } = step;
    return { capabilityId, offers: capabilityId === asked ? [] : (agents.byCapability.get(capabilityId) ?? []) };
  }
  const agent = agents.byId.get(step.agentId);
  return {
    ...(asked !== undefined && { capabilityId: asked }),
    offers: agent ? [alone(agent, agents, asked)] : [],
  };
}

/** Whoever offers another capability is steered by that one's rollout; but a rollback holds on the way there too. */
function rolloutOn({ rollouts }: FallbackDeps, { workspaceId }: Quest, step: FallbackStep, rollout: Rollout): Rollout {
  if (!("capabilityId" in step)) return rollout;
  const theirs = rollouts.of(workspaceId, step.capabilityId);
  return rollout.rollbackToLocal && !theirs.rollbackToLocal ? { ...theirs, rollbackToLocal: true } : theirs;
}

const steerBy = (
  { isLocal }: FallbackDeps,
  { ask, key }: Quest,
  { offers, capabilityId }: Search,
  rollout: Rollout,
): Steered => steer(offers, { ask, rollout, key, capabilityId, isLocal });

const areFull = ({ isFull }: FallbackDeps, { workspaceId }: Quest, { fit }: Steered): boolean =>
  fit.every((offer) => isFull(workspaceId, offer));

/** Why somebody else is to be asked; undefined when somebody fits and has room. */
function troubleOf(deps: FallbackDeps, quest: Quest, steered: Steered): FallbackCondition | undefined {
  if (steered.fit.length === 0) return emptyBecause(steered.cuts);
  return areFull(deps, quest, steered) ? "FULL" : undefined;
}

/** Why nobody is left: the task fits nobody, or those whom it would fit are away. */
export const emptyBecause = (cuts: readonly Cut[]): "NO_CANDIDATE" | "UNAVAILABLE" =>
  isUnavailable(cuts) ? "UNAVAILABLE" : "NO_CANDIDATE";
