/** Replays: past decisions, read in pages and decided once more by a draft. */
import { create, fromBinary } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { TaskState } from "../../../gen/lf/a2a/v1/a2a_pb.ts";
import {
  type ReplayRoutesRequest,
  type ReplayRoutesResponse,
  ReplayRoutesResponseSchema,
  type RouteCandidate,
  type RouteChange,
  RouteChangeSchema,
  type RouteDecision,
  RouteDecisionSchema,
} from "../../../gen/signalbox/v1/routing_pb.ts";
import { type FieldViolation, queueFull } from "../../domain/errors.ts";
import { isDnsLabel } from "../../domain/identifiers.ts";
import { viewerOf } from "../../domain/identity/visibility.ts";
import { costMicros, decimalOf } from "../../domain/money.ts";
import { refuse } from "../../domain/refusal.ts";
import type { Candidate } from "../../domain/routing/candidate.ts";
import {
  createReplay,
  type Draft,
  type Ending,
  type Expectation,
  type RecordedDecision,
  type Replay,
} from "../../domain/routing/replay.ts";
import { STRATEGY_RULE, strategyNamed } from "../../domain/routing/strategy.ts";
import { weightViolations } from "../../domain/routing/weights.ts";
import type { DecidedTask, DecidedTasksQuery } from "../../store/route-reads.ts";
import type { RequestContext } from "../request-context.ts";
import type { Runtime } from "../runtime.ts";
import { replayRange } from "./replay-range.ts";
import type { WorkspaceSettings } from "./workspace-settings.ts";

/** Decisions of one replay at most, and tasks that are read for them: those of other capabilities are read too. */
const MOST_DECISIONS = 10_000;
const MOST_TASKS = 100_000;
/** Read at once: other work of the process goes on between two pages. */
const PAGE = 500;
/** Replays of one server at once. */
const MOST_REPLAYS = 2;
const DEFAULT_RANGE_MS = 3_600_000;
const MOST_CHANGES = 100;
const MOST_SHARES = 100;

export type ReplayRoutes = (context: RequestContext, request: ReplayRoutesRequest) => Promise<ReplayRoutesResponse>;

export interface ReplayDeps {
  settings: Pick<WorkspaceSettings, "of">;
  readDecidedTasks: (workspaceId: string, query: DecidedTasksQuery) => Promise<readonly DecidedTask[]>;
  runtime: Runtime;
}

/** Throws INVALID_ARGUMENT by field, or QUEUE_FULL while as many run as may. */
export function createReplayRoutes(deps: ReplayDeps): ReplayRoutes {
  let running = 0;
  return async (context, request) => {
    const { draft, range } = checked(request, deps.runtime.now().getTime());
    if (running >= MOST_REPLAYS) throw queueFull("replays");
    running += 1;
    try {
      const { weights } = await deps.settings.of(context.workspaceId);
      const replay = createReplay(draft, weights);
      return responseOf(replay, await readInto(replay, deps, context, range));
    } finally {
      running -= 1;
    }
  };
}

type Range = Pick<DecidedTasksQuery, "fromMs" | "beforeMs" | "capabilityId">;

interface Read {
  readonly range: Range;
  readonly hasMore: boolean;
  readonly changes: readonly RouteChange[];
}

/** Reads the newest tasks of a range into a replay, as many as it may take. */
async function readInto(replay: Replay, deps: ReplayDeps, context: RequestContext, range: Range): Promise<Read> {
  const changes: RouteChange[] = [];
  let after: string | undefined;
  let oldestMs = range.beforeMs;
  let taken = 0;
  const viewer = viewerOf(context.principal);
  for (let read = 0; read < MOST_TASKS; read += PAGE) {
    context.signal.throwIfAborted();
    const page = await deps.readDecidedTasks(context.workspaceId, { ...range, after, limit: PAGE, viewer });
    for (const task of page) {
      if (!task.decision || !task.seen) continue;
      if (taken === MOST_DECISIONS) return { range: { ...range, fromMs: oldestMs }, hasMore: true, changes };
      const moved = replay.add(recordedOf(fromBinary(RouteDecisionSchema, task.decision), task), endingOf(task));
      taken += 1;
      oldestMs = task.createdAt.getTime();
      if (moved && changes.length < MOST_CHANGES) changes.push(changeOf(task, moved));
    }
    if (page.length < PAGE) return { range, hasMore: false, changes };
    after = page.at(-1)!.taskId;
  }
  return { range: { ...range, fromMs: oldestMs }, hasMore: true, changes };
}

/** A strategy that only a newer version knows counts as none: its decisions stand. */
function recordedOf(decision: RouteDecision, { contextId }: DecidedTask): RecordedDecision {
  const { agentId, strategy, turn, seed, weights, candidates, candidateCount } = decision;
  return {
    agentId,
    strategy: strategyNamed(strategy),
    key: contextId,
    turn,
    seed,
    weights,
    candidates: candidates.map(candidateOf),
    candidateCount,
  };
}

const candidateOf = (kept: RouteCandidate): Candidate => ({
  agentId: kept.agentId,
  inFlight: kept.inFlight,
  maxConcurrency: kept.maxConcurrency || undefined,
  waiting: kept.waiting,
  latencyMs: kept.latencyMs || undefined,
  errorRate: kept.errorRate,
  costMicros: costMicros(kept.cost) ?? 0,
  reputation: kept.reputation,
});

function endingOf({ a2aState, createdAt, statusAt }: DecidedTask): Ending {
  const completed = a2aState === TaskState.COMPLETED;
  if (!completed && a2aState !== TaskState.FAILED && a2aState !== TaskState.REJECTED) return undefined;
  return { completed, latencyMs: Math.max(0, statusAt.getTime() - createdAt.getTime()) };
}

const changeOf = ({ taskId, disclosed, createdAt }: DecidedTask, { from, to }: { from: string; to: string }) =>
  create(RouteChangeSchema, {
    taskId: disclosed ? taskId : "",
    time: timestampFromDate(createdAt),
    fromAgentId: from,
    toAgentId: to,
  });

function responseOf(replay: Replay, { range, hasMore, changes }: Read): ReplayRoutesResponse {
  const { decisions, open, partial, changed, before, after, latencies, unchanged, shares } = replay.result();
  return create(ReplayRoutesResponseSchema, {
    decisionCount: decisions,
    hasMore,
    startTime: timestampFromDate(new Date(range.fromMs)),
    endTime: timestampFromDate(new Date(range.beforeMs)),
    openCount: open,
    partialCount: partial,
    changedCount: changed,
    before: expectationOf(before),
    after: expectationOf(after),
    latencyCount: latencies,
    unchanged: {
      endedCount: unchanged.ended,
      completedCount: unchanged.completed,
      cost: decimalOf(unchanged.costMicros),
      latencyMs: unchanged.latencyMs,
    },
    shares: shares.slice(0, MOST_SHARES),
    agentCount: shares.length,
    changes: [...changes],
  });
}

const expectationOf = ({ costMicros, latencyMs, success }: Expectation) => ({
  cost: decimalOf(costMicros),
  latencyMs,
  success,
});

/** What a request asks for, if nothing in it is wrong. */
function checked(request: ReplayRoutesRequest, nowMs: number): { draft: Draft; range: Range } {
  const { strategy: name, weights, capabilityId } = request;
  const strategy = strategyNamed(name);
  const violations: FieldViolation[] = [];
  const refused = (field: string, description: string) => violations.push({ field, description });
  if (name !== "" && !strategy) refused("strategy", STRATEGY_RULE);
  else if (name === "" && !weights) refused("strategy", "give a strategy, weights or both: what is to be tried");
  if (weights) violations.push(...weightViolations(weights, "weights"));
  if (weights && strategy && strategy !== "WEIGHTED_SCORE") {
    refused("weights", "count only with WEIGHTED_SCORE; leave them or the strategy out");
  }
  if (capabilityId !== "" && !isDnsLabel(capabilityId)) {
    refused("capabilityId", "must be an id: a DNS label, at most 63 of a-z, 0-9 and - inside");
  }
  const { fromMs, beforeMs } = replayRange(request, nowMs, DEFAULT_RANGE_MS, violations);
  refuse(violations);
  return {
    draft: { strategy, weights },
    range: { fromMs, beforeMs, capabilityId: capabilityId === "" ? undefined : capabilityId },
  };
}
