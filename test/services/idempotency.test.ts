/** What becomes of requests with a key, by a clock that the test moves. */
import { create } from "@bufbuild/protobuf";
import { beforeEach, expect, test } from "vitest";
import {
  type Message,
  MessageSchema,
  Role,
  SendMessageConfigurationSchema,
  type SendMessageRequest,
  SendMessageRequestSchema,
  TaskState,
} from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { messageUpdate, statusUpdate } from "../../src/domain/agent-report.ts";
import { databaseOutcomeUnknown, SignalboxError } from "../../src/domain/errors.ts";
import type { TaskHeader } from "../../src/domain/task-log.ts";
import { EngineState } from "../../src/domain/task-state.ts";
import { createIdempotency, type Idempotency } from "../../src/services/idempotency.ts";
import type { RequestContext } from "../../src/services/request-context.ts";
import { NOT_ACKNOWLEDGED } from "../../src/services/runners.ts";
import { type Runtime, systemRuntime } from "../../src/services/runtime.ts";
import { createExpiredRows } from "../../src/store/expired-rows.ts";
import { createIdempotencyRepository } from "../../src/store/idempotency-repository.ts";
import { createTaskRemoval } from "../../src/store/task-removal.ts";
import { createTaskStore, type TaskStore } from "../../src/store/task-store.ts";
import { registerReplica } from "../fixtures/replica.ts";
import { headerOf } from "../fixtures/task-header.ts";
import { describeEachBackend, silent } from "../store/backends.ts";
import { raw } from "../store/tables.ts";

const KEEP_MS = 3_600_000;
const KEY = "key:one";

describeEachBackend("requests with a key", (ctx) => {
  let store: TaskStore;
  let replicaId: string;
  let clock: number;
  let idempotency: Idempotency;
  let onDisclose: () => Promise<void>;
  const system = systemRuntime();

  beforeEach(async () => {
    await raw(ctx.db, "truncate idempotency_keys, replicas, tasks, task_updates cascade");
    replicaId = await registerReplica(ctx.db);
    onDisclose = async () => {};
    clock = Date.parse("2026-01-01T00:00:00Z");
    store = createTaskStore(ctx.db, { maxWaiting: 1000, replicaId: () => replicaId });
    const runtime: Runtime = {
      ...system,
      now: () => new Date(clock),
      elapsedMs: () => clock,
      // Whoever waits sees the time pass.
      wait: async (ms, signal) => {
        signal.throwIfAborted();
        clock += Math.ceil(ms);
      },
    };
    idempotency = createIdempotency({
      repository: createIdempotencyRepository(ctx.db),
      store,
      dispatcher: {
        async disclose() {
          await onDisclose();
          return true;
        },
      },
      runtime,
      log: silent,
      replicaId: () => replicaId,
      keepMs: KEEP_MS,
      byMessageId: false,
    });
  });

  const contextOf = (workspaceId = "default", principalId = "anonymous") =>
    ({
      workspaceId,
      principal: { id: principalId },
      signal: new AbortController().signal,
      addressTarget: undefined,
    }) as unknown as RequestContext;

  const saying = (text: string, taskId = ""): SendMessageRequest =>
    create(SendMessageRequestSchema, {
      message: create(MessageSchema, {
        messageId: "m1",
        taskId,
        role: Role.USER,
        parts: [{ content: { case: "text", value: text } }],
      }),
    });

  const taskOf = (taskId: string, workspaceId = "default"): TaskHeader =>
    headerOf({ taskId, workspaceId, leaseOwner: replicaId });

  async function submit(header: TaskHeader, message: Message): Promise<void> {
    await store.submit({ header, updates: [{ ...messageUpdate(message), state: EngineState.ASSIGNED }] });
  }

  /** Sends a request that begins a task; tells whether it was the first, and which task it has. */
  async function send(text = "a", context = contextOf(), returnImmediately = false) {
    const request = saying(text);
    request.configuration = create(SendMessageConfigurationSchema, { returnImmediately });
    const place = { taskId: system.newId(), afterSeq: 0 };
    const done = await idempotency.once(context, request, KEY, place, async () => {
      await submit(taskOf(place.taskId, context.workspaceId), request.message!);
      return place.taskId;
    });
    if ("first" in done) return { isFirst: true, taskId: done.first };
    return { isFirst: false, taskId: done.image.header.taskId };
  }

  /** Reserves the key as a replica that stops before anything comes of it. */
  async function reserveAndCrash(text: string, by: string): Promise<void> {
    const place = { taskId: system.newId(), afterSeq: 0 };
    const own = replicaId;
    replicaId = by;
    const crash = idempotency.once(contextOf(), saying(text), KEY, place, () => new Promise<never>(() => {}));
    void crash.catch(() => {});
    while ((await raw(ctx.db, "select 1 from idempotency_keys")).length === 0);
    replicaId = own;
  }

  const failure = (call: Promise<unknown>) =>
    call.then(
      () => expect.unreachable("it was not refused"),
      (error: SignalboxError) => [error.code, error.reason],
    );

  test("the first makes a task, all others are shown it", async () => {
    const sent = await Promise.all(Array.from({ length: 10 }, () => send()));
    expect(sent.filter(({ isFirst }) => isFirst)).toHaveLength(1);
    expect(new Set(sent.map(({ taskId }) => taskId)).size).toBe(1);
    expect(await raw(ctx.db, "select 1 from tasks")).toHaveLength(1);
  });

  test("another body is refused, whether the first has its task or not", async () => {
    await reserveAndCrash("a", replicaId);
    expect(await failure(send("b"))).toEqual(["ALREADY_EXISTS", "IDEMPOTENCY_CONFLICT"]);
    await raw(ctx.db, "delete from idempotency_keys");
    await send("a");
    expect(await failure(send("b"))).toEqual(["ALREADY_EXISTS", "IDEMPOTENCY_CONFLICT"]);
  });

  test("a key is of one workspace and one principal", async () => {
    const contexts = [contextOf(), contextOf("default", "other"), contextOf("other", "anonymous")];
    const sent = await Promise.all(contexts.map((context, i) => send(String(i), context)));
    expect(sent.map(({ isFirst }) => isFirst)).toEqual([true, true, true]);
  });

  test("a key is free when its time has passed, and its row is removed", async () => {
    const rows = createExpiredRows(ctx.db);
    const first = await send("a");
    clock += KEEP_MS - 1;
    expect(await send("a")).toEqual({ isFirst: false, taskId: first.taskId });
    expect(await rows.removeKeys(new Date(clock), 10)).toBe(0);
    clock += 1;
    expect((await send("b")).isFirst).toBe(true);
    clock += KEEP_MS;
    expect(await rows.removeKeys(new Date(clock), 10)).toBe(1);
  });

  test("a refused request leaves nothing", async () => {
    const refused = new SignalboxError({ code: "RESOURCE_EXHAUSTED", reason: "QUEUE_FULL", message: "full" });
    const place = { taskId: system.newId(), afterSeq: 0 };
    const call = idempotency.once(contextOf(), saying("a"), KEY, place, () => Promise.reject(refused));
    expect(await failure(call)).toEqual(["RESOURCE_EXHAUSTED", "QUEUE_FULL"]);
    expect(await raw(ctx.db, "select 1 from idempotency_keys")).toHaveLength(0);
  });

  test("what a dead replica reserved is taken over at once, by one", async () => {
    await reserveAndCrash("a", "of-a-replica-that-is-gone");
    const sent = await Promise.all(["a", "a", "a", "a"].map((text) => send(text)));
    expect(sent.filter(({ isFirst }) => isFirst)).toHaveLength(1);
    expect(await raw(ctx.db, "select 1 from tasks")).toHaveLength(1);
  });

  test("what a living replica reserved is waited for, and taken over after a minute", async () => {
    await reserveAndCrash("a", replicaId);
    expect(await failure(send("a"))).toEqual(["UNAVAILABLE", "IDEMPOTENCY_IN_PROGRESS"]);
    clock += 60_000;
    expect((await send("a")).isFirst).toBe(true);
  });

  test("who was first must not begin when the key may be another's by then", async () => {
    const place = { taskId: system.newId(), afterSeq: 0 };
    const call = idempotency.once(contextOf(), saying("a"), KEY, place, async (hold) => {
      clock += 59_000;
      hold.check();
    });
    expect(await failure(call)).toEqual(["UNAVAILABLE", "IDEMPOTENCY_EXPIRED"]);
  });

  test("who was declared dead meanwhile makes no second task", async () => {
    const request = saying("a");
    for (const isChecked of [true, false]) {
      const place = { taskId: system.newId(), afterSeq: 0 };
      const call = idempotency.once(contextOf(), request, `${KEY}-${isChecked}`, place, async (hold) => {
        await raw(ctx.db, "update replicas set died_at = now() where replica_id = $1", [hold.replicaId]);
        replicaId = await registerReplica(ctx.db);
        // One that needs no key is stored, in the same batch too.
        const other = submit(taskOf(system.newId()), request.message!);
        if (isChecked) {
          // Else it may still be on its way when the next round declares its replica dead.
          await other;
          hold.check();
        }
        const updates = [{ ...messageUpdate(request.message!), state: EngineState.ASSIGNED }];
        const late = store.submit({ header: taskOf(place.taskId), updates, reservedBy: hold.replicaId });
        await Promise.all([late, other]);
      });
      expect(await failure(call)).toEqual(["UNAVAILABLE", isChecked ? "IDEMPOTENCY_EXPIRED" : "REPLICA_EXPIRED"]);
      expect(await store.load("default", place.taskId)).toBeUndefined();
    }
    expect(await raw(ctx.db, "select 1 from tasks")).toHaveLength(2);
  });

  test("the key of a task that was removed is free, also at the moment of its removal", async () => {
    const removal = createTaskRemoval(ctx.db);
    const remove = async (taskId: string) => {
      await raw(ctx.db, "update tasks set state = 3, a2a_state = 3, lease_owner = null where task_id = $1", [taskId]);
      expect(await removal.remove("default", taskId)).toBe(true);
    };
    const first = await send("a");
    await remove(first.taskId);
    expect(await raw(ctx.db, "select 1 from idempotency_keys")).toHaveLength(0);
    const second = await send("b");
    expect(second.isFirst).toBe(true);
    onDisclose = () => remove(second.taskId);
    await raw(ctx.db, "update tasks set disclosed = false");
    expect((await send("b", contextOf(), true)).isFirst).toBe(true);
  });

  test("a task that was not acknowledged counts as none", async () => {
    const { taskId } = await send("a");
    const header = taskOf(taskId);
    const status = {
      state: TaskState.FAILED,
      timestamp: { $typeName: "google.protobuf.Timestamp", seconds: 1n, nanos: 0 },
    };
    await store.append({
      workspaceId: "default",
      taskId,
      expectedSeq: 1,
      fence: 1,
      at: new Date(clock),
      updates: [statusUpdate(header, status as Parameters<typeof statusUpdate>[1], NOT_ACKNOWLEDGED)],
    });
    clock += 60_000;
    const again = await send("a");
    expect(again.isFirst).toBe(true);
    expect(again.taskId).not.toBe(taskId);
  });

  test("a further message that may be stored is not sent again", async () => {
    const header = taskOf(system.newId());
    await submit(header, saying("begin").message!);
    const request = saying("go on", header.taskId);
    const place = { taskId: header.taskId, afterSeq: 1 };
    const tell = (what: () => Promise<string>) => idempotency.once(contextOf(), request, KEY, place, what);
    const unknown = databaseOutcomeUnknown();
    await expect(tell(() => Promise.reject(unknown))).rejects.toBe(unknown);
    expect(await failure(tell(async () => "told"))).toEqual(["UNAVAILABLE", "IDEMPOTENCY_IN_PROGRESS"]);
    // It was stored.
    const { workspaceId, taskId } = header;
    const updates = [messageUpdate(request.message!)];
    await store.append({ workspaceId, taskId, expectedSeq: 1, fence: 1, at: new Date(clock), updates });
    expect(await tell(async () => "told")).toMatchObject({ image: { seq: 2 } });
  });
});
