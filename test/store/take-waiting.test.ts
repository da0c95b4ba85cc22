/** A task that waits for its client, and is taken over by a write that brings no state: it must not be forgotten. */
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { beforeEach, expect, it } from "vitest";
import { MessageSchema, Role, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { messageUpdate, statusUpdate } from "../../src/domain/agent-report.ts";
import { EngineState } from "../../src/domain/task-state.ts";
import { createLeaseRepository, type LeaseRepository } from "../../src/store/lease-repository.ts";
import type { TaskKey } from "../../src/store/task-reads.ts";
import { createTaskStore, type TaskStore } from "../../src/store/task-store.ts";
import { registerReplica } from "../fixtures/replica.ts";
import { headerOf } from "../fixtures/task-header.ts";
import { describeEachBackend } from "./backends.ts";

const HOUR_MS = 3_600_000;
const said = messageUpdate(create(MessageSchema, { messageId: "1", role: Role.USER }));
const fairness = { running: new Map<string, number>(), last: "" };

describeEachBackend("a task in INPUT_REQUIRED", (context) => {
  let replica: string;
  let store: TaskStore;
  let leases: LeaseRepository;
  beforeEach(async () => {
    replica = await registerReplica(context.db);
    store = createTaskStore(context.db, { maxWaiting: 100, replicaId: () => replica });
    leases = createLeaseRepository(context.db);
    return () => store.close();
  });

  /** A task that may wait so long for its client. */
  async function waiting(wakeInMs: number) {
    const header = headerOf({ leaseOwner: replica });
    const { workspaceId, taskId } = header;
    const asks = statusUpdate(header, { state: TaskState.INPUT_REQUIRED, timestamp: timestampFromDate(new Date()) });
    await store.submit({ header, updates: [{ ...said, state: EngineState.ASSIGNED }] });
    const append = { workspaceId, taskId, expectedSeq: 1, fence: 1, updates: [asks], at: new Date(), wakeInMs };
    expect(await store.append(append)).toMatchObject({ leaseOwner: undefined });
    return { workspaceId, taskId };
  }

  const claim = async () => (await leases.claim(replica, 10, fairness)).map(({ taskId }) => taskId);
  async function take({ workspaceId, taskId }: TaskKey) {
    const { header, updates } = (await store.load(workspaceId, taskId))!;
    const seen = { workspaceId, taskId, expectedSeq: updates.length, fence: header.fence };
    return store.append({ ...seen, updates: [said], at: new Date(), take: true });
  }

  it("can be claimed again when it was taken from the replica that had claimed it", async () => {
    const task = await waiting(0);
    expect(await claim()).toEqual([task.taskId]);
    expect(await claim()).toEqual([]);
    replica = await registerReplica(context.db);
    expect(await take(task)).toMatchObject({ leaseOwner: undefined });
    expect(await claim()).toEqual([task.taskId]);
  });

  it("goes on waiting for as long as it may when nobody had claimed it", async () => {
    const task = await waiting(HOUR_MS);
    const before = await context.db.kysely.selectFrom("tasks").select("wake_at").where("task_id", "=", task.taskId);
    const [row] = await before.execute();
    expect(await take(task)).toMatchObject({ fence: 2, leaseOwner: undefined });
    expect(await before.execute()).toEqual([row]);
    expect(await claim()).toEqual([]);
  });
});
