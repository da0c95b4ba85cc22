/**
 * Everything behind the listeners, built in the order in which things depend on each other: the database, this replica
 * among the others, the ways to agents, the use cases, and the duties in the background.
 */
import type { Logger } from "pino";
import type { Config } from "./config/settings.ts";
import { latencyQuantileAt } from "./domain/routing/agent-signals.ts";
import { circuitState } from "./domain/routing/breaker.ts";
import { createAgentConnector } from "./outbound/agent-connector.ts";
import { createCardFetcher } from "./outbound/card-fetcher.ts";
import type { AgentHandler } from "./outbound/in-process-channel.ts";
import { createWebhookSender } from "./outbound/webhook.ts";
import type { AgentDirectory } from "./services/agent-directory.ts";
import type { AgentHealthService } from "./services/agent-health.ts";
import type { PermitTask } from "./services/agent-permits.ts";
import { createAgentPlaces } from "./services/agent-places.ts";
import { createAgentWatch } from "./services/agent-watch.ts";
import { type Alerts, createAlerts } from "./services/alerts.ts";
import type { RolloutSource } from "./services/another-agent.ts";
import { type Claims, createClaims } from "./services/background/claims.ts";
import { startExchangeSweep } from "./services/background/exchange-sweep.ts";
import { startHints } from "./services/background/hints.ts";
import { type Outbox, startOutbox } from "./services/background/outbox.ts";
import { startPushNotifications } from "./services/background/push-notifications.ts";
import { joinReplicas } from "./services/background/replica.ts";
import { startSlowPoll } from "./services/background/slow-poll.ts";
import { startSweep } from "./services/background/sweep.ts";
import { type CachedResults, createCachedResults } from "./services/cached-results.ts";
import { createDispatcher, type Dispatcher } from "./services/dispatcher.ts";
import { buildExchanges } from "./services/exchange/build.ts";
import { withExchanges } from "./services/exchange/exchange-sender.ts";
import type { Exchanges } from "./services/exchange/exchanges.ts";
import { createIdempotency } from "./services/idempotency.ts";
import { createLookupCounter, type LookupOutcome } from "./services/lookup-counts.ts";
import type { MirrorOutcome } from "./services/mirrors.ts";
import { createPlainTasks, type PlainTasks } from "./services/plain-tasks.ts";
import { allowAll } from "./services/policy.ts";
import { createPushConfigs, type PushConfigs } from "./services/push-configs.ts";
import { createRegistry, type Registry } from "./services/registry.ts";
import { createResultCache } from "./services/result-cache.ts";
import { createRolloutSettings, type RolloutSettings } from "./services/rollout-settings.ts";
import { createRollouts, type Rollouts } from "./services/rollouts.ts";
import { createRouter, type Router } from "./services/router.ts";
import { createRoutes, type Routes } from "./services/routes.ts";
import type { AgentGauge } from "./services/routing/agent-gauges.ts";
import type { AgentLoads } from "./services/routing/agent-load.ts";
import { fullByLoad } from "./services/routing/fullness.ts";
import { createSecondAgent } from "./services/routing/second-agent.ts";
import { createLocality } from "./services/routing/steer.ts";
import { createWorkspaceSettings } from "./services/routing/workspace-settings.ts";
import type { Runtime } from "./services/runtime.ts";
import { createSender, type Sender } from "./services/send.ts";
import { createTaskCleanup, type TaskCleanup } from "./services/task-cleanup.ts";
import { createTaskEvents, type TaskEvents } from "./services/task-events.ts";
import { createTaskExecutions, type TaskExecutions } from "./services/task-executions.ts";
import type { HedgeOutcome } from "./services/task-hedge.ts";
import { createTasks, type Tasks } from "./services/tasks.ts";
import { createUpdateHub, type UpdateHub } from "./services/update-hub.ts";
import { createAgentHealthRepository } from "./store/agent-health-repository.ts";
import { createAgentQueueRepository } from "./store/agent-queue-repository.ts";
import { createAgentRepository } from "./store/agent-repository.ts";
import { createAllotmentRepository } from "./store/allotment-repository.ts";
import { createCapabilityRepository } from "./store/capability-repository.ts";
import type { Database } from "./store/database.ts";
import { createExchangeRepository } from "./store/exchange-repository.ts";
import { createExchangeRetention } from "./store/exchange-retention.ts";
import { createExpiredRows } from "./store/expired-rows.ts";
import { createIdempotencyRepository } from "./store/idempotency-repository.ts";
import { createLeaseRepository } from "./store/lease-repository.ts";
import { migrate } from "./store/migrate.ts";
import { openDatabase } from "./store/open-database.ts";
import { mendTransactionNumbers } from "./store/outbox-mend.ts";
import { createOutboxRepository } from "./store/outbox-repository.ts";
import { createPushConfigRepository } from "./store/push-config-repository.ts";
import { createPushQueue } from "./store/push-queue.ts";
import { createResultCacheRepository } from "./store/result-cache-repository.ts";
import { createRolloutRepository } from "./store/rollout-repository.ts";
import { readDecidedTasks, readDecision } from "./store/route-reads.ts";
import { createRoutingSettingsRepository } from "./store/routing-settings-repository.ts";
import { createSignalRepository } from "./store/signal-repository.ts";
import { createTaskEventReads } from "./store/task-event-reads.ts";
import { createTaskRemoval } from "./store/task-removal.ts";
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
  /** Told how each lookup in the result cache ended. */
  onCacheLookup?: (outcome: LookupOutcome) => void;
  /** Told how each second request, and each copy of a task, came out. */
  onHedge?: (outcome: HedgeOutcome) => void;
  onMirror?: (outcome: MirrorOutcome) => void;
  /** Told of each check of an agent. */
  onCheck?: (outcome: "passed" | "failed") => void;
}

export interface Engine {
  readonly db: Database;
  readonly hub: UpdateHub;
  readonly directory: AgentDirectory;
  readonly router: Router;
  readonly dispatcher: Dispatcher;
  readonly tasks: Tasks;
  readonly taskExecutions: TaskExecutions;
  readonly plainTasks: PlainTasks;
  readonly taskCleanup: TaskCleanup;
  readonly taskEvents: TaskEvents;
  readonly routes: Routes;
  readonly pushConfigs: PushConfigs;
  readonly sender: Sender;
  readonly exchanges: Exchanges;
  readonly registry: Registry;
  readonly rollouts: Rollouts;
  readonly rolloutSettings: RolloutSettings;
  readonly alerts: Alerts;
  readonly cachedResults: CachedResults;
  readonly outbox: Outbox;
  /** How many replicas live, by the last heartbeat; 1, which is this one, before the first. */
  readonly replicas: number;
  /** This replica's lease: its id, and how long the lease holds without another heartbeat, in milliseconds. */
  lease(): { replicaId: string; leftMs: number };
  /** How agents do, as this replica sees it. */
  readonly loads: AgentLoads;
  readonly agentHealth: AgentHealthService;
  /** How the agents do that are known here, those in trouble first; as many as a page of metrics can hold. */
  agentGauges(): AgentGauge[];
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
  const { onDelivery = () => {}, onTaken = () => {}, onAttemptFailed = () => {}, onCacheLookup = () => {} } = options;
  const { onHedge = () => {}, onMirror = () => {}, onCheck = () => {} } = options;
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
  const rolloutRepository = createRolloutRepository(db);
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
  const { circuit, outlier, health } = config;
  const watch = createAgentWatch({
    agents: agentRepository,
    capabilities: capabilityRepository,
    health: createAgentHealthRepository(db, health),
    signals: createSignalRepository(db),
    connector,
    cards: cardFetcher,
    runtime,
    log,
    replicaId: replica.id,
    circuit,
    outlier,
    checks: health,
    onCheck,
  });
  const { directory, loads, availability } = watch;
  const routingSettings = createWorkspaceSettings(createRoutingSettingsRepository(db), runtime);
  const rollouts = createRollouts(rolloutRepository, runtime);
  const decisionOf = (workspaceId: string, taskId: string) => readDecision(db, workspaceId, taskId);
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
  const choosing = {
    directory,
    runtime,
    loads,
    rollouts,
    isLocal: createLocality(connector.pick),
    settings: routingSettings,
    readDecision: decisionOf,
    waitingAt: agentQueue.waitingAt,
    strategy: config.routing.strategy,
    availability,
  };
  const router = createRouter({ ...choosing, isFull: fullByLoad(loads) });
  const alerts = createAlerts({
    rollouts,
    runtime,
    async openCircuits(workspaceId, capabilityId) {
      const { byId, byCapability } = await directory.agents(workspaceId);
      const offers = capabilityId === undefined ? undefined : (byCapability.get(capabilityId) ?? []);
      const agentIds = offers ? offers.map(({ agent }) => agent.agentId) : [...byId.keys()];
      const open = agentIds.filter((agentId) => {
        const breaker = loads.breaker(workspaceId, agentId);
        return breaker !== undefined && circuitState(breaker, runtime.elapsedMs()) !== "CLOSED";
      });
      return { open: open.length, agents: agentIds.length };
    },
  });
  /** As of now: whoever carries a task may not have routed it. */
  const rolloutSource: RolloutSource = {
    of(workspaceId, capabilityId) {
      const loading = rollouts.load(workspaceId);
      return loading
        ? loading.then(() => rollouts.of(workspaceId, capabilityId))
        : rollouts.of(workspaceId, capabilityId);
    },
  };
  const tryReserve = async (place: PermitTask) =>
    permits.isNeeded(place) ? (await permits.take(place).catch(() => undefined))?.release : () => {};
  const { task, limits } = config;
  const dispatcher = createDispatcher({
    store,
    hub,
    connector,
    runtime,
    log,
    replicaId: replica.id,
    findAgent: router.endpoint,
    loads: {
      ...loads,
      end(header, state, isLast) {
        loads.end(header, state);
        if (isLast) alerts.end(header, state);
      },
    },
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
    hedges: {
      rollouts: rolloutSource,
      secondAgent: createSecondAgent(choosing),
      quantileMs(workspaceId, agentId, quantile) {
        const load = loads.of(workspaceId, agentId);
        return load && latencyQuantileAt(load.signals, quantile, runtime.elapsedMs());
      },
      averageLatencyMs: router.averageLatencyMs,
      inFlight: (workspaceId, agentId) => loads.of(workspaceId, agentId)?.inFlight ?? 0,
      tryReserve,
      onOutcome: onHedge,
    },
    mirrors: { rollouts: rolloutSource, tryReserve, onOutcome: onMirror },
    nextAgent: (task, message, exclude) => router.reroute(task, message, "FAILED", exclude),
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
    settings: routingSettings,
    readDecision: decisionOf,
    readDecidedTasks: (workspaceId, query) => readDecidedTasks(db, workspaceId, query),
    runtime,
  });
  const taskExecutions = createTaskExecutions({ reads: createTransitionReads(db), tasks });
  const pushConfigs = createPushConfigs({ repository: pushConfigRepository, tasks, webhooks, runtime });
  const results = createResultCacheRepository(db);
  const counter = createLookupCounter();
  const cache = createResultCache({
    repository: results,
    directory,
    rollouts,
    store,
    hub,
    runtime,
    log,
    maxBytes: config.cache.maxBytes,
    onLookup(workspaceId, capabilityId, outcome) {
      counter.count(workspaceId, capabilityId, outcome);
      onCacheLookup(outcome);
    },
  });
  const cachedResults = createCachedResults({ repository: results, counter });
  const idempotency = createIdempotency({
    repository: createIdempotencyRepository(db),
    store,
    dispatcher,
    runtime,
    log,
    replicaId: replica.id,
    keepMs: config.idempotency.keepMs,
    byMessageId: config.idempotency.messageId,
  });
  const sender = createSender({
    store,
    hub,
    cache,
    idempotency,
    router,
    policy: allowAll,
    dispatcher,
    tasks,
    pushConfigs,
    runtime,
    silenceMs: task.silenceMs,
    taskTimeoutMs: task.timeoutMs,
  });
  const plainTasks = createPlainTasks({ sender, tasks, store, hub, runtime });
  const taskCleanup = createTaskCleanup({ tasks, removal: createTaskRemoval(db), hub, runtime });
  const taskEvents = createTaskEvents({ reads: createTaskEventReads(db), hub, runtime });
  const registry = createRegistry({
    repository: agentRepository,
    capabilities: capabilityRepository,
    directory,
    connector,
    cards: cardFetcher,
    cardRefresh: watch.cardRefresh,
    health: watch.health,
    runtime,
  });
  const rolloutSettings = createRolloutSettings({ repository: rolloutRepository, rollouts, runtime });
  const exchanges = buildExchanges({
    records: createExchangeRepository(db),
    registry,
    directory,
    connector,
    sender,
    tasks,
    taskExecutions,
    routes,
    policy: allowAll,
    runtime,
    loads,
    waitingAt: agentQueue.waitingAt,
    settings: routingSettings,
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
  const retention = createExchangeRetention(db);
  const exchangeSweep = startExchangeSweep({ retention, runtime, log, keepMs: config.exchange.keepMs });
  closing.push(() => exchangeSweep.stop());
  const sweep = startSweep({
    rows: createExpiredRows(db),
    runtime,
    log,
    maxResults: config.cache.maxEntries,
  });
  closing.push(() => sweep.stop());
  closing.push(() => watch.stop());
  closing.push(() => dispatcher.stop(patience));
  // Before the tasks are let go, which their agents have and whoever takes them over counts.
  closing.push(() => allotments.stop());
  closing.push(() => claims.stop());

  let replicas = 1;
  replica.start({
    onBeat(living) {
      replicas = living;
      hints.setPeers(living - 1);
      watch.exchange.setPeers(living - 1);
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
  watch.start();
  allotments.start();

  return {
    db,
    hub,
    directory,
    router,
    dispatcher,
    tasks,
    taskExecutions,
    plainTasks,
    taskCleanup,
    taskEvents,
    routes,
    pushConfigs,
    sender: withExchanges(sender, exchanges),
    exchanges,
    registry,
    rollouts,
    rolloutSettings,
    alerts,
    cachedResults,
    agentHealth: watch.health,
    outbox,
    agentGauges: watch.gauges,
    get replicas() {
      return replicas;
    },
    lease: () => ({ replicaId: replica.id(), leftMs: replica.leaseLeftMs() }),
    loads,
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
