/** Replays of what is in the database: which decisions are looked at, and what really happened to their tasks. */

import { randomBytes } from "node:crypto";
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { timestampDate, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { beforeEach, expect, test } from "vitest";
import { TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { ReplayRoutesRequestSchema, RouteDecisionSchema } from "../../gen/signalbox/v1/routing_pb.ts";
import { firstUuidV7, uuidV7 } from "../../src/domain/identifiers.ts";
import { DEFAULT_WEIGHTS } from "../../src/domain/routing/strategies.ts";
import { anonymousPrincipal } from "../../src/services/identity/authenticator.ts";
import type { RequestContext } from "../../src/services/request-context.ts";
import { createReplayRoutes, type ReplayDeps } from "../../src/services/routing/replay-routes.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import { readDecidedTasks } from "../../src/store/route-reads.ts";
import { describeEachBackend } from "../store/backends.ts";
import { emptyTables, raw } from "../store/tables.ts";

const NOON = Date.UTC(2026, 5, 1, 12);
const MINUTE = 60_000;
const signal = new AbortController().signal;

/** Of an agent that is quick and dear, and one that is slow, cheap and fails. */
const CANDIDATES = [
  { agentId: "quick", score: 1, inFlight: 0, latencyMs: 100, errorRate: 0, cost: "0.5" },
  { agentId: "slow", score: 2, inFlight: 0, latencyMs: 900, errorRate: 0.5, cost: "0.1" },
];

interface Past {
  minute: number;
  candidates?: typeof CANDIDATES;
  count?: number;
  capabilityId?: string;
  state?: TaskState;
  tookMs?: number;
  disclosed?: boolean;
  decision?: Uint8Array | null;
}

describeEachBackend("a replay", (ctx) => {
  beforeEach(() => emptyTables(ctx.db));

  const opened = (more: Partial<ReplayDeps> = {}) =>
    createReplayRoutes({
      settings: { of: async () => ({ strategy: undefined, weights: DEFAULT_WEIGHTS, rejects: false, revision: 0 }) },
      readDecidedTasks: (workspaceId, query) => readDecidedTasks(ctx.db, workspaceId, query),
      runtime: { ...systemRuntime(), now: () => new Date(NOON + 60 * MINUTE) },
      ...more,
    });
  const context = { workspaceId: "default", principal: anonymousPrincipal("viewer"), signal } as RequestContext;
  const request = (given: MessageInitShape<typeof ReplayRoutesRequestSchema>) =>
    create(ReplayRoutesRequestSchema, given);
  const replay = (given: MessageInitShape<typeof ReplayRoutesRequestSchema>) => opened()(context, request(given));

  const decided = (candidates = CANDIDATES, candidateCount = candidates.length) =>
    toBinary(
      RouteDecisionSchema,
      create(RouteDecisionSchema, {
        agentId: candidates[0]!.agentId,
        strategy: candidates.length > 1 ? "LOWEST_LATENCY" : "",
        seed: 7,
        candidates,
        candidateCount,
      }),
    );

  async function past(task: Past): Promise<string> {
    const { minute, capabilityId = "c", state = TaskState.COMPLETED, tookMs = 1_000, disclosed = true } = task;
    const at = NOON + minute * MINUTE;
    const id = uuidV7(at, randomBytes(16));
    const decision = task.decision === undefined ? decided(task.candidates, task.count) : task.decision;
    await raw(
      ctx.db,
      `insert into tasks (workspace_id, task_id, context_id, agent_id, state, a2a_state, status_at, last_seq, disclosed,
                          created_at, capability_id, route_decision, lease_owner)
       values ('default', $1, 'context', 'quick', $2, $2, $3, 1, $4, $5, $6, $7, $8)`,
      [id, state, new Date(at + tookMs), disclosed, new Date(at), capabilityId, decision, state === 2 ? "r" : null],
    );
    return id;
  }

  test("tells what would have changed, and what really happened to the rest", async () => {
    const lone = [CANDIDATES[0]!];
    const changed = [await past({ minute: 1 }), await past({ minute: 2, state: TaskState.FAILED })];
    await past({ minute: 3, candidates: lone, tookMs: 300 });
    await past({ minute: 4, candidates: lone, state: TaskState.FAILED, tookMs: 50 });
    await past({ minute: 5, candidates: lone, state: TaskState.CANCELED });
    await past({ minute: 6, candidates: lone, state: TaskState.WORKING });
    await past({ minute: 7, candidates: lone, tookMs: 500 });
    await past({ minute: 8, decision: null });
    const { before, after, unchanged, changes, shares, ...rest } = await replay({ strategy: "lowest-cost" });
    expect(rest).toMatchObject({ decisionCount: 7, openCount: 2, partialCount: 0, changedCount: 2, latencyCount: 7 });
    expect(rest).toMatchObject({ hasMore: false, agentCount: 2 });
    expect(before).toMatchObject({ cost: "3.5", latencyMs: 100, success: 1 });
    expect(after).toMatchObject({ cost: "2.7", latencyMs: (5 * 100 + 2 * 900) / 7, success: 6 / 7 });
    expect(unchanged).toMatchObject({ endedCount: 3, completedCount: 2, cost: "1.5", latencyMs: 400 });
    expect(shares.map(({ agentId, before, after }) => [agentId, before, after])).toEqual([
      ["quick", 7, 5],
      ["slow", 0, 2],
    ]);
    expect(changes.map((change) => [change.taskId, change.fromAgentId, change.toAgentId])).toEqual([
      [changed[1], "quick", "slow"],
      [changed[0], "quick", "slow"],
    ]);
    expect(await replay({ strategy: "LOWEST_LATENCY" })).toMatchObject({ changedCount: 0, changes: [] });
  });

  test("with weights alone tries them on decisions that reckoned with some", async () => {
    await past({ minute: 1 });
    const weighted = create(RouteDecisionSchema, {
      agentId: "quick",
      strategy: "WEIGHTED_SCORE",
      candidates: CANDIDATES,
      candidateCount: 2,
      weights: { latency: 1 },
    });
    await past({ minute: 2, decision: toBinary(RouteDecisionSchema, weighted) });
    expect(await replay({ weights: { latency: 3 } })).toMatchObject({ decisionCount: 2, changedCount: 0 });
    expect(await replay({ weights: { cost: 1 } })).toMatchObject({ decisionCount: 2, changedCount: 1 });
    expect(await replay({ strategy: "WEIGHTED_SCORE", weights: { cost: 1 } })).toMatchObject({ changedCount: 2 });
    // Where neither the draft nor the record has any, those of the workspace count: errors weigh most.
    expect(await replay({ strategy: "WEIGHTED_SCORE" })).toMatchObject({ changedCount: 0 });
  });

  test("looks at a time range and a capability, and says that some were kept in part", async () => {
    await past({ minute: 10 });
    await past({ minute: 20, capabilityId: "other", count: 40 });
    await past({ minute: 30 });
    const minutes = (from: number, to: number) => ({
      startTime: timestampFromMs(NOON + from * MINUTE),
      endTime: timestampFromMs(NOON + to * MINUTE),
    });
    const draft = { strategy: "LOWEST_COST" };
    expect(await replay({ ...draft, ...minutes(10, 30) })).toMatchObject({ decisionCount: 2, partialCount: 1 });
    expect(await replay({ ...draft, ...minutes(0, 10) })).toMatchObject({ decisionCount: 0, openCount: 0 });
    const other = await replay({ ...draft, capabilityId: "other" });
    expect(other).toMatchObject({ decisionCount: 1, partialCount: 1, openCount: 1, changedCount: 1 });
    // By what decided, it stands, though it cannot be decided anew.
    const same = await replay({ strategy: "LOWEST_LATENCY", capabilityId: "other" });
    expect(same).toMatchObject({ partialCount: 1, changedCount: 0 });
    // The last hour, from noon on.
    expect(await replay(draft)).toMatchObject({ decisionCount: 3, startTime: timestampFromMs(NOON) });
  });

  test("names no task that clients do not see", async () => {
    await past({ minute: 1, disclosed: false });
    const { changes } = await replay({ strategy: "LOWEST_COST" });
    expect(changes.map(({ taskId, toAgentId }) => [taskId, toAgentId])).toEqual([["", "slow"]]);
  });

  test("passes over what it cannot compare", async () => {
    await past({ minute: 1, decision: toBinary(RouteDecisionSchema, create(RouteDecisionSchema, {})) });
    const gone = create(RouteDecisionSchema, { agentId: "gone", strategy: "LEAST_LOAD", candidates: CANDIDATES });
    await past({ minute: 2, decision: toBinary(RouteDecisionSchema, gone) });
    await past({ minute: 3 });
    expect(await replay({ strategy: "LOWEST_COST" })).toMatchObject({ decisionCount: 1, changedCount: 1 });
  });

  test("takes the newest 10,000, and says that there were more", async () => {
    // One a millisecond, with ids that begin with their time.
    const first = firstUuidV7(NOON);
    const time = BigInt(`0x${first.slice(0, 8)}${first.slice(9, 13)}`);
    await raw(
      ctx.db,
      `insert into tasks (workspace_id, task_id, context_id, agent_id, state, a2a_state, status_at, last_seq, disclosed,
                          created_at, capability_id, route_decision)
       select 'default', substr(hex, 1, 8) || '-' || substr(hex, 9, 4) || '-7000-8000-000000000000', 'c', 'quick', 3, 3, at, 1,
              true, at, 'c', $3
       from (select lpad(to_hex($1::bigint + n), 12, '0') as hex, $2::timestamptz + n * interval '1 ms' as at
             from generate_series(0, 10004) n) made`,
      [String(time), new Date(NOON), decided()],
    );
    const answer = await replay({ strategy: "LOWEST_COST" });
    expect(answer).toMatchObject({ decisionCount: 10_000, changedCount: 10_000, hasMore: true });
    expect(answer.changes).toHaveLength(100);
    expect(timestampDate(answer.startTime!).getTime()).toBe(NOON + 5);
    expect(answer.before?.cost).toBe("5000");
    expect(answer.after?.cost).toBe("1000");
  });

  test("is refused by field where the draft or the range is none", async () => {
    const fieldsOf = (given: MessageInitShape<typeof ReplayRoutesRequestSchema>) =>
      replay(given).then(
        () => [],
        ({ violations }) => violations.map(({ field }: { field: string }) => field),
      );
    expect(await fieldsOf({})).toEqual(["strategy"]);
    expect(await fieldsOf({ strategy: "best" })).toEqual(["strategy"]);
    expect(await fieldsOf({ weights: {} })).toEqual(["weights"]);
    expect(await fieldsOf({ strategy: "WEIGHTED_SCORE", weights: { cost: -1, load: Number.NaN } })).toEqual([
      "weights.load",
      "weights.cost",
    ]);
    expect(await fieldsOf({ strategy: "LEAST_LOAD", weights: { cost: 1 } })).toEqual(["weights"]);
    expect(await fieldsOf({ strategy: "LEAST_LOAD", capabilityId: "No Label" })).toEqual(["capabilityId"]);
    const at = timestampFromMs(NOON);
    expect(await fieldsOf({ strategy: "LEAST_LOAD", startTime: at, endTime: at })).toEqual(["startTime"]);
    const early = timestampFromMs(-1);
    expect(await fieldsOf({ strategy: "LEAST_LOAD", startTime: early })).toEqual(["startTime"]);
    expect(await fieldsOf({ strategy: "LEAST_LOAD", endTime: early })).toEqual(["endTime"]);
  });

  test("is refused while two others run, and ends with its caller", async () => {
    const gate = Promise.withResolvers<[]>();
    const replayRoutes = opened({ readDecidedTasks: () => gate.promise });
    const draft = request({ strategy: "LEAST_LOAD" });
    const running = [replayRoutes(context, draft), replayRoutes(context, draft)];
    await expect(replayRoutes(context, draft)).rejects.toMatchObject({ reason: "QUEUE_FULL" });
    gate.resolve([]);
    await Promise.all(running);
    expect(await replayRoutes(context, draft)).toMatchObject({ decisionCount: 0 });
    const gone = { ...context, signal: AbortSignal.abort(new Error("gone")) };
    await expect(replayRoutes(gone, draft)).rejects.toThrow("gone");
  });
});
