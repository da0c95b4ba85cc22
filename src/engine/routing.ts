/** What decides which agent takes a task: how agents do, their places and queues, rollouts, the router, and alerts. */
import { type AgentPlaces, createAgentPlaces } from "../services/agent-places.ts";
import { type AgentWatch, createAgentWatch } from "../services/agent-watch.ts";
import { type Alerts, createAlerts } from "../services/alerts.ts";
import type { FindAnotherAgent } from "../services/another-agent.ts";
import { createCardVerifier } from "../services/card-verifier.ts";
import { createRollouts, type Rollouts } from "../services/rollouts.ts";
import { createRouter, type Router } from "../services/router.ts";
import { fullByLoad } from "../services/routing/fullness.ts";
import { createOpenCircuits } from "../services/routing/open-circuits.ts";
import { createSecondAgent } from "../services/routing/second-agent.ts";
import { createLocality } from "../services/routing/steer.ts";
import { createWorkspaceSettings, type WorkspaceSettings } from "../services/routing/workspace-settings.ts";
import { createAgentHealthRepository } from "../store/agent-health-repository.ts";
import { createAgentQueueRepository } from "../store/agent-queue-repository.ts";
import { createAllotmentRepository } from "../store/allotment-repository.ts";
import { createLendingReads } from "../store/lending-reads.ts";
import { readDecision } from "../store/route-reads.ts";
import { createRoutingSettingsRepository } from "../store/routing-settings-repository.ts";
import { createSignalRepository } from "../store/signal-repository.ts";
import { readTrustedKeys } from "./card-keys.ts";
import type { Clients } from "./clients.ts";
import type { Ground } from "./ground.ts";
import type { EngineBase } from "./options.ts";
import type { PolicyParts } from "./policy.ts";

export interface RoutingParts extends AgentPlaces {
  readonly watch: AgentWatch;
  readonly settings: WorkspaceSettings;
  readonly rollouts: Rollouts;
  readonly router: Router;
  readonly secondAgent: FindAnotherAgent;
  readonly alerts: Alerts;
  /** The bytes of the decision that was stored with a task. */
  readDecision(workspaceId: string, taskId: string): Promise<Uint8Array | undefined>;
}

/** `onRoom` is told that tasks that wait for their agents may be taken. */
export function buildRouting(
  base: EngineBase,
  ground: Ground,
  clients: Clients,
  { policy, reputation }: PolicyParts,
  onRoom: () => void,
): RoutingParts {
  const { db, config, log, runtime } = base;
  const { hub, replica, repositories } = ground;
  const { connector } = clients;
  const watch = createAgentWatch({
    agents: repositories.agents,
    capabilities: repositories.capabilities,
    lendings: createLendingReads(db),
    health: createAgentHealthRepository(db, config.health),
    signals: createSignalRepository(db),
    connector,
    cards: clients.cards,
    verifier: createCardVerifier({
      trusted: readTrustedKeys(config),
      cardKeys: clients.cardKeys,
      allowPlainHttp: config.allowPrivateUrls,
      runtime,
    }),
    audit: ground.audit,
    runtime,
    log,
    replicaId: replica.id,
    circuit: config.circuit,
    outlier: config.outlier,
    checks: config.health,
    onCheck: base.onCheck,
  });
  const { directory, loads, availability } = watch;
  const settings = createWorkspaceSettings(createRoutingSettingsRepository(db), runtime, ground.audit);
  const rollouts = createRollouts(repositories.rollouts, runtime);
  const places = createAgentPlaces({
    allotmentRepository: createAllotmentRepository(db),
    queueRepository: createAgentQueueRepository(db, config.audit.enabled),
    directory,
    loads,
    runtime,
    log,
    replicaId: replica.id,
    maxWaiting: config.limits.agentQueue,
    onRoom,
    announce: () => hub.announceWork(),
  });
  const choosing = {
    directory,
    policy,
    trust: reputation,
    runtime,
    loads,
    rollouts,
    isLocal: createLocality(connector.pick),
    settings,
    readDecision: (workspaceId: string, taskId: string) => readDecision(db, workspaceId, taskId),
    waitingAt: places.agentQueue.waitingAt,
    strategy: config.routing.strategy,
    availability,
  };
  const router = createRouter({ ...choosing, isFull: fullByLoad(loads) });
  return {
    ...places,
    watch,
    settings,
    rollouts,
    router,
    secondAgent: createSecondAgent(choosing),
    alerts: createAlerts({ rollouts, runtime, openCircuits: createOpenCircuits({ directory, loads, runtime }) }),
    readDecision: choosing.readDecision,
  };
}
