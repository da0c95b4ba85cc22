/** Replicas and their leases: one owner at a time for each task, and none that is forgotten. */
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import { beforeEach, expect, it } from "vitest";
import { MessageSchema, Role, StreamResponseSchema, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { messageUpdate, statusUpdate } from "../../src/domain/agent-report.ts";
import type { NewUpdate } from "../../src/domain/task-log.ts";
import { EngineState } from "../../src/domain/task-state.ts";
import { type Append, appendBatch } from "../../src/store/append-batch.ts";
import { createLeaseRepository, type LeaseRepository } from "../../src/store/lease-repository.ts";
import { submitBatch } from "../../src/store/submit-batch.ts";
import { registerReplica } from "../fixtures/replica.ts";
import { headerOf } from "../fixtures/task-header.ts";
import { describeEachBackend } from "./backends.ts";
import { begin, leaseCommands } from "./lease-commands.ts";
import { emptyTables, expectWholeLogs, raw, taskRows } from "./tables.ts";

const at = new Date("2026-01-01T00:00:00.123Z");
const LONG_MS = 3_600_000;
const { WORKING, COMPLETED, CANCELED, SUBMITTED } = TaskState;

describeEachBackend("leases", (context) => {
  let leases: LeaseRepository;
  beforeEach(async () => {
    leases = createLeaseRepository(context.db);
    await emptyTables(context.db);
  });

  it("go from one replica to another as the model says, whatever happens in whatever order", async () => {
    let taken = 0;
    await fc.assert(
      fc.asyncProperty(leaseCommands, async (commands) => {
        await emptyTables(context.db);
        const real = { db: context.db, leases };
        const model = await begin(real);
        await fc.asyncModelRun(() => ({ model, real }), commands);
        await expectWholeLogs(context.db);
        for (const { fence } of model.tasks.values()) taken += fence - 1;
      }),
      { numRuns: 30 },
    );
    expect(taken).toBeGreaterThan(30);
  });

  /** Tasks that a replica has, as it accepted them. */
  async function accepted(replica: string, count: number): Promise<{ workspaceId: string; taskId: string }[]> {
    const message = messageUpdate(create(MessageSchema, { messageId: "1", role: Role.USER }));
    const tasks = Array.from({ length: count }, () => ({
      header: headerOf(),
      updates: [{ ...message, state: EngineState.ASSIGNED }],
    }));
    await submitBatch(context.db, replica, tasks);
    return tasks.map(({ header: { workspaceId, taskId } }) => ({ workspaceId, taskId }));
  }

  const says = (
    task: { workspaceId: string; taskId: string },
    state: TaskState,
    more: Partial<Append> = {},
  ): Append => ({
    ...task,
    expectedSeq: 1,
    fence: 1,
    updates: [statusUpdate({ ...task, contextId: "c" }, { state, timestamp: timestampFromDate(at) })],
    at,
    ...more,
  });

  it("let exactly one of a completion, a cancel and a rescue that come together have the task", async () => {
    const [owner, other, rescuer] = await Promise.all([1, 2, 3].map(() => registerReplica(context.db)));
    const tasks = await accepted(owner!, 60);
    await leases.release(owner!);
    const [completed, canceled, rescued] = await Promise.all([
      Promise.all(tasks.map(async (task) => (await appendBatch(context.db, owner!, [says(task, COMPLETED)]))[0])),
      Promise.all(
        tasks.map(async (task) => (await appendBatch(context.db, other!, [says(task, CANCELED, { take: true })]))[0]),
      ),
      Promise.all(tasks.map(() => leases.rescue(rescuer!, 1))).then((batches) => batches.flat()),
    ]);
    for (const [i, { taskId }] of tasks.entries()) {
      const outcomes = [completed[i], canceled[i], rescued.find((task) => task.taskId === taskId)];
      expect(outcomes.filter((outcome) => outcome !== undefined)).toHaveLength(1);
    }
    await expectWholeLogs(context.db);
    for (const { seq } of (await taskRows(context.db)).values()) expect(seq).toBe(2);
  });

  it("let replicas write to the same tasks at once without waiting for each other in a circle", async () => {
    const [one, other] = await Promise.all([1, 2].map(() => registerReplica(context.db)));
    for (let round = 0; round < 20; round++) {
      const tasks = await accepted(one!, 40);
      const [forwards, backwards] = await Promise.all([
        appendBatch(
          context.db,
          one!,
          tasks.map((task) => says(task, WORKING)),
        ),
        appendBatch(context.db, other!, tasks.map((task) => says(task, CANCELED, { take: true })).reverse()),
      ]);
      backwards.reverse();
      for (const i of tasks.keys()) expect([forwards[i], backwards[i]].filter(Boolean)).toHaveLength(1);
    }
  });

  it("are taken over from nobody while the database itself is younger than a lease", async () => {
    const replica = await registerReplica(context.db);
    await raw(context.db, "update replicas set expires_at = clock_timestamp() - interval '1 s'");
    const year = 365 * 24 * 3_600_000;
    expect(await leases.reap(year)).toEqual([]);
    expect(await leases.beat(replica, LONG_MS)).toBe(1);
    await raw(context.db, "update replicas set expires_at = clock_timestamp() - interval '1 s'");
    expect(await leases.reap(1)).toEqual([replica]);
    expect(await leases.beat(replica, LONG_MS)).toBeUndefined();
  });

  it("of the dead are remembered for a time, and as long as they have tasks", async () => {
    const [living, recent, old, owner] = await Promise.all([1, 2, 3, 4].map(() => registerReplica(context.db)));
    await accepted(owner!, 1);
    for (const replica of [recent, old, owner]) await leases.release(replica!);
    await raw(context.db, "update replicas set died_at = died_at - interval '2 hours' where replica_id = any ($1)", [
      [old, owner],
    ]);
    const known = async () => (await raw(context.db, "select replica_id from replicas")).map((row) => row.replica_id);
    await leases.reap(1);
    expect(new Set(await known())).toEqual(new Set([living, recent, owner]));
    expect(await leases.rescue(living!, 10)).toHaveLength(1);
    await leases.reap(1);
    expect(new Set(await known())).toEqual(new Set([living, recent]));
  });

  it("end for all others at once where one process can have the database", async () => {
    const [mine, other] = await Promise.all([1, 2].map(() => registerReplica(context.db)));
    const tasks = await accepted(other!, 3);
    await leases.releaseOthers(mine!);
    expect(await leases.beat(other!, LONG_MS)).toBeUndefined();
    expect(await leases.beat(mine!, LONG_MS)).toBe(1);
    const rescued = await leases.rescue(mine!, 10);
    expect(new Set(rescued.map(({ taskId }) => taskId))).toEqual(new Set(tasks.map(({ taskId }) => taskId)));
    const keys = rescued.map(({ workspaceId, taskId, fence }) => ({ workspaceId, taskId, fence }));
    expect(new Set(await leases.held(mine!))).toEqual(new Set(keys));
    expect(await leases.held(other!)).toEqual([]);
  });

  it("begin another attempt when they are claimed after a pause, and none when they are rescued", async () => {
    const [one, other] = await Promise.all([1, 2].map(() => registerReplica(context.db)));
    const [task] = await accepted(one!, 1);
    const again: NewUpdate = { kind: "transition", body: create(StreamResponseSchema), state: EngineState.SCHEDULED };
    await appendBatch(context.db, one!, [says(task!, SUBMITTED, { updates: [again], wakeInMs: 0 })]);
    expect(await leases.claim(one!, 1, { running: new Map(), last: "" })).toMatchObject([{ fence: 2 }]);
    await leases.release(one!);
    expect(await leases.rescue(other!, 1)).toMatchObject([{ fence: 3 }]);
    const log = await raw(context.db, "select state, fence, attempt, written_by, cause from task_updates order by seq");
    expect(log.map((row) => [row.state, row.fence, row.attempt, row.written_by])).toEqual([
      [EngineState.ASSIGNED, 1, 1, one],
      [EngineState.SCHEDULED, 1, 1, one],
      [EngineState.ASSIGNED, 2, 2, one],
      [EngineState.ASSIGNED, 3, 2, other],
    ]);
    expect(log[3]?.cause).toContain(one);
  });
});
