import { hash } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { beforeEach, expect, test } from "vitest";
import {
  MessageSchema,
  Role,
  StreamResponseSchema,
  TaskPushNotificationConfigSchema,
  TaskState,
} from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { messageUpdate, statusUpdate } from "../../src/domain/agent-report.ts";
import type { NewUpdate, TaskHeader } from "../../src/domain/task-log.ts";
import { EngineState } from "../../src/domain/task-state.ts";
import { createAgentQueueRepository } from "../../src/store/agent-queue-repository.ts";
import type { Append, Author } from "../../src/store/append-batch.ts";
import { appendBatch } from "../../src/store/append-batch.ts";
import { createAuditTrail } from "../../src/store/audit-trail.ts";
import type { Database } from "../../src/store/database.ts";
import { createLeaseRepository } from "../../src/store/lease-repository.ts";
import { createPushConfigRepository } from "../../src/store/push-config-repository.ts";
import { type NewTask, submitBatch } from "../../src/store/submit-batch.ts";
import { encodeBody } from "../../src/store/task-codec.ts";
import { createTaskRemoval } from "../../src/store/task-removal.ts";
import { createTaskStore } from "../../src/store/task-store.ts";
import { registerReplica } from "../fixtures/replica.ts";
import { headerOf } from "../fixtures/task-header.ts";
import { auditEntries, expectWholeChains, type ReadEntry } from "./audit-lines.ts";
import { describeEachBackend } from "./backends.ts";
import { emptyTables, raw } from "./tables.ts";

const at = new Date("2026-01-01T00:00:00.123Z");
const AGENT: Author = { by: "agent:agent", from: EngineState.ASSIGNED, attempt: 1, agentId: "agent" };
const SECRET = "what nobody but the task may hold";

const said = (text = SECRET): NewUpdate =>
  messageUpdate(
    create(MessageSchema, { messageId: "m", role: Role.USER, parts: [{ content: { case: "text", value: text } }] }),
  );
const became = (header: TaskHeader, state: TaskState, cause = `reported: ${SECRET}`): NewUpdate =>
  statusUpdate(header, { state, timestamp: timestampFromDate(at) }, cause);

function newTask(replica: string, more: Partial<TaskHeader> = {}, state: EngineState = EngineState.ASSIGNED): NewTask {
  const leaseOwner = state === EngineState.ASSIGNED ? replica : undefined;
  const header = headerOf({ leaseOwner, createdAt: at, ...more });
  return { header, updates: [{ ...said(), state }], accepted: { by: "anonymous", facts: { strategy: "LEAST_LOAD" } } };
}

const appendTo = ({ header }: NewTask, updates: readonly NewUpdate[], more: Partial<Append> = {}): Append => ({
  workspaceId: header.workspaceId,
  taskId: header.taskId,
  expectedSeq: 1,
  fence: 1,
  at,
  updates,
  author: AGENT,
  ...more,
});

const ended = (task: NewTask, more: Partial<Append> = {}): Append =>
  appendTo(task, [became(task.header, TaskState.WORKING), became(task.header, TaskState.COMPLETED)], more);

describeEachBackend("audit of tasks", (ctx) => {
  let replica: string;
  beforeEach(async () => {
    await emptyTables(ctx.db);
    await raw(ctx.db, "truncate audit_entries, audit_chains");
    replica = await registerReplica(ctx.db);
  });
  const of = async (task: NewTask): Promise<ReadEntry[]> =>
    (await auditEntries(ctx.db)).filter((entry) => entry.task === task.header.taskId);

  test("tells of a task's life, with digests in the place of contents", async () => {
    const task = newTask(replica);
    await submitBatch(ctx.db, replica, [{ ...task, decision: Buffer.from("decision") }]);
    await appendBatch(ctx.db, replica, [ended(task)]);
    await expectWholeChains(ctx.db);
    const { taskId } = task.header;
    const place = {
      time: at.toISOString(),
      workspace: "default",
      target: "task",
      id: taskId,
      task: taskId,
      result: "OK",
    };
    const digest = (update: NewUpdate) => hash("sha256", encodeBody(update), "hex");
    const [working, completed] = ended(task).updates;
    const [appended, submitted] = [`${replica}/a`, `${replica}/s`];
    const moved = { attempt: 1, cause: "reported" };
    expect(await auditEntries(ctx.db)).toEqual([
      {
        ...{ ...place, chain: appended, n: 1, actor: "agent:agent", action: "task.transition" },
        prev: expect.any(String),
        detail: { ...moved, from: "ASSIGNED", to: "WORKING", seq: 2, digest: digest(working!) },
      },
      {
        ...{ ...place, chain: appended, n: 2, actor: "agent:agent", action: "task.transition" },
        prev: expect.any(String),
        detail: { ...moved, from: "WORKING", to: "COMPLETED", seq: 3, digest: digest(completed!) },
      },
      {
        ...{ ...place, chain: submitted, n: 1, actor: "anonymous", action: "task.accept" },
        prev: expect.any(String),
        detail: {
          ...{ agent: "agent", state: "ASSIGNED", strategy: "LEAST_LOAD", digest: digest(task.updates[0]!) },
          decision: hash("sha256", "decision", "hex"),
        },
      },
    ]);
    expect(JSON.stringify(await raw(ctx.db, "select body from audit_entries"))).not.toContain(SECRET);
  });

  test("has nothing of what is refused, or stored already", async () => {
    const [task, other] = [newTask(replica), newTask(replica)];
    await submitBatch(ctx.db, replica, [task]);
    // An answer was lost: it is made again, with another beside it.
    await submitBatch(ctx.db, replica, [task, other]);
    const outcomes = await appendBatch(ctx.db, replica, [
      ended(task),
      ended(other, { fence: 7 }),
      ended(newTask(replica)),
      ended(other, { expectedSeq: 5 }),
    ]);
    expect(outcomes.map((outcome) => outcome !== undefined)).toEqual([true, false, false, false]);
    await appendBatch(ctx.db, replica, [ended(task)]);
    await expectWholeChains(ctx.db);
    expect((await of(task)).map(({ action }) => action)).toEqual(["task.transition", "task.transition", "task.accept"]);
    expect((await of(other)).map(({ action }) => action)).toEqual(["task.accept"]);
    const dead = await registerReplica(ctx.db);
    await createLeaseRepository(ctx.db).release(dead);
    await expect(submitBatch(ctx.db, dead, [newTask(dead)])).rejects.toMatchObject({ reason: "REPLICA_EXPIRED" });
    expect(await auditEntries(ctx.db)).toHaveLength(4);
  });

  test("says who has given a task to whom, and what was said to it", async () => {
    const task = newTask(replica);
    await submitBatch(ctx.db, replica, [task]);
    const note = { kind: "transition", body: create(StreamResponseSchema), state: EngineState.SCHEDULED } as const;
    const by = { by: "anonymous", from: EngineState.ASSIGNED, attempt: 1, agentId: "agent" };
    const reroute = { agentId: "second", capabilityId: undefined, decision: Buffer.from("other") };
    await appendBatch(ctx.db, replica, [appendTo(task, [said("more")], { author: by })]);
    const { author: _, ...unsigned } = appendTo(task, [{ ...note, cause: "attempt 1 failed: words of its agent" }]);
    await appendBatch(ctx.db, replica, [{ ...unsigned, expectedSeq: 2, forgetUpstream: true, reroute }]);
    const router = `router:${replica}`;
    expect((await of(task)).slice(0, 3)).toMatchObject([
      { action: "task.message", actor: "anonymous", detail: { seq: 2 } },
      { action: "task.reroute", actor: router, detail: { to: "second", decision: hash("sha256", "other", "hex") } },
      { action: "task.transition", actor: router, detail: { seq: 3, to: "SCHEDULED", cause: "attempt 1 failed" } },
    ]);
  });

  test("keeps chains without gaps for replicas, lanes and workspaces that write at once", async () => {
    const replicas = [replica, await registerReplica(ctx.db)];
    const stores = replicas.map((id) => createTaskStore(ctx.db, { maxWaiting: 1000, replicaId: () => id }));
    const lives = Array.from({ length: 120 }, async (_, i) => {
      const [id, store] = [replicas[i % 2]!, stores[i % 2]!];
      const task = newTask(id, { workspaceId: ["default", "one", "two"][i % 3]! });
      await store.submit(task);
      const [first, second] = await Promise.all([store.append(ended(task)), store.append(ended(task))]);
      expect([first !== undefined, second !== undefined]).toEqual([true, false]);
    });
    await Promise.all(lives);
    await Promise.all(stores.map((store) => store.close()));
    await expectWholeChains(ctx.db);
    const entries = await auditEntries(ctx.db);
    expect(entries).toHaveLength(360);
    expect(new Set(entries.map(({ workspace, chain }) => `${workspace} ${chain}`)).size).toBe(12);
    const own = await raw(ctx.db, "select count(*) from audit_entries where workspace_id = 'one'");
    expect(own[0]!.count).toBe(120);
  });

  test("where an answer was lost and the statement commits late, the next goes on behind it", async () => {
    if (ctx.backend === "pglite") return;
    const [late, next] = [newTask(replica), newTask(replica)];
    const open = Promise.withResolvers<void>();
    const held = Promise.withResolvers<void>();
    const zombie = ctx.db.kysely.transaction().execute(async (tx) => {
      const query: Database["query"] = async ({ text }, values) =>
        (await tx.executeQuery({ sql: text, parameters: values } as never)).rows as never;
      await submitBatch({ ...ctx.db, query }, replica, [late]);
      held.resolve();
      await open.promise;
    });
    await held.promise;
    const again = submitBatch(ctx.db, replica, [next]);
    // Waits for the one before it, which holds the chain.
    await waitForLock(ctx.db);
    open.resolve();
    await Promise.all([zombie, again]);
    await expectWholeChains(ctx.db);
    expect((await auditEntries(ctx.db)).map(({ id, n }) => [id, n])).toEqual([
      [late.header.taskId, 1],
      [next.header.taskId, 2],
    ]);
  });

  test("records who takes tasks, and lets them wait", async () => {
    const leases = createLeaseRepository(ctx.db);
    const queue = createAgentQueueRepository(ctx.db);
    const [waiting, running] = [newTask(replica, { attempt: 0 }, EngineState.QUEUED), newTask(replica)];
    await submitBatch(ctx.db, replica, [waiting, running]);
    const [claimed] = await leases.claim(replica, 10, { running: new Map(), last: "" });
    await queue.park(replica, [{ ...claimed!, agentId: "agent" }]);
    const room = { workspaceId: "default", agentId: "agent", units: 5, capabilities: new Map<string, number>() };
    expect(await queue.claim(replica, [room])).toHaveLength(1);
    await leases.release(replica);
    const heir = await registerReplica(ctx.db);
    expect(await leases.rescue(heir, 10)).toHaveLength(2);
    await expectWholeChains(ctx.db);
    const moves = (await of(waiting)).filter(({ action }) => action === "task.transition");
    const byReplica = { actor: `router:${replica}`, target: "task", id: waiting.header.taskId };
    const expected = [
      { ...byReplica, detail: { attempt: 1, cause: "claimed from the queue", from: "QUEUED", seq: 2, to: "ASSIGNED" } },
      { ...byReplica, detail: { cause: 'waits for room at agent "agent"', from: "ASSIGNED", seq: 3, to: "QUEUED" } },
      { ...byReplica, detail: { attempt: 1, cause: "claimed", from: "QUEUED", seq: 4, to: "ASSIGNED" } },
      {
        actor: `router:${heir}`,
        detail: { attempt: 1, cause: `rescued from replica ${replica}`, from: "ASSIGNED", seq: 5, to: "ASSIGNED" },
      },
    ];
    // Two replicas' chains, in the order of their ids.
    expect(moves.toSorted((a, b) => seqOf(a) - seqOf(b))).toMatchObject(expected);
  });

  test("outlives the task, and says who has removed it", async () => {
    const tasks = [newTask(replica), newTask(replica), newTask(replica)];
    await submitBatch(ctx.db, replica, tasks);
    await appendBatch(
      ctx.db,
      replica,
      tasks.map((task) => ended(task)),
    );
    const removal = createTaskRemoval(ctx.db, () => replica);
    expect(await removal.remove("default", tasks[0]!.header.taskId, { id: "anonymous" })).toBe(true);
    expect(await removal.remove("default", tasks[0]!.header.taskId, { id: "anonymous" })).toBe(false);
    const all = { before: new Date(Date.now() + 60_000), after: "", limit: 10, viewer: undefined };
    expect((await removal.removeEnded("default", all, { id: "anonymous" })).removed).toHaveLength(2);
    expect((await removal.removeEnded("default", all, { id: "anonymous" })).removed).toHaveLength(0);
    await expectWholeChains(ctx.db);
    for (const task of tasks) {
      const entries = await of(task);
      expect(entries).toHaveLength(4);
      expect(entries.at(-1)).toMatchObject({ action: "task.remove", actor: "anonymous", id: task.header.taskId });
    }
  });

  test("says who acts for a principal, in whatever it does with a task", async () => {
    const actors = ["jwt/id.example/planner", "jwt/id.example/front"];
    const task = { ...newTask(replica), accepted: { by: "jwt/id.example/ann", actors } };
    await submitBatch(ctx.db, replica, [task]);
    const byCaller = { by: "jwt/id.example/ann", actors, from: EngineState.WORKING, attempt: 1, agentId: "agent" };
    await appendBatch(ctx.db, replica, [
      appendTo(task, [became(task.header, TaskState.WORKING), said("more")], { author: byCaller }),
    ]);
    await appendBatch(ctx.db, replica, [ended(task, { expectedSeq: 3 })]);
    const removal = createTaskRemoval(ctx.db, () => replica);
    expect(await removal.remove("default", task.header.taskId, { id: "jwt/id.example/ann", actors })).toBe(true);
    await expectWholeChains(ctx.db);
    const entries = await of(task);
    const acting = entries.map(({ action, actor, detail }) => [action, actor, detail?.actors]);
    expect(acting).toContainEqual(["task.accept", "jwt/id.example/ann", actors]);
    expect(acting).toContainEqual(["task.message", "jwt/id.example/ann", actors]);
    expect(acting).toContainEqual(["task.remove", "jwt/id.example/ann", actors]);
    expect(acting.filter(([, actor]) => actor !== "jwt/id.example/ann").every(([, , of]) => of === undefined)).toBe(
      true,
    );
  });

  test("lets a webhook and its task be removed at once", async () => {
    if (ctx.backend === "pglite") return;
    const task = newTask(replica);
    const { taskId } = task.header;
    await submitBatch(ctx.db, replica, [task]);
    await appendBatch(ctx.db, replica, [ended(task)]);
    const configs = createPushConfigRepository(ctx.db);
    const config = create(TaskPushNotificationConfigSchema, { taskId, id: "hook", url: "http://127.0.0.1:9/" });
    await configs.put("default", config, { now: at, most: 1, from: "now" });
    const event = { workspaceId: "default", at, actor: "anonymous", action: "webhook.remove", targetType: "webhook" };
    const record = createAuditTrail({ db: ctx.db, enabled: true, replicaId: () => replica }).recording({
      ...event,
      targetId: "hook",
      taskId,
      result: "OK",
    });
    // Tried once: a deadlock would be told, and not run again.
    const query: Database["query"] = async ({ text }, values) =>
      (await ctx.db.kysely.executeQuery({ sql: text, parameters: values } as never)).rows as never;
    let removed: Promise<boolean> | undefined;
    await configs.remove("default", taskId, "hook", async (tx) => {
      removed = createTaskRemoval({ ...ctx.db, query }, () => replica).remove("default", taskId);
      await waitForLock(ctx.db);
      await record(tx);
    });
    expect(await removed).toBe(true);
    expect((await of(task)).slice(-2).map(({ action }) => action)).toEqual(["webhook.remove", "task.remove"]);
  });

  test("where it is off, leaves the same statements without it", async () => {
    const store = createTaskStore(ctx.db, { maxWaiting: 10, replicaId: () => replica, isAudited: false });
    const task = newTask(replica);
    await store.submit(task);
    expect(await store.append(ended(task))).toMatchObject({ fence: 1 });
    await store.close();
    const leases = createLeaseRepository(ctx.db, false);
    await submitBatch(ctx.db, replica, [newTask(replica, {}, EngineState.QUEUED)], false);
    const [claimed] = await leases.claim(replica, 10, { running: new Map(), last: "" });
    await createAgentQueueRepository(ctx.db, false).park(replica, [{ ...claimed!, agentId: "agent" }]);
    expect(await createTaskRemoval(ctx.db).remove("default", task.header.taskId)).toBe(true);
    expect(await auditEntries(ctx.db)).toEqual([]);
  });
});

const seqOf = ({ detail }: ReadEntry): number => detail!.seq as number;

/** Until some session waits for a lock of another. */
async function waitForLock(db: Database): Promise<void> {
  for (;;) {
    const waiting = await raw(
      db,
      "select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()",
    );
    if (waiting.length > 0) return;
  }
}
