/** Chooses one of the agents that can take a task, and keeps what was known when it was chosen. */
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { RouteCandidate, RouteDecision, RouteSource } from "../../../gen/signalbox/v1/routing_pb.ts";
import { decimalOf } from "../../domain/money.ts";
import { errorRateAt, latencyAt } from "../../domain/routing/agent-signals.ts";
import type { Candidate } from "../../domain/routing/candidate.ts";
import { best, choose } from "../../domain/routing/choose.ts";
import type { StrategyName, Weights } from "../../domain/routing/strategy.ts";
import type { Runtime } from "../runtime.ts";
import type { AgentLoads } from "./agent-load.ts";
import type { Cut, Possible } from "./offers.ts";

/** Candidates that a decision keeps in full, and agents that it names for each reason that cut others. */
const MOST_KEPT = 16;

export interface DecideDeps {
  readonly runtime: Runtime;
  readonly loads: AgentLoads;
  readonly weights: Weights;
  /** How many tasks wait for room at an agent. */
  readonly waitingAt: (agent: { workspaceId: string; agentId: string }) => number;
}

/** What is to be decided, and what led here. */
export interface Question {
  readonly workspaceId: string;
  readonly source: RouteSource;
  readonly capabilityId: string | undefined;
  readonly strategy: StrategyName;
  /** What should stay with one agent: the task's context. */
  readonly key: string;
  /** How many decisions of this capability came before. */
  readonly turn: number;
  readonly fit: readonly Possible[];
  readonly cuts: readonly Cut[];
  readonly matches: readonly { capabilityId: string; score: number }[];
}

export interface Decided {
  readonly chosen: Possible;
  readonly decision: RouteDecision;
}

/** There is at least one that fits. */
export function decide({ runtime, loads, weights, waitingAt }: DecideDeps, question: Question): Decided {
  const { workspaceId, fit, key, turn } = question;
  const nowMs = runtime.elapsedMs();
  const candidates = fit.map(({ agent, capability }): Candidate => {
    const load = loads.of(workspaceId, agent.agentId);
    const inFlight = load?.inFlight ?? 0;
    const maxConcurrency = lesser(agent.maxConcurrency, capability?.maxConcurrency);
    return {
      agentId: agent.agentId,
      inFlight,
      maxConcurrency,
      waiting: maxConcurrency === undefined || inFlight < maxConcurrency ? 0 : waitingAt(agent),
      latencyMs: (load && latencyAt(load.signals, nowMs)) ?? capability?.averageLatencyMs,
      errorRate: load ? errorRateAt(load.signals, nowMs) : 0,
      costMicros: capability?.costMicros ?? 0,
      reputation: undefined,
    };
  });
  const seed = Math.floor(runtime.random() * 2 ** 32);
  const hasChoice = fit.length > 1;
  const { index, scores } = hasChoice
    ? choose(candidates, question.strategy, { key, turn, seed, weights })
    : { index: 0, scores: [0] };
  const chosen = fit[index]!;
  const decision: RouteDecision = {
    $typeName: "signalbox.v1.RouteDecision",
    taskId: "",
    time: timestampFromDate(runtime.now()),
    source: question.source,
    agentId: chosen.agent.agentId,
    capabilityId: chosen.capability?.capabilityId ?? question.capabilityId ?? "",
    strategy: hasChoice ? question.strategy : "",
    seed: hasChoice ? seed : 0,
    candidates: best(candidates, scores, MOST_KEPT, index).map((i) => kept(candidates[i]!, scores[i]!)),
    candidateCount: fit.length,
    cuts: question.cuts.map(({ reason, agentIds }) => ({
      $typeName: "signalbox.v1.RouteCut",
      reason,
      count: agentIds.length,
      agentIds: agentIds.slice(0, MOST_KEPT),
    })),
    matches: question.matches.map(({ capabilityId, score }) => ({
      $typeName: "signalbox.v1.TextMatch",
      capabilityId,
      score,
    })),
  };
  return { chosen, decision };
}

const lesser = (a: number | undefined, b: number | undefined): number | undefined =>
  a === undefined ? b : b === undefined ? a : Math.min(a, b);

const kept = (
  { agentId, inFlight, latencyMs = 0, errorRate, costMicros }: Candidate,
  score: number,
): RouteCandidate => ({
  $typeName: "signalbox.v1.RouteCandidate",
  agentId,
  score,
  inFlight,
  latencyMs,
  errorRate,
  cost: costMicros === 0 ? "0" : decimalOf(costMicros),
});
