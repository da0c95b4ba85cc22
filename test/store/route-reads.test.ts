/** Decisions of past tasks, read by the time at which they were accepted; and tasks that have ended when they are stored. */
import { randomBytes } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { beforeAll, expect, test } from "vitest";
import { MessageSchema, Role, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { agentText, messageUpdate, statusUpdate } from "../../src/domain/agent-report.ts";
import { firstUuidV7, uuidV7 } from "../../src/domain/identifiers.ts";
import { foldTask, type TaskHeader } from "../../src/domain/task-log.ts";
import { EngineState } from "../../src/domain/task-state.ts";
import { readDecidedTasks } from "../../src/store/route-reads.ts";
import { createTaskStore, type TaskStore } from "../../src/store/task-store.ts";
import { registerReplica } from "../fixtures/replica.ts";
import { headerOf } from "../fixtures/task-header.ts";
import { describeEachBackend } from "./backends.ts";
import { emptyTables, expectWholeLogs, raw } from "./tables.ts";

const NOON = Date.UTC(2026, 5, 1, 12);
const hello = messageUpdate(create(MessageSchema, { messageId: "1", role: Role.USER }));

describeEachBackend("decided tasks", (ctx) => {
  let store: TaskStore;
  beforeAll(async () => {
    await emptyTables(ctx.db);
    const replicaId = await registerReplica(ctx.db);
    store = createTaskStore(ctx.db, { maxWaiting: 100, replicaId: () => replicaId });
    // One a minute, each with its minute as decision; every third is of another capability, and the last two of none.
    for (let minute = 0; minute < 12; minute++) {
      const createdAt = new Date(NOON + minute * 60_000);
      await store.submit({
        header: headerOf({
          taskId: uuidV7(createdAt.getTime(), randomBytes(16)),
          createdAt,
          capabilityId: minute >= 10 ? undefined : minute % 3 === 0 ? "other" : "fly",
        }),
        updates: [{ ...hello, state: EngineState.QUEUED }],
        ...(minute !== 5 && { decision: new Uint8Array([minute]) }),
      });
    }
    const elsewhere = headerOf({ workspaceId: "elsewhere", taskId: uuidV7(NOON, randomBytes(16)) });
    const updates = [{ ...hello, state: EngineState.QUEUED }];
    await store.submit({ header: elsewhere, updates, decision: new Uint8Array([99]) });
    return () => store.close();
  });

  async function minutes(from: number, before: number, capabilityId?: string, limit = 100) {
    const query = {
      fromMs: NOON + from * 60_000,
      beforeMs: NOON + before * 60_000,
      capabilityId,
      limit,
      viewer: undefined,
    };
    const found: (number | undefined)[] = [];
    for (let after: string | undefined; ; ) {
      const page = await readDecidedTasks(ctx.db, "default", { ...query, after });
      expect(page.length).toBeLessThanOrEqual(limit);
      found.push(...page.map(({ decision }) => decision?.[0]));
      if (page.length < limit) return found;
      after = page.at(-1)!.taskId;
    }
  }

  test("come with the newest first, from a time on and before another", async () => {
    expect(await minutes(0, 12)).toEqual([11, 10, 9, 8, 7, 6, undefined, 4, 3, 2, 1, 0]);
    expect(await minutes(2, 5)).toEqual([4, 3, 2]);
    expect(await minutes(12, 24)).toEqual([]);
    expect(await minutes(-1e6, 1)).toEqual([0]);
  });

  test("come in pages of any size, each once", async () => {
    for (const limit of [1, 2, 3, 4, 12, 13])
      expect(await minutes(0, 12, undefined, limit)).toEqual(await minutes(0, 12));
  });

  test("of one capability have decisions, the others are only counted", async () => {
    const decided = (await minutes(0, 12, "other", 5)).filter((minute) => minute !== undefined);
    expect(decided).toEqual([9, 6, 3, 0]);
    expect(await minutes(0, 12, "nothing")).toEqual(new Array(12).fill(undefined));
  });

  test("tell when they were accepted and how they stand", async () => {
    const [first] = await readDecidedTasks(ctx.db, "default", {
      fromMs: NOON,
      beforeMs: NOON + 1,
      capabilityId: undefined,
      after: undefined,
      limit: 5,
      viewer: undefined,
    });
    const at = new Date(NOON);
    expect(first).toMatchObject({ createdAt: at, statusAt: at, a2aState: TaskState.SUBMITTED, disclosed: true });
  });

  test("ids are in the order of their times", () => {
    for (const ms of [0, 1, NOON, 2 ** 48 - 2]) {
      const id = uuidV7(ms, randomBytes(16));
      expect(firstUuidV7(ms) <= id && id < firstUuidV7(ms + 1)).toBe(true);
    }
  });

  test("a task may have ended when it is stored: nobody has it, waits for it or may add to it", async () => {
    const header: TaskHeader = headerOf({ agentId: "", attempt: 0 });
    const message = agentText(header, "2", "Nobody can.");
    const status = { state: TaskState.REJECTED, timestamp: timestampFromDate(header.createdAt), message };
    const updates = [{ ...hello, state: EngineState.QUEUED }, statusUpdate(header, status, "nobody")];
    const task = { header, updates, decision: new Uint8Array([1]) };
    await store.submit(task);
    // Its answer was lost, say.
    await store.submit(task);
    const stored = (await store.load("default", header.taskId))!;
    const image = foldTask(stored.header, stored.updates);
    expect(image).toMatchObject({
      seq: 2,
      state: EngineState.REJECTED,
      header: { agentId: "", leaseOwner: undefined },
    });
    expect(image.task.status).toMatchObject({ state: TaskState.REJECTED, message: { messageId: "2" } });
    const { tasks } = await store.list("default", { state: TaskState.REJECTED }, { limit: 10, viewer: undefined });
    expect(tasks).toMatchObject([{ header: { taskId: header.taskId }, status: { message: { messageId: "2" } } }]);
    const [row] = await raw(ctx.db, "select wake_at, lease_owner from tasks where task_id = $1", [header.taskId]);
    expect(row).toEqual({ wake_at: null, lease_owner: null });
    const append = { workspaceId: "default", taskId: header.taskId, fence: 1, at: header.createdAt, updates: [hello] };
    expect(await store.append({ ...append, expectedSeq: 2 })).toBeUndefined();
    await expectWholeLogs(ctx.db);
  });

  test("but not by a way that no task goes", async () => {
    const header = headerOf();
    const completed = statusUpdate(header, {
      state: TaskState.COMPLETED,
      timestamp: timestampFromDate(header.createdAt),
    });
    for (const updates of [
      [completed],
      [{ ...hello, state: EngineState.QUEUED }, completed],
      [{ ...hello, state: EngineState.WORKING }, completed],
    ])
      await expect(store.submit({ header, updates })).rejects.toThrow();
    expect(await store.load("default", header.taskId)).toBeUndefined();
  });
});
