import { create, toBinary } from "@bufbuild/protobuf";
import { sql } from "kysely";
import { afterEach, beforeEach, expect, it } from "vitest";
import { StreamResponseSchema, TaskPushNotificationConfigSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import type { NewUpdate } from "../../src/domain/task-log.ts";
import { createWebhookSender } from "../../src/outbound/webhook.ts";
import { startOutbox } from "../../src/services/background/outbox.ts";
import { startPushNotifications } from "../../src/services/background/push-notifications.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import { createUpdateHub } from "../../src/services/update-hub.ts";
import { createLeaseRepository } from "../../src/store/lease-repository.ts";
import { createOutboxRepository } from "../../src/store/outbox-repository.ts";
import { createPushConfigRepository } from "../../src/store/push-config-repository.ts";
import { createPushQueue } from "../../src/store/push-queue.ts";
import { createTaskStore } from "../../src/store/task-store.ts";
import { createInbox } from "../fault/inbox.ts";
import { lineOf } from "../fault/said.ts";
import { startWebhook, type Webhook } from "../fault/webhook.ts";
import { writeRow, writeTask } from "../fixtures/log-rows.ts";
import { registerReplica } from "../fixtures/replica.ts";
import { describeEachBackend } from "../store/backends.ts";
import { logLines } from "../store/log-lines.ts";

const runtime = systemRuntime();

const chunk = (taskId: string, seq: number): NewUpdate => ({
  kind: "artifact",
  body: create(StreamResponseSchema, {
    payload: {
      case: "artifactUpdate",
      value: {
        taskId,
        append: true,
        artifact: { artifactId: "a", parts: [{ content: { case: "text", value: `${seq}` } }] },
      },
    },
  }),
});

describeEachBackend("push notifications", (context) => {
  let webhook: Webhook;
  const servers = new Set<Server>();

  beforeEach(async () => {
    webhook = await startWebhook();
  });
  afterEach(async () => {
    for (const server of servers) await server.stop();
    await webhook.close();
  });

  /** What of a server has to do with push notifications. */
  interface Server {
    replica: string;
    outcomes: { next(): Promise<string>; waiting: number };
    logged: ReturnType<typeof logLines>;
    /** Commits the next chunk of an artifact, which says its number. */
    say(taskId: string, seq: number): Promise<void>;
    /** The others think that it is dead. */
    die(): Promise<void>;
    stop(): Promise<void>;
  }

  async function serve({ attempts = 3 } = {}): Promise<Server> {
    const { db } = context;
    const replica = await registerReplica(db);
    const [hub, logged, outcomes] = [createUpdateHub(), logLines(), createInbox<string>()];
    const store = createTaskStore(db, { maxWaiting: 1000, replicaId: () => replica });
    const webhooks = createWebhookSender({ allowPrivateUrls: true });
    const shared = { runtime, log: logged.log, replicaId: () => replica };
    const onDelivery = (outcome: string) => outcomes.put(outcome);
    const push = startPushNotifications({
      ...shared,
      queue: createPushQueue(db),
      webhooks,
      attempts,
      timeoutMs: 600_000,
      onDelivery,
    });
    const outbox = await startOutbox({ ...shared, duties: [push.duty], repository: createOutboxRepository(db), hub });
    const die = () => createLeaseRepository(db).release(replica);
    const server: Server = {
      replica,
      outcomes,
      logged,
      die,
      async say(taskId, seq) {
        const updates = [chunk(taskId, seq)];
        const task = { workspaceId: "default", taskId };
        expect(await store.append({ ...task, expectedSeq: seq - 1, fence: 1, updates, at: new Date() })).toBeDefined();
        hub.publish({ ...task, agentId: "agent", updates: [], hasPush: true });
      },
      async stop() {
        servers.delete(server);
        await outbox.stop();
        await push.stop();
        await webhooks.close();
        await store.close();
        await die();
      },
    };
    servers.add(server);
    return server;
  }

  async function configured(id = "hook", url = webhook.url): Promise<string> {
    const taskId = await writeTask(context.db.kysely);
    const config = create(TaskPushNotificationConfigSchema, { taskId, id, url });
    await createPushConfigRepository(context.db).put("default", config, { now: new Date(), most: 9, from: "now" });
    return taskId;
  }

  /** The numbers of the next posts. */
  async function posts(count: number): Promise<number[]> {
    const numbers: number[] = [];
    for (let n = 0; n < count; n++) numbers.push(Number(lineOf((await webhook.next()).body).replace("chunk ", "")));
    return numbers;
  }

  it("are posted by the next server when the one before stopped", async () => {
    const taskId = await configured();
    const first = await serve();
    webhook.answer(200, "silence");
    for (const seq of [2, 3, 4]) await first.say(taskId, seq);
    expect(await posts(2)).toEqual([2, 3]);
    await first.stop();
    // Nobody is there when this is committed.
    const second = await serve();
    await second.say(taskId, 5);
    expect(await posts(3)).toEqual([3, 4, 5]);
    for (let n = 0; n < 3; n++) expect(await second.outcomes.next()).toBe("delivered");
  });

  it("are posted by another when their server dies, which has no say any more", async () => {
    const taskId = await configured();
    const both = [await serve(), await serve()] as const;
    webhook.answer("silence");
    await both[0].say(taskId, 2);
    expect(await posts(1)).toEqual([2]);
    // Whoever of the two posts, the other takes over.
    const { claimed_by } = await context.db.kysely
      .selectFrom("push_configs")
      .select("claimed_by")
      .where("task_id", "=", taskId)
      .executeTakeFirstOrThrow();
    const [poster, heir] = claimed_by === both[0].replica ? both : [both[1], both[0]];
    await poster.die();
    expect(await posts(1)).toEqual([2]);
    expect(await heir.outcomes.next()).toBe("delivered");
    await poster.stop();
    await heir.say(taskId, 3);
    expect(await posts(1)).toEqual([3]);
    expect(poster.logged.lines.filter(({ configId }) => configId !== undefined)).toEqual([]);
  });

  it("leave a config alone that was given up, whatever server comes", async () => {
    const [dead, alive] = [await configured(), await configured("other", `${webhook.url}/other`)];
    const first = await serve({ attempts: 1 });
    webhook.answer(500);
    await first.say(dead, 2);
    expect(await first.outcomes.next()).toBe("failed");
    await first.stop();
    const second = await serve();
    await second.say(dead, 3);
    await second.say(alive, 2);
    await second.outcomes.next();
    expect(webhook.posts.map(({ path }) => path)).toEqual(["/hook", "/hook/other"]);
  });

  it("give up a config whose update cannot be read, and no other", async () => {
    const [broken, alive] = [await configured(), await configured("other", `${webhook.url}/other`)];
    await writeRow(context.db.kysely, broken, 2, { body: "no StreamResponse" });
    const server = await serve({ attempts: 1 });
    await context.db.kysely
      .updateTable("push_configs")
      .set({ reach: 2, next_try_at: new Date(0) })
      .where("task_id", "=", broken)
      .execute();
    await server.say(alive, 2);
    expect([await server.outcomes.next(), await server.outcomes.next()].sort()).toEqual(["delivered", "failed"]);
    expect(await server.logged.until("was given up")).toMatchObject({ taskId: broken, seq: 2 });
  });

  it("let a config with much to post not keep those with little waiting", async () => {
    const { kysely } = context.db;
    // More configs than there are places, each with more than it may post in one turn; the one with little comes last.
    const [configs, updates] = [66, 40];
    const much = await Promise.all(Array.from({ length: configs }, () => configured("much", `${webhook.url}/much`)));
    const little = await configured("little", `${webhook.url}/little`);
    const body = toBinary(StreamResponseSchema, chunk("", 1).body);
    await sql`
      insert into task_updates (workspace_id, task_id, seq, kind, body, created_at)
      select 'default', t.task_id, seq, 2, ${body}, now()
      from unnest(${[...much, little]}::text[]) as t(task_id) cross join generate_series(2, ${updates + 1}::int) as seq
    `.execute(kysely);
    const due = (taskIds: string[], reach: number) =>
      kysely
        .updateTable("push_configs")
        .set({ reach, next_try_at: sql`clock_timestamp()` })
        .where("task_id", "in", taskIds)
        .execute();
    await due(much, updates + 1);
    await due([little], 2);
    await serve();
    for (let n = 0; n < configs * updates + 1; n++) await webhook.next();
    const before = webhook.posts.findIndex(({ path }) => path === "/hook/little");
    // Two turns: of those that had the places first, and of those that came beside it.
    expect(before).toBeLessThan(64 * 36);
  });
});
