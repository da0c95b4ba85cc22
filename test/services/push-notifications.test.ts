import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { afterEach, beforeEach, expect, it } from "vitest";
import { MessageSchema, Role, TaskPushNotificationConfigSchema, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { messageUpdate, statusUpdate } from "../../src/domain/agent-report.ts";
import { foldTask, type NewUpdate } from "../../src/domain/task-log.ts";
import { EngineState } from "../../src/domain/task-state.ts";
import { createWebhookSender } from "../../src/outbound/webhook.ts";
import { type PushNotifications, startPushNotifications } from "../../src/services/background/push-notifications.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import { createTaskWriter } from "../../src/services/task-writer.ts";
import { createUpdateHub } from "../../src/services/update-hub.ts";
import { createPushConfigRepository } from "../../src/store/push-config-repository.ts";
import { createTaskStore, type TaskStore } from "../../src/store/task-store.ts";
import { startWebhook, type Webhook } from "../fault/webhook.ts";
import { registerReplica } from "../fixtures/replica.ts";
import { headerOf } from "../fixtures/task-header.ts";
import { describeEachBackend } from "../store/backends.ts";
import { type LogLines, logLines } from "../store/log-lines.ts";

const MAX_READERS = 3;
const runtime = systemRuntime();
const never = new AbortController().signal;

describeEachBackend("push notifications", (context) => {
  let store: TaskStore;
  let replica: string;
  let webhook: Webhook;
  let logged: LogLines;
  let push: PushNotifications;
  let outcomes: string[];
  let sender: ReturnType<typeof createWebhookSender>;
  const hub = createUpdateHub();

  beforeEach(async () => {
    replica = await registerReplica(context.db);
    store = createTaskStore(context.db, { maxWaiting: 1000, replicaId: () => replica });
    webhook = await startWebhook();
    logged = logLines();
    outcomes = [];
    sender = createWebhookSender({ allowPrivateUrls: true });
    push = startPushNotifications({
      store,
      configs: createPushConfigRepository(context.db),
      hub,
      webhooks: sender,
      runtime,
      log: logged.log,
      attempts: 1,
      timeoutMs: 600_000,
      onDelivery: (outcome) => outcomes.push(outcome),
      maxReaders: MAX_READERS,
    });
  });
  afterEach(async () => {
    await push.stop();
    await sender.close();
    await webhook.close();
    await store.close();
  });

  /** A task with `count` configs, under way. */
  async function begin(count: number): Promise<void> {
    const header = headerOf({ hasPush: true, leaseOwner: replica });
    const said = create(MessageSchema, { messageId: "1", role: Role.USER });
    const hello: NewUpdate = { ...messageUpdate(said), state: EngineState.ASSIGNED };
    await store.submit({ header, updates: [hello] });
    const configs = createPushConfigRepository(context.db);
    for (let n = 0; n < count; n++) {
      const { taskId } = header;
      const config = create(TaskPushNotificationConfigSchema, { taskId, id: `hook-${n}`, url: webhook.url });
      await configs.put("default", config, new Date(), 100);
    }
    const writer = createTaskWriter({ store, hub, runtime, gatherMs: 0 }, foldTask(header, [{ ...hello, seq: 1 }]));
    const working = { state: TaskState.WORKING, timestamp: timestampFromDate(new Date()) };
    await writer.append(() => [statusUpdate(header, working, "a test")], {}, never);
  }

  it("drops what is beyond the most readers, and says so", async () => {
    webhook.answer(...Array<"silence">(MAX_READERS).fill("silence"));
    await begin(MAX_READERS);
    for (let n = 0; n < MAX_READERS; n++) await webhook.next();
    await begin(1);
    await logged.until("push notifications were dropped");
    expect(outcomes).toEqual(["failed"]);
    expect(webhook.posts).toHaveLength(MAX_READERS);
  });
});
