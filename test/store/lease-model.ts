/**
 * A simple model of leases beside a real database: who has which task under which token, who thinks so still, and what the
 * database must make of what they write.
 */
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { expect } from "vitest";
import { StreamResponseSchema, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { statusUpdate } from "../../src/domain/agent-report.ts";
import type { NewUpdate } from "../../src/domain/task-log.ts";
import { EngineState, isClaimable, isLeased, mayGo } from "../../src/domain/task-state.ts";
import { appendBatch } from "../../src/store/append-batch.ts";
import type { Database } from "../../src/store/database.ts";
import type { LeaseRepository, TakenTask } from "../../src/store/lease-repository.ts";
import { type TaskRow, taskRows } from "./tables.ts";

/** Later than any test ends. */
export const LATER_MS = 3_600_000;
const at = new Date("2026-01-01T00:00:00.123Z");
const { WORKING, INPUT_REQUIRED, AUTH_REQUIRED, COMPLETED, FAILED, SCHEDULED, QUEUED, ASSIGNED } = EngineState;

export interface Model {
  /** Whether they live, and whether their lease has run out. */
  replicas: Map<string, { alive: boolean; expired: boolean }>;
  tasks: Map<string, TaskRow>;
  /** All that replicas were ever told to be theirs: of one task, all but the last are of former owners. */
  beliefs: Belief[];
}

/** A replica that has, or had, a task. */
export interface Belief {
  replica: string;
  taskId: string;
  fence: number;
}

export interface Real {
  db: Database;
  leases: LeaseRepository;
}

/** Where writers bring tasks. */
export const GOALS = [WORKING, WORKING, INPUT_REQUIRED, AUTH_REQUIRED, COMPLETED, FAILED, SCHEDULED, QUEUED] as const;
export type Goal = (typeof GOALS)[number];

const ended = (state: EngineState): boolean => !Object.values(EngineState).some((to) => mayGo(state, to));

export const claimable = ({ tasks }: Model): TaskRow[] => [...tasks.values()].filter(({ waits }) => waits === "due");

export const orphaned = ({ tasks, replicas }: Model): TaskRow[] =>
  [...tasks.values()].filter(({ owner }) => owner !== undefined && !replicas.get(owner)?.alive);

/**
 * Checks that the database is where the model is, and that no task is forgotten: it has ended, or waits for its client, or
 * somebody has it, or somebody may take it.
 */
export async function expectModel(model: Model, { db }: Real): Promise<void> {
  const rows = await taskRows(db);
  expect(rows).toEqual(model.tasks);
  for (const { state, owner, waits } of rows.values()) {
    const waitsForClient = state === INPUT_REQUIRED && owner === undefined;
    const has = owner !== undefined && model.replicas.has(owner);
    expect(ended(state) || waitsForClient || has || waits !== undefined).toBe(true);
  }
}

export interface Write extends Belief {
  goal: Goal;
  /** Takes the task over. */
  take: boolean;
  /** Where it then waits, it waits for long. */
  wait: boolean;
}

/** An append by a replica that knows the log, under a token that may be another's by now. */
export async function write(model: Model, real: Real, { replica, taskId, fence, goal, take, wait }: Write) {
  const row = model.tasks.get(taskId)!;
  const stored = appendBatch(real.db, replica, [
    {
      workspaceId: row.workspaceId,
      taskId,
      expectedSeq: row.seq,
      fence,
      updates: [updateTo(taskId, goal)],
      at,
      take,
      ...(wait && { wakeInMs: LATER_MS }),
    },
  ]);
  const takes = take || (isLeased(goal) && row.owner === undefined);
  const dead = !model.replicas.get(replica)!.alive;
  if (fence !== row.fence || ended(row.state) || (takes && dead)) {
    expect(await stored).toEqual([take && dead ? expect.objectContaining({ reason: "REPLICA_EXPIRED" }) : undefined]);
    return;
  }
  const a2aState = isClaimable(goal) ? row.a2aState : goal;
  // Clients would see a task wait for them that does not.
  const unseen = isClaimable(goal) && a2aState > TaskState.WORKING;
  if (!mayGo(row.state, goal) || unseen) {
    await expect(stored).rejects.toMatchObject({ code: "23514" });
    return;
  }
  const after: TaskRow = {
    ...row,
    state: goal,
    a2aState,
    seq: row.seq + 1,
    fence: row.fence + (takes ? 1 : 0),
    owner: isLeased(goal) ? (takes ? replica : row.owner) : undefined,
    waits: isClaimable(goal) || (goal === INPUT_REQUIRED && wait) ? (wait ? "later" : "due") : undefined,
  };
  expect(await stored).toMatchObject([{ fence: after.fence, attempt: after.attempt, leaseOwner: after.owner }]);
  model.tasks.set(taskId, after);
  model.beliefs.push({ replica, taskId, fence: after.fence });
}

function updateTo(taskId: string, goal: Goal): NewUpdate {
  if (isClaimable(goal))
    return { kind: "transition", body: create(StreamResponseSchema), state: goal, cause: "a test" };
  const status = { state: goal as TaskState, timestamp: timestampFromDate(at) };
  return statusUpdate({ taskId, contextId: "c" }, status);
}

/** What a claim or a rescue of at most `limit` of the tasks `from` has done. */
export function expectTaken(model: Model, replica: string, got: TakenTask[], from: TaskRow[], limit: number): void {
  expect(got).toHaveLength(model.replicas.get(replica)!.alive ? Math.min(limit, from.length) : 0);
  expect(from.map(({ taskId }) => taskId)).toEqual(expect.arrayContaining(got.map(({ taskId }) => taskId)));
  for (const { taskId, fence } of got) {
    const row = model.tasks.get(taskId)!;
    const begins = isClaimable(row.state);
    const after: TaskRow = {
      ...row,
      state: begins ? ASSIGNED : row.state,
      attempt: row.attempt + (begins ? 1 : 0),
      fence: row.fence + 1,
      seq: row.seq + 1,
      owner: replica,
      waits: undefined,
    };
    expect(fence).toBe(after.fence);
    model.tasks.set(taskId, after);
    model.beliefs.push({ replica, taskId, fence });
  }
}
