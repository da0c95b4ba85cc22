/**
 * Everything behind the listeners, built in the order in which things depend on each other: the database, this replica
 * among the others, the ways to agents, what routes and dispatches, the use cases, and the duties in the background.
 */

import { type AuditParts, buildAuditLog, recordPolicyFiles } from "./engine/audit-log.ts";
import { buildBudgets } from "./engine/budgets.ts";
import type { BusKind } from "./engine/bus.ts";
import { buildClients } from "./engine/clients.ts";
import { closeAll } from "./engine/closing.ts";
import { buildDispatch, type DispatchParts } from "./engine/dispatch.ts";
import { startDuties } from "./engine/duties.ts";
import { buildGround } from "./engine/ground.ts";
import { buildIdentity, type IdentityParts } from "./engine/identity.ts";
import { buildLimits, type LimitParts } from "./engine/limits.ts";
import type { EngineBase, EngineListeners, EngineOptions } from "./engine/options.ts";
import { buildPolicy } from "./engine/policy.ts";
import { buildRouting } from "./engine/routing.ts";
import { buildSecrets } from "./engine/secrets.ts";
import { buildUseCases, type UseCases } from "./engine/use-cases.ts";
import { buildWorkspaces, type WorkspaceParts } from "./engine/workspaces.ts";
import type { AgentDirectory } from "./services/agent-directory.ts";
import type { AgentHealthService } from "./services/agent-health.ts";
import type { Alerts } from "./services/alerts.ts";
import type { Refusals } from "./services/audit-refusals.ts";
import type { Outbox } from "./services/background/outbox.ts";
import type { TaskRetentionDuty } from "./services/background/task-retention.ts";
import type { Dispatcher } from "./services/dispatcher.ts";
import { resealSecrets } from "./services/identity/reseal.ts";
import type { KnownStandings } from "./services/known-standings.ts";
import type { Policy } from "./services/policy.ts";
import type { Rollouts } from "./services/rollouts.ts";
import type { Router } from "./services/router.ts";
import type { AgentGauge } from "./services/routing/agent-gauges.ts";
import type { AgentLoads } from "./services/routing/agent-load.ts";
import type { UpdateHub } from "./services/update-hub.ts";
import type { Database } from "./store/database.ts";
import { migrate } from "./store/migrate.ts";
import { openDatabase } from "./store/open-database.ts";
import { mendTransactionNumbers } from "./store/outbox-mend.ts";
import { raiseWall } from "./store/row-security.ts";
import { createSealedSecrets } from "./store/sealed-secrets.ts";

export interface Engine
  extends UseCases,
    AuditParts,
    IdentityParts,
    WorkspaceParts,
    Pick<LimitParts, "limits" | "quotaUses"> {
  readonly db: Database;
  readonly hub: UpdateHub;
  readonly directory: AgentDirectory;
  readonly router: Router;
  readonly policy: Policy;
  readonly rollouts: Rollouts;
  readonly dispatcher: Dispatcher;
  readonly alerts: Alerts;
  readonly outbox: Outbox;
  readonly retention: Pick<TaskRetentionDuty, "behind">;
  /** How many replicas live, by the last heartbeat; 1, which is this one, before the first. */
  readonly replicas: number;
  /** By what this replica hears of the others, and whether it does now. */
  readonly bus: { readonly kind: BusKind; readonly connected: boolean };
  /** This replica's lease: its id, and how long the lease holds without another heartbeat, in milliseconds. */
  lease(): { replicaId: string; leftMs: number };
  readonly refusals: Refusals;
  /** How agents do, as this replica sees it. */
  readonly loads: AgentLoads;
  /** Whether the policy files of this server are in force as they stand on its disk. */
  policyFilesAreValid(): boolean;
  readonly agentHealth: AgentHealthService;
  /** How the agents do that are known here, those in trouble first; as many as a page of metrics can hold. */
  agentGauges(): AgentGauge[];
  /** How many agents all workspaces have. Rejects when the database does not answer. */
  countAgents(): Promise<number>;
  /** How many tasks wait for room at their agents, over all replicas, as this one has counted them within the last second. */
  readonly waitingAtAgents: number;
  /** How agents stand, as this replica knows it. */
  readonly reputation: KnownStandings;
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

const UNHEARD: EngineListeners = {
  onDelivery() {},
  onTaken() {},
  onAttemptFailed() {},
  onCacheLookup() {},
  onHedge() {},
  onMirror() {},
  onApproval() {},
  onPolicyReload() {},
  onPolicyVerdict() {},
  onReputation() {},
  onCheck() {},
  onBudgetRefused() {},
  onBudgetOverrun() {},
  onRemoved() {},
  onLimited() {},
};

/** Throws SignalboxError with a sentence for the operator when it cannot start. */
export async function startEngine(options: EngineOptions): Promise<Engine> {
  const { config, log } = options;
  // First: keys that cannot be read are nothing that a database must be waited for.
  const secrets = buildSecrets(options);
  const db = await (options.openDatabase ?? openDatabase)({
    ...(config.database.url !== undefined && { url: config.database.url }),
    dataDir: config.data.dir,
    poolSize: config.database.poolSize,
    log,
    signal: options.signal ?? new AbortController().signal,
  });
  const base: EngineBase = { ...UNHEARD, ...options, db, secrets, closing: [() => db.close()] };
  try {
    return await build(base);
  } catch (error) {
    await closeAll(base.closing);
    throw error;
  }
}

async function build(base: EngineBase): Promise<Engine> {
  const { db, config, log, closing } = base;
  // First, because what is wrong with its files is nothing that a database must change for.
  let filesChanged = () => {};
  const policy = await buildPolicy({
    ...base,
    onPolicyReload(result) {
      base.onPolicyReload(result);
      filesChanged();
    },
  });
  await migrate(db, log);
  await raiseWall(db, config.database.rowLevelSecurity, log);
  await mendTransactionNumbers(db, log);

  let replicas = 1;
  const ground = await buildGround(base);
  filesChanged = recordPolicyFiles(base, ground, policy.files);
  await resealSecrets({ secrets: createSealedSecrets(db), box: base.secrets, log });
  const audit = await buildAuditLog(base, () => replicas);
  const clients = buildClients(base, ground);
  const identity = buildIdentity(base, ground);
  const routing = buildRouting(base, ground, clients, policy, () => dispatch.claims.lookAtAgents());
  const money = buildBudgets(base, ground, policy);
  const limiting = buildLimits(base, ground);
  const dispatch: DispatchParts = buildDispatch(base, ground, clients, policy, routing, money, limiting);
  const useCases = buildUseCases(base, ground, clients, policy, routing, dispatch, money, limiting);
  const workspaces = buildWorkspaces(base, ground, routing, limiting, identity.knownWorkspaces);
  const { outbox, retention } = await startDuties(base, ground, clients, policy, routing);

  const { leases, replica, hub, hints, refusals } = ground;
  const { watch, rollouts, router, alerts, allotments, agentQueue } = routing;
  const { dispatcher, claims } = dispatch;
  const { budgets } = money;
  const { taskPlaces, openStreams } = limiting;
  let patience = 0;
  closing.push(() => watch.stop());
  // After the tasks were let go: their ends may take of what it has.
  closing.push(() => budgets.stop());
  closing.push(() => taskPlaces.stop());
  closing.push(() => openStreams.stop());
  closing.push(() => dispatcher.stop(patience));
  // Before the tasks are let go, which their agents have and whoever takes them over counts.
  closing.push(() => allotments.stop());
  closing.push(() => claims.stop());

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
      budgets.reset();
      taskPlaces.reset();
      openStreams.reset();
    },
  });
  // Before anybody can ask for them, what is known to be nobody's is taken up.
  await claims.takeAll();
  claims.start();
  watch.start();
  allotments.start();
  budgets.start();
  taskPlaces.start();
  openStreams.start();

  return {
    ...useCases,
    ...identity,
    ...workspaces,
    ...audit,
    limits: limiting.limits,
    quotaUses: limiting.quotaUses,
    db,
    hub,
    refusals,
    directory: watch.directory,
    router,
    policy: policy.policy,
    rollouts,
    dispatcher,
    alerts,
    outbox,
    retention,
    get replicas() {
      return replicas;
    },
    get bus() {
      return { kind: ground.busKind, connected: hints.connected };
    },
    lease: () => ({ replicaId: replica.id(), leftMs: replica.leaseLeftMs() }),
    loads: watch.loads,
    policyFilesAreValid: () => policy.files.problems.length === 0,
    agentHealth: watch.health,
    agentGauges: watch.gauges,
    countAgents: ground.repositories.agents.count,
    reputation: policy.reputation,
    get waitingAtAgents() {
      return agentQueue.waiting;
    },
    allotted: allotments.totals,
    waitingTasks: () => leases.waiting(config.limits.queuedTasks),
    stop(patienceMs) {
      patience = patienceMs;
      return closeAll(closing);
    },
  };
}
