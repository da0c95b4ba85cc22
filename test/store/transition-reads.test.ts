/** What the store tells operators of a task, and of logs that earlier versions wrote. */
import { create, toBinary } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { beforeAll, expect, it } from "vitest";
import {
  MessageSchema,
  Role,
  StreamResponseSchema,
  TaskArtifactUpdateEventSchema,
  TaskState,
} from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { messageUpdate, statusUpdate, updatesFromArtifact } from "../../src/domain/agent-report.ts";
import { type NewUpdate, newImage, type TaskHeader } from "../../src/domain/task-log.ts";
import { EngineState } from "../../src/domain/task-state.ts";
import { createLeaseRepository } from "../../src/store/lease-repository.ts";
import { createTaskStore, type TaskStore } from "../../src/store/task-store.ts";
import { createTransitionReads, type TransitionReads } from "../../src/store/transition-reads.ts";
import { registerReplica } from "../fixtures/replica.ts";
import { headerOf } from "../fixtures/task-header.ts";
import { describeEachBackend } from "./backends.ts";

const at = new Date("2026-01-01T00:00:01.000Z");
const ALL = { after: 0, limit: 100 };

const hello = (state: EngineState, cause: string): NewUpdate => ({
  ...messageUpdate(create(MessageSchema, { messageId: "m", role: Role.USER })),
  state,
  cause,
});

const transition = (state: EngineState, cause: string): NewUpdate => ({
  kind: "transition",
  body: create(StreamResponseSchema),
  state,
  cause,
});

const status = (header: TaskHeader, state: TaskState, cause?: string): NewUpdate =>
  statusUpdate(header, { state, timestamp: timestampFromDate(at) }, cause);

const chunk = (header: TaskHeader): NewUpdate[] =>
  updatesFromArtifact(newImage(header), create(TaskArtifactUpdateEventSchema, { artifact: { artifactId: "a" } }));

describeEachBackend("what operators read", (context) => {
  let store: TaskStore;
  let reads: TransitionReads;
  let replicaId: string;
  beforeAll(async () => {
    replicaId = await registerReplica(context.db);
    store = createTaskStore(context.db, { maxWaiting: 100, replicaId: () => replicaId });
    reads = createTransitionReads(context.db);
    return () => store.close();
  });

  it("lists the rows that brought a state or have a cause, and whose they are", async () => {
    const header = headerOf();
    const { workspaceId, taskId } = header;
    const key = { workspaceId, taskId, at };
    await store.submit({ header, updates: [hello(EngineState.ASSIGNED, "accepted")] });
    await store.append({ ...key, expectedSeq: 1, fence: 1, updates: [status(header, TaskState.WORKING)] });
    await store.append({ ...key, expectedSeq: 2, fence: 1, updates: chunk(header) });
    await store.append({
      ...key,
      expectedSeq: 3,
      fence: 1,
      updates: [transition(EngineState.SCHEDULED, "attempt 1 failed: broken")],
      wakeInMs: 60_000,
    });
    await store.append({
      ...key,
      expectedSeq: 4,
      fence: 1,
      updates: [transition(EngineState.ASSIGNED, "due")],
      take: true,
    });

    const first = { seq: 1, kind: "message", state: EngineState.ASSIGNED, cause: "accepted", at: header.createdAt };
    const rows = [
      { ...first, attempt: 1, fence: 1, replicaId },
      { seq: 2, kind: "status", state: EngineState.WORKING, cause: undefined, at, attempt: 1, fence: 1, replicaId },
      {
        seq: 4,
        kind: "transition",
        state: EngineState.SCHEDULED,
        cause: "attempt 1 failed: broken",
        at,
        attempt: 1,
        fence: 1,
        replicaId,
      },
      { seq: 5, kind: "transition", state: EngineState.ASSIGNED, cause: "due", at, attempt: 1, fence: 2, replicaId },
    ];
    expect(await reads.list(workspaceId, taskId, ALL)).toEqual(rows);
    expect(await reads.list(workspaceId, taskId, { after: 1, limit: 2 })).toEqual(rows.slice(1, 3));
    expect(await reads.list("other", taskId, ALL)).toEqual([]);
  });

  it("tells where a task stands: leased, waiting, with a dead owner, unknown", async () => {
    const deadlineAt = new Date(Date.now() + 3_600_000);
    const header = headerOf({ priority: "HIGH", deadlineAt });
    const { workspaceId, taskId, agentId, createdAt } = header;
    await store.submit({ header, updates: [hello(EngineState.ASSIGNED, "accepted")] });
    const facts = { agentId, createdAt, priority: "HIGH", deadlineAt };
    const leased = await reads.execution(workspaceId, taskId);
    expect(leased).toEqual({
      ...facts,
      state: EngineState.ASSIGNED,
      seq: 1,
      attempt: 1,
      fence: 1,
      leaseOwner: replicaId,
      leaseUntil: expect.any(Date),
      wakeAt: undefined,
    });
    expect(leased!.leaseUntil!.getTime()).toBeGreaterThan(Date.now());

    const updates = [transition(EngineState.SCHEDULED, "attempt 1 failed")];
    await store.append({ workspaceId, taskId, expectedSeq: 1, fence: 1, updates, at, wakeInMs: 60_000 });
    expect(await reads.execution(workspaceId, taskId)).toMatchObject({
      ...facts,
      state: EngineState.SCHEDULED,
      leaseOwner: undefined,
      leaseUntil: undefined,
      wakeAt: expect.any(Date),
    });

    const dying = await registerReplica(context.db);
    const orphan = headerOf();
    const others = createTaskStore(context.db, { maxWaiting: 100, replicaId: () => dying });
    await others.submit({ header: orphan, updates: [hello(EngineState.ASSIGNED, "accepted")] });
    await others.close();
    await createLeaseRepository(context.db).release(dying);
    const { leaseOwner, leaseUntil } = (await reads.execution(workspaceId, orphan.taskId))!;
    expect(leaseOwner).toBe(dying);
    // Not the hour for which it had its lease.
    expect(leaseUntil!.getTime()).toBeLessThan(Date.now() + 60_000);

    expect(await reads.execution(workspaceId, "nobody")).toBeUndefined();
  });

  it("reads the states out of a log that was written before the engine", async () => {
    const header = headerOf();
    const body = (update: NewUpdate) => toBinary(StreamResponseSchema, update.body);
    const row = { workspace_id: header.workspaceId, task_id: header.taskId, created_at: at };
    const message = messageUpdate(create(MessageSchema, { messageId: "m", role: Role.USER }));
    await context.db.kysely
      .insertInto("task_updates")
      .values([
        { ...row, seq: 1, kind: 1, body: body(message) },
        { ...row, seq: 2, kind: 2, body: body(status(header, TaskState.WORKING)) },
        { ...row, seq: 3, kind: 3, body: body(chunk(header)[0]!) },
        { ...row, seq: 4, kind: 4, body: body(message) },
      ])
      .execute();
    const written = { at, cause: undefined, attempt: 1, fence: 0, replicaId: undefined };
    expect(await reads.list(header.workspaceId, header.taskId, ALL)).toEqual([
      { ...written, seq: 2, kind: "status", state: EngineState.WORKING },
      { ...written, seq: 4, kind: "reply", state: EngineState.COMPLETED },
    ]);
  });
});
