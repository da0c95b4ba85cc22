/** Signalbox without its listeners: everything that src/app.ts composes behind them, on PostgreSQL, in the same order. */
import { pino } from "pino";
import { loadConfig } from "../../src/config/load.ts";
import { createAgentConnector } from "../../src/outbound/agent-connector.ts";
import { createCardFetcher } from "../../src/outbound/card-fetcher.ts";
import type { AgentHandler } from "../../src/outbound/in-process-channel.ts";
import { createWebhookSender } from "../../src/outbound/webhook.ts";
import { createAgentDirectory } from "../../src/services/agent-directory.ts";
import { type Claims, createClaims } from "../../src/services/background/claims.ts";
import { startHints } from "../../src/services/background/hints.ts";
import { startOutbox } from "../../src/services/background/outbox.ts";
import { startPushNotifications } from "../../src/services/background/push-notifications.ts";
import { joinReplicas } from "../../src/services/background/replica.ts";
import { startSlowPoll } from "../../src/services/background/slow-poll.ts";
import { createDispatcher } from "../../src/services/dispatcher.ts";
import { allowAll } from "../../src/services/policy.ts";
import { createPushConfigs } from "../../src/services/push-configs.ts";
import { createRegistry, type Registry } from "../../src/services/registry.ts";
import { createRouter } from "../../src/services/router.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import { createSender, type Sender } from "../../src/services/send.ts";
import { createTasks, type Tasks } from "../../src/services/tasks.ts";
import { createUpdateHub } from "../../src/services/update-hub.ts";
import { createAgentRepository } from "../../src/store/agent-repository.ts";
import { createLeaseRepository } from "../../src/store/lease-repository.ts";
import { migrate } from "../../src/store/migrate.ts";
import { openDatabase } from "../../src/store/open-database.ts";
import { createOutboxRepository } from "../../src/store/outbox-repository.ts";
import { createPushConfigRepository } from "../../src/store/push-config-repository.ts";
import { createPushQueue } from "../../src/store/push-queue.ts";
import { createTaskStore } from "../../src/store/task-store.ts";

export interface Engine {
  sender: Sender;
  tasks: Tasks;
  registry: Registry;
  stop(): Promise<void>;
}

/** Starts it on an empty database, with agents that are functions, by name, as it is configured by default. */
export async function startEngine(url: string, inProcess: ReadonlyMap<string, AgentHandler>): Promise<Engine> {
  const config = loadConfig({ flags: { "database.url": url }, env: {}, cwd: import.meta.dirname });
  const { task, limits, allowPrivateUrls } = config;
  const log = pino({ level: "silent" });
  const runtime = systemRuntime();
  const db = await openDatabase({
    url,
    dataDir: config.data.dir,
    poolSize: config.database.poolSize,
    log,
    signal: new AbortController().signal,
  });
  const closing: (() => unknown)[] = [() => db.close()];
  await migrate(db, log);

  // store
  const leases = createLeaseRepository(db);
  const replica = await joinReplicas({ leases, runtime, log, leaseMs: config.lease.ms, alone: false });
  const hub = createUpdateHub();
  const store = createTaskStore(db, { maxWaiting: limits.queue, replicaId: replica.id });
  const repository = createAgentRepository(db);
  const poll = startSlowPoll({ store, hub, runtime, log, everyMs: config.stream.pollMs });
  const hints = startHints({ listen: db.listen, hub, poll, runtime, log });
  closing.push(
    () => hints.stop(),
    () => replica.stop(),
    () => store.close(),
    () => poll.stop(),
  );

  // outbound
  const connector = createAgentConnector({ allowPrivateUrls, maxMessageBytes: limits.messageBytes, inProcess });
  const webhooks = createWebhookSender({ allowPrivateUrls });
  const cards = createCardFetcher({ allowPrivateUrls });
  for (const client of [connector, webhooks, cards]) closing.push(() => client.close());

  // services
  const directory = createAgentDirectory(repository, runtime);
  const router = createRouter(directory);
  const dispatcher = createDispatcher({
    store,
    hub,
    connector,
    runtime,
    log,
    replicaId: replica.id,
    findAgent: async (workspaceId, agentId) => (await directory.agents(workspaceId)).byId.get(agentId),
    agentTimeoutMs: config.agent.timeoutMs,
    agentAwayMs: config.agent.awayMs,
    attemptTimeoutMs: task.attemptTimeoutMs,
    inputTimeoutMs: task.inputTimeoutMs,
    gatherMs: task.gatherMs,
    attempts: {
      most: task.attempts,
      minPauseMs: task.retryMinMs,
      maxPauseMs: task.retryMaxMs,
      onPause: (pauseMs) => claims.look(pauseMs),
    },
    maxRunning: limits.runningTasks,
    queue: { busy: () => claims.busy(), full: () => claims.full() },
    onRoom: () => claims.busy() && claims.look(),
  });
  const claims: Claims = createClaims({
    leases,
    dispatcher,
    replicaId: replica.id,
    runtime,
    log,
    maxRunning: limits.runningTasks,
    maxQueued: limits.queuedTasks,
  });
  hub.onWork(() => claims.look());
  const tasks = createTasks({ store, router, dispatcher });
  const sender = createSender({
    store,
    hub,
    router,
    policy: allowAll,
    dispatcher,
    tasks,
    pushConfigs: createPushConfigs({ repository: createPushConfigRepository(db), tasks, webhooks, runtime }),
    runtime,
    silenceMs: task.silenceMs,
    taskTimeoutMs: task.timeoutMs,
  });
  const registry = createRegistry({ repository, directory, connector, cards, runtime });

  // background
  const push = startPushNotifications({
    queue: createPushQueue(db),
    webhooks,
    runtime,
    log,
    replicaId: replica.id,
    attempts: config.push.attempts,
    timeoutMs: config.push.timeoutMs,
    onDelivery: () => {},
  });
  const outbox = await startOutbox({
    duties: [push.duty],
    repository: createOutboxRepository(db),
    hub,
    runtime,
    log,
    replicaId: replica.id,
  });
  closing.push(
    () => push.stop(),
    () => outbox.stop(),
    () => dispatcher.stop(0),
    () => claims.stop(),
  );
  replica.start({
    onBeat: (living) => hints.setPeers(living - 1),
    onDeath: () => claims.look(),
    onExpired: () => dispatcher.abandon(),
  });
  await claims.takeAll();
  claims.start();

  return {
    sender,
    tasks,
    registry,
    async stop() {
      for (const close of closing.reverse()) await close();
    },
  };
}
