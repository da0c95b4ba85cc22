/**
 * Everything behind the listeners, built in the order in which things depend on each other: the database, this replica
 * among the others, the ways to agents, the use cases, and the duties in the background.
 */
import type { Logger } from "pino";
import type { Config } from "./config/settings.ts";
import { DEFAULT_WEIGHTS } from "./domain/routing/strategies.ts";
import { createAgentConnector } from "./outbound/agent-connector.ts";
import { createCardFetcher } from "./outbound/card-fetcher.ts";
import type { AgentHandler } from "./outbound/in-process-channel.ts";
import { createWebhookSender } from "./outbound/webhook.ts";
import { type AgentDirectory, createAgentDirectory } from "./services/agent-directory.ts";
import { createAgentPlaces } from "./services/agent-places.ts";
import { type Claims, createClaims } from "./services/background/claims.ts";
import { startHints } from "./services/background/hints.ts";
import { type Outbox, startOutbox } from "./services/background/outbox.ts";
import { startPushNotifications } from "./services/background/push-notifications.ts";
import { joinReplicas } from "./services/background/replica.ts";
import { startSlowPoll } from "./services/background/slow-poll.ts";
import { createDispatcher, type Dispatcher } from "./services/dispatcher.ts";
import { allowAll } from "./services/policy.ts";
import { createPushConfigs, type PushConfigs } from "./services/push-configs.ts";
import { createRegistry, type Registry } from "./services/registry.ts";
import { createRouter, type Router } from "./services/router.ts";
import { createRoutes, type Routes } from "./services/routes.ts";
import { createAgentLoads } from "./services/routing/agent-load.ts";
import type { Runtime } from "./services/runtime.ts";
import { createSender, type Sender } from "./services/send.ts";
import { createTaskExecutions, type TaskExecutions } from "./services/task-executions.ts";
import { createTasks, type Tasks } from "./services/tasks.ts";
import { createUpdateHub, type UpdateHub } from "./services/update-hub.ts";
import { createAgentQueueRepository } from "./store/agent-queue-repository.ts";
import { createAgentRepository } from "./store/agent-repository.ts";
import { createAllotmentRepository } from "./store/allotment-repository.ts";
import { createCapabilityRepository } from "./store/capability-repository.ts";
import type { Database } from "./store/database.ts";
import { createLeaseRepository } from "./store/lease-repository.ts";
import { migrate } from "./store/migrate.ts";
import { openDatabase } from "./store/open-database.ts";
import { mendTransactionNumbers } from "./store/outbox-mend.ts";
import { createOutboxRepository } from "./store/outbox-repository.ts";
import { createPushConfigRepository } from "./store/push-config-repository.ts";
import { createPushQueue } from "./store/push-queue.ts";
import { readDecision } from "./store/route-reads.ts";
import { createTaskStore } from "./store/task-store.ts";
import { createTransitionReads } from "./store/transition-reads.ts";

export interface EngineOptions {
  config: Config;
  log: Logger;
  runtime: Runtime;
  /** Agents that are functions in this process, by name. */
  inProcess?: ReadonlyMap<string, AgentHandler> | undefined;
  /** Gives up the start, while the database is waited for. */
  signal?: AbortSignal | undefined;
  /** Told of push notifications. */
  onDelivery?: (outcome: "delivered" | "failed") => void;
  /** Told of tasks that this replica took, because they were due or their replica is gone. */
  onTaken?: (how: "claimed" | "rescued", tasks: number) => void;
  /** Told of each attempt that failed and is followed by another. */
  onAttemptFailed?: () => void;
}

export interface Engine {
  readonly db: Database;
  readonly hub: UpdateHub;
  readonly directory: AgentDirectory;
  readonly router: Router;
  readonly dispatcher: Dispatcher;
  readonly tasks: Tasks;
  readonly taskExecutions: TaskExecutions;
  readonly routes: Routes;
  readonly pushConfigs: PushConfigs;
  readonly sender: Sender;
  readonly registry: Registry;
  readonly outbox: Outbox;
  /** How many replicas live, by the last heartbeat; 1, which is this one, before the first. */
  readonly replicas: number;
  /** How many tasks wait for room at their agents, over all replicas, as this one has counted them within the last second. */
  readonly waitingAtAgents: number;
  /** This replica's slices of limits: the units in them, and those in use. */
  allotted(): { granted: number; held: number };
  /** How many tasks wait for a replica, counted to `limits.queued-tasks`. Rejects when the database does not answer. */
  waitingTasks(): Promise<number>;
  /**
   * Lets go of every task without ending any, after at most `patienceMs` in which agents may name those that were just
   * brought to them, and closes the database.
   */
  stop(patienceMs: number): Promise<void>;
}

/** Throws SignalboxError with a sentence for the operator when it cannot start. */
export async function startEngine(options: EngineOptions): Promise<Engine> {
  const { config, log } = options;
  const db = await openDatabase({
    ...(config.database.url !== undefined && { url: config.database.url }),
    dataDir: config.data.dir,
    poolSize: config.database.poolSize,
    log,
    signal: options.signal ?? new AbortController().signal,
  });
  const closing: (() => unknown)[] = [() => db.close()];
  /** The last that was opened is closed first. */
  const closeAll = async () => {
    for (const close of closing.reverse()) await close();
  };
  try {
    return await build(options, db, closing, closeAll);
  } catch (error) {
    await closeAll();
    throw error;
  }
}

async function build(
  options: EngineOptions,
  db: Database,
  closing: (() => unknown)[],
  closeAll: () => Promise<void>,
): Promise<Engine> {
  const { config, log, runtime, inProcess } = options;
  const { onDelivery = () => {}, onTaken = () => {}, onAttemptFailed = () => {} } = options;
  await migrate(db, log);
  await mendTransactionNumbers(db, log);

  // store
  const leases = createLeaseRepository(db);
  const alone = db.backend === "pglite";
  const replica = await joinReplicas({ leases, runtime, log, leaseMs: config.lease.ms, alone });
  const hub = createUpdateHub();
  const store = createTaskStore(db, { maxWaiting: config.limits.queue, replicaId: replica.id });
  const agentRepository = createAgentRepository(db);
  const capabilityRepository = createCapabilityRepository(db);
  const pushConfigRepository = createPushConfigRepository(db);
  const poll = startSlowPoll({ store, hub, runtime, log, everyMs: config.stream.pollMs });
  const hints = startHints({ listen: db.listen, hub, poll, runtime, log });
  // Once nothing writes any more, this replica's tasks are free, and the others hear of it.
  closing.push(() => hints.stop());
  closing.push(() => replica.stop().then(() => hub.announceWork()));
  closing.push(() => store.close());
  closing.push(() => poll.stop());

  // outbound
  const { allowPrivateUrls } = config;
  const connector = createAgentConnector({
    allowPrivateUrls,
    maxMessageBytes: config.limits.messageBytes,
    ...(inProcess && { inProcess }),
  });
  const webhooks = createWebhookSender({ allowPrivateUrls });
  const cardFetcher = createCardFetcher({ allowPrivateUrls });
  for (const client of [connector, webhooks, cardFetcher]) closing.push(() => client.close());

  // services
  const directory = createAgentDirectory(agentRepository, capabilityRepository, runtime);
  const loads = createAgentLoads(runtime);
  const { allotments, permits, agentQueue } = createAgentPlaces({
    allotmentRepository: createAllotmentRepository(db),
    queueRepository: createAgentQueueRepository(db),
    directory,
    loads,
    runtime,
    log,
    replicaId: replica.id,
    maxWaiting: config.limits.agentQueue,
    onRoom: () => claims.lookAtAgents(),
    announce: () => hub.announceWork(),
  });
  const router = createRouter({
    directory,
    runtime,
    loads,
    waitingAt: agentQueue.waitingAt,
    strategy: config.routing.strategy,
    weights: DEFAULT_WEIGHTS,
  });
  const { task, limits } = config;
  const dispatcher = createDispatcher({
    store,
    hub,
    connector,
    runtime,
    log,
    replicaId: replica.id,
    findAgent: router.endpoint,
    loads,
    agentTimeoutMs: config.agent.timeoutMs,
    agentAwayMs: config.agent.awayMs,
    attemptTimeoutMs: task.attemptTimeoutMs,
    inputTimeoutMs: task.inputTimeoutMs,
    gatherMs: task.gatherMs,
    attempts: {
      most: task.attempts,
      minPauseMs: task.retryMinMs,
      maxPauseMs: task.retryMaxMs,
      onPause(pauseMs) {
        onAttemptFailed();
        claims.look(pauseMs);
      },
    },
    maxRunning: limits.runningTasks,
    queue: { busy: () => claims.busy(), full: () => claims.full() },
    permits,
    agentQueue,
    onRoom() {
      agentQueue.freedPlace();
      if (claims.busy()) claims.look();
    },
  });
  directory.onLimits(dispatcher.permitAll);
  const claims: Claims = createClaims({
    leases,
    dispatcher,
    agentQueue,
    replicaId: replica.id,
    runtime,
    log,
    maxRunning: limits.runningTasks,
    maxQueued: limits.queuedTasks,
    onTaken,
  });
  hub.onWork((origin) => {
    if (origin === "elsewhere") {
      agentQueue.heed();
      allotments.heed();
    }
    claims.look();
  });
  const tasks: Tasks = createTasks({ store, router, dispatcher });
  const routes = createRoutes({
    router,
    tasks,
    readDecision: (workspaceId, taskId) => readDecision(db, workspaceId, taskId),
  });
  const taskExecutions = createTaskExecutions({ reads: createTransitionReads(db), tasks });
  const pushConfigs = createPushConfigs({ repository: pushConfigRepository, tasks, webhooks, runtime });
  const sender = createSender({
    store,
    hub,
    router,
    policy: allowAll,
    dispatcher,
    tasks,
    pushConfigs,
    runtime,
    silenceMs: task.silenceMs,
    taskTimeoutMs: task.timeoutMs,
  });
  const registry = createRegistry({
    repository: agentRepository,
    capabilities: capabilityRepository,
    directory,
    connector,
    cards: cardFetcher,
    runtime,
  });
  // background
  let patience = 0;
  const push = startPushNotifications({
    queue: createPushQueue(db),
    webhooks,
    runtime,
    log,
    replicaId: replica.id,
    attempts: config.push.attempts,
    timeoutMs: config.push.timeoutMs,
    onDelivery,
  });
  closing.push(() => push.stop());
  const outbox = await startOutbox({
    duties: [push.duty],
    repository: createOutboxRepository(db),
    hub,
    runtime,
    log,
    replicaId: replica.id,
  });
  closing.push(() => outbox.stop());
  closing.push(() => dispatcher.stop(patience));
  // Before the tasks are let go, which their agents have and whoever takes them over counts.
  closing.push(() => allotments.stop());
  closing.push(() => claims.stop());

  let replicas = 1;
  replica.start({
    onBeat(living) {
      replicas = living;
      hints.setPeers(living - 1);
    },
    onDeath: () => claims.look(),
    onExpired() {
      dispatcher.abandon();
      allotments.reset();
    },
  });
  // Before anybody can ask for them, what is known to be nobody's is taken up.
  await claims.takeAll();
  claims.start();
  allotments.start();

  return {
    db,
    hub,
    directory,
    router,
    dispatcher,
    tasks,
    taskExecutions,
    routes,
    pushConfigs,
    sender,
    registry,
    outbox,
    get replicas() {
      return replicas;
    },
    get waitingAtAgents() {
      return agentQueue.waiting;
    },
    allotted: allotments.totals,
    waitingTasks: () => leases.waiting(limits.queuedTasks),
    stop(patienceMs) {
      patience = patienceMs;
      return closeAll();
    },
  };
}
