/** Tasks that have ended are removed with all that hangs on them; nothing else is. */
import { create } from "@bufbuild/protobuf";
import fc from "fast-check";
import { beforeEach, expect, it } from "vitest";
import { TaskPushNotificationConfigSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { uuidV7 } from "../../src/domain/identifiers.ts";
import { EngineState } from "../../src/domain/task-state.ts";
import { createPushConfigRepository } from "../../src/store/push-config-repository.ts";
import { readUpdates } from "../../src/store/task-reads.ts";
import { createTaskRemoval, type TaskRemoval } from "../../src/store/task-removal.ts";
import { writeRow } from "../fixtures/log-rows.ts";
import { describeEachBackend } from "./backends.ts";
import { emptyTables, raw } from "./tables.ts";

const HOUR = 3_600_000;
const ENDED: readonly number[] = [
  EngineState.COMPLETED,
  EngineState.FAILED,
  EngineState.CANCELED,
  EngineState.REJECTED,
];

describeEachBackend("the removal of tasks", (context) => {
  let removal: TaskRemoval;
  beforeEach(async () => {
    removal = createTaskRemoval(context.db);
    await emptyTables(context.db);
  });

  interface Stored {
    state?: number;
    workspaceId?: string;
    /** When it was accepted, and when its status last changed: so long ago. */
    createdMsAgo?: number;
    statusMsAgo?: number;
    disclosed?: boolean;
  }

  const now = Date.now();

  /** A task with `rows` rows of its log. */
  async function store(task: Stored = {}, rows = 3): Promise<string> {
    const { state = EngineState.COMPLETED, workspaceId = "default", statusMsAgo = 0, disclosed = true } = task;
    const createdMsAgo = Math.max(task.createdMsAgo ?? 0, statusMsAgo);
    const random = new Uint8Array(16).map(() => Math.floor(Math.random() * 256));
    const taskId = uuidV7(now - createdMsAgo, random);
    const isLeased = [EngineState.WORKING, EngineState.AUTH_REQUIRED, EngineState.ASSIGNED].includes(state as 2);
    await context.db.kysely
      .insertInto("tasks")
      .values({
        workspace_id: workspaceId,
        task_id: taskId,
        context_id: "c",
        agent_id: "a",
        state,
        a2a_state: ([EngineState.QUEUED, EngineState.ASSIGNED, EngineState.SCHEDULED] as number[]).includes(state)
          ? 1
          : state,
        status: null,
        status_at: new Date(now - statusMsAgo),
        last_seq: rows,
        disclosed,
        has_push: false,
        created_at: new Date(now - createdMsAgo),
        lease_owner: isLeased ? "r" : null,
      })
      .execute();
    for (let seq = 1; workspaceId === "default" && seq <= rows; seq++) await writeRow(context.db.kysely, taskId, seq);
    return taskId;
  }

  const left = async () => {
    const ids = async (table: string) =>
      (await raw(context.db, `select distinct task_id from ${table}`)).map((row) => row.task_id as string).sort();
    return { tasks: await ids("tasks"), logs: await ids("task_updates"), configs: await ids("push_configs") };
  };

  async function removeAllEnded(before: Date, limit: number): Promise<string[]> {
    const removed: string[] = [];
    for (let after: string | undefined = ""; after !== undefined; ) {
      const page = await removal.removeEnded("default", { before, after, limit, viewer: undefined });
      expect(page.removed.length).toBeLessThanOrEqual(limit);
      removed.push(...page.removed);
      after = page.last;
    }
    return removed;
  }

  it("takes the log and the webhooks along, and leaves the neighbours", async () => {
    const [gone, stays] = [await store(), await store()];
    const configs = createPushConfigRepository(context.db);
    for (const taskId of [gone, stays]) {
      const config = create(TaskPushNotificationConfigSchema, { taskId, id: "hook", url: "http://127.0.0.1:9/" });
      expect(await configs.put("default", config, { now: new Date(), most: 9, from: "start" })).toBe(true);
    }
    expect(await removal.remove("default", gone)).toBe(true);
    expect(await left()).toEqual({ tasks: [stays], logs: [stays], configs: [stays] });
    expect(await removal.remove("default", gone)).toBe(false);
    expect(await removal.remove("stranger", stays)).toBe(false);
    expect(await readUpdates(context.db, { workspaceId: "default", taskId: gone }, 3, 10)).toEqual({
      updates: [],
      more: false,
      gone: true,
    });
    expect(await readUpdates(context.db, { workspaceId: "default", taskId: stays }, 3, 10)).toMatchObject({
      gone: false,
    });
    const late = create(TaskPushNotificationConfigSchema, { taskId: gone, id: "late", url: "http://127.0.0.1:9/" });
    await expect(configs.put("default", late, { now: new Date(), most: 9, from: "now" })).rejects.toMatchObject({
      reason: "TASK_NOT_FOUND",
    });
  });

  it.each(Object.entries(EngineState))("of a task that is %s, says whether it may go", async (_, state) => {
    const taskId = await store({ state });
    expect(await removal.remove("default", taskId)).toBe(ENDED.includes(state));
    expect((await left()).tasks).toEqual(ENDED.includes(state) ? [] : [taskId]);
  });

  it("cleans up what ended before a time, in batches of any size, hidden tasks too", async () => {
    const task = fc.record({
      state: fc.constantFrom(...Object.values(EngineState)),
      createdMsAgo: fc.integer({ min: 0, max: 3 * HOUR }),
      statusMsAgo: fc.integer({ min: 0, max: 2 * HOUR }),
      disclosed: fc.boolean(),
      workspaceId: fc.constantFrom("default", "default", "default", "other"),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.array(task, { maxLength: 12 }),
        fc.integer({ min: 1, max: 5 }),
        fc.integer({ min: 0, max: 2 * HOUR }),
        async (tasks, limit, ageMs) => {
          await emptyTables(context.db);
          const stored = [];
          for (const each of tasks) stored.push({ ...each, taskId: await store(each, 2) });
          const old = stored.filter(
            ({ state, statusMsAgo, workspaceId }) =>
              workspaceId === "default" && ENDED.includes(state) && statusMsAgo >= ageMs,
          );
          const removed = await removeAllEnded(new Date(now - ageMs), limit);
          expect(removed.sort()).toEqual(old.map(({ taskId }) => taskId).sort());
          const rest = stored.filter((each) => !old.includes(each));
          expect((await left()).tasks).toEqual(rest.map(({ taskId }) => taskId).sort());
          const logs = rest.filter(({ workspaceId }) => workspaceId === "default");
          expect((await left()).logs).toEqual(logs.map(({ taskId }) => taskId).sort());
        },
      ),
      { numRuns: 25 },
    );
  });

  it("shares the work where two clean up at once", async () => {
    const ids = [];
    for (let i = 0; i < 40; i++) ids.push(await store({}, 1));
    const before = new Date(now + HOUR);
    const both = await Promise.all([removeAllEnded(before, 7), removeAllEnded(before, 5)]);
    const removed = both.flat();
    expect(new Set(removed).size).toBe(removed.length);
    // What one had in hand the other passed over: nobody was left out.
    expect(removed.sort()).toEqual(ids.sort());
    expect(await left()).toMatchObject({ tasks: [], logs: [] });
  });
});
