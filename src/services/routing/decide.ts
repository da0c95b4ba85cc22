/** Chooses one of the agents that can take a task, and keeps what was known when it was chosen. */
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import {
  type RolloutTrace,
  type RouteCandidate,
  type RouteCut,
  type RouteDecision,
  RouteDecisionSchema,
  type RouteSource,
  type TextMatch,
} from "../../../gen/signalbox/v1/routing_pb.ts";
import { decimalOf } from "../../domain/money.ts";
import { errorRateAt, latencyAt } from "../../domain/routing/agent-signals.ts";
import type { Candidate } from "../../domain/routing/candidate.ts";
import { best, choose } from "../../domain/routing/choose.ts";
import type { StrategyName } from "../../domain/routing/strategy.ts";
import { deniedBy } from "../policy-decision.ts";
import type { Runtime } from "../runtime.ts";
import type { Trust } from "../trust.ts";
import type { AgentLoads } from "./agent-load.ts";
import { limitOf } from "./fullness.ts";
import type { Cut, Possible } from "./offers.ts";
import type { WorkspaceRouting } from "./workspace-settings.ts";

/** Candidates that a decision keeps in full, and agents that it names for each reason that cut others. */
const MOST_KEPT = 16;
/** A latency that is known is never 0, in milliseconds: in the record, 0 says that none is. */
const LEAST_LATENCY_MS = 1e-6;

export interface DecideDeps {
  readonly runtime: Runtime;
  readonly trust: Trust;
  readonly loads: Pick<AgentLoads, "of">;
  /** How many tasks wait for room at an agent. */
  readonly waitingAt: (agent: { workspaceId: string; agentId: string }) => number;
}

/** What is to be decided, and what led here. */
export interface Question {
  readonly workspaceId: string;
  readonly source: RouteSource;
  readonly capabilityId: string | undefined;
  readonly strategy: StrategyName;
  readonly settings: WorkspaceRouting;
  /** What should stay with one agent: the task's context. */
  readonly key: string;
  /** How many decisions of this capability came before. */
  readonly turn: number;
  /** In the order of the agents' ids, into which a replay brings the candidates back. */
  readonly fit: readonly Possible[];
  readonly cuts: readonly Cut[];
  readonly matches: readonly { capabilityId: string; score: number }[];
  /** How a rollout has steered it. */
  readonly rollout: RolloutTrace | undefined;
}

export interface Decided {
  readonly chosen: Possible;
  readonly decision: RouteDecision;
}

/** There is at least one that fits. */
export function decide(deps: DecideDeps, question: Question): Decided {
  const { runtime } = deps;
  const { workspaceId, fit, key, turn, strategy } = question;
  const { weights, revision } = question.settings;
  const nowMs = runtime.elapsedMs();
  const candidates = fit.map((offer) => candidateOf(deps, workspaceId, offer, nowMs));
  const seed = Math.floor(runtime.random() * 2 ** 32);
  const hasChoice = fit.length > 1;
  const { index, scores } = hasChoice
    ? choose(candidates, strategy, { key, turn, seed, weights })
    : { index: 0, scores: [0] };
  const chosen = fit[index]!;
  const decision: RouteDecision = {
    $typeName: "signalbox.v1.RouteDecision",
    taskId: "",
    time: timestampFromDate(runtime.now()),
    source: question.source,
    agentId: chosen.agent.agentId,
    capabilityId: question.capabilityId ?? chosen.capability?.capabilityId ?? "",
    strategy: hasChoice ? strategy : "",
    seed: hasChoice ? seed : 0,
    candidates: best(candidates, scores, MOST_KEPT, index).map((i) => kept(candidates[i]!, scores[i]!)),
    candidateCount: fit.length,
    cuts: keptCuts(question.cuts),
    matches: keptMatches(question.matches),
    settingsRevision: revision,
    turn: hasChoice ? turn : 0,
    weights:
      hasChoice && strategy === "WEIGHTED_SCORE" ? { $typeName: "signalbox.v1.RoutingWeights", ...weights } : undefined,
    ...(question.rollout && { rollout: question.rollout }),
  };
  return { chosen, decision };
}

/** An agent with what is known of it now. */
export function candidateOf(
  { runtime, trust, loads, waitingAt }: DecideDeps,
  workspaceId: string,
  { agent, capability }: Possible,
  nowMs = runtime.elapsedMs(),
): Candidate {
  const load = loads.of(workspaceId, agent.agentId);
  const inFlight = load?.inFlight ?? 0;
  const maxConcurrency = limitOf({ agent, capability });
  return {
    agentId: agent.agentId,
    inFlight,
    maxConcurrency,
    waiting: maxConcurrency === undefined || inFlight < maxConcurrency ? 0 : waitingAt(agent),
    latencyMs: (load && measured(latencyAt(load.signals, nowMs))) ?? capability?.averageLatencyMs,
    errorRate: load ? errorRateAt(load.signals, nowMs) : 0,
    costMicros: capability?.costMicros ?? 0,
    reputation: trust.score(workspaceId, agent.agentId, capability?.capabilityId),
  };
}

/** What is kept of a task that no agent can take. */
export const undecided = (
  { runtime }: Pick<DecideDeps, "runtime">,
  question: Pick<Question, "source" | "capabilityId" | "settings" | "cuts" | "matches">,
): RouteDecision =>
  create(RouteDecisionSchema, {
    time: timestampFromDate(runtime.now()),
    source: question.source,
    capabilityId: question.capabilityId ?? "",
    cuts: keptCuts(question.cuts),
    matches: keptMatches(question.matches),
    settingsRevision: question.settings.revision,
  });

const measured = (latencyMs: number | undefined): number | undefined =>
  latencyMs === undefined ? undefined : Math.max(latencyMs, LEAST_LATENCY_MS);

const keptCuts = (cuts: readonly Cut[]): RouteCut[] =>
  cuts.map(({ reason, agentIds, refusal }) => ({
    $typeName: "signalbox.v1.RouteCut",
    reason,
    count: agentIds.length,
    agentIds: agentIds.slice(0, MOST_KEPT),
    policyRule: reason === "POLICY" && refusal ? deniedBy(refusal) : "",
  }));

const keptMatches = (matches: Question["matches"]): TextMatch[] =>
  matches.map(({ capabilityId, score }) => ({ $typeName: "signalbox.v1.TextMatch", capabilityId, score }));

const kept = (
  { agentId, inFlight, latencyMs = 0, errorRate, costMicros, maxConcurrency = 0, waiting = 0, reputation }: Candidate,
  score: number,
): RouteCandidate => ({
  $typeName: "signalbox.v1.RouteCandidate",
  agentId,
  score,
  inFlight,
  latencyMs,
  errorRate,
  cost: costMicros === 0 ? "0" : decimalOf(costMicros),
  maxConcurrency,
  waiting,
  reputation,
});
