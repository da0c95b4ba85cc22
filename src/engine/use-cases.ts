/** What clients and operators can ask for: tasks, in their own words or plain ones, routes, agents, rollouts and exchanges. */

import { type Approvals, createApprovals } from "../services/approvals/approvals.ts";
import { createFindObstacle } from "../services/approvals/obstacle.ts";
import type { BudgetUsage } from "../services/budget-usage.ts";
import { type CachedResults, createCachedResults } from "../services/cached-results.ts";
import { createDelegations } from "../services/delegations.ts";
import { buildExchanges } from "../services/exchange/build.ts";
import { withExchanges } from "../services/exchange/exchange-sender.ts";
import type { Exchanges } from "../services/exchange/exchanges.ts";
import { createIdempotency } from "../services/idempotency.ts";
import { type AgentCredentials, createAgentCredentials } from "../services/identity/agent-credentials.ts";
import { type ContextShares, createContextShares } from "../services/identity/context-shares.ts";
import { createLookupCounter } from "../services/lookup-counts.ts";
import { noReputations } from "../services/no-reputation.ts";
import { createPlainTasks, type PlainTasks } from "../services/plain-tasks.ts";
import { createPolicyTrials, type PolicyTrials } from "../services/policy-trials.ts";
import { createPolicyVersions, type PolicyVersions } from "../services/policy-versions.ts";
import { createPushConfigs, type PushConfigs } from "../services/push-configs.ts";
import { createRegistry, type Registry } from "../services/registry.ts";
import { createReputations, type Reputations } from "../services/reputations.ts";
import { createResultCache } from "../services/result-cache.ts";
import { createIsGuarded, type IsGuarded } from "../services/result-policy.ts";
import { createRolloutSettings, type RolloutSettings } from "../services/rollout-settings.ts";
import { createRoutes, type Routes } from "../services/routes.ts";
import { createSender, type Sender } from "../services/send.ts";
import { createTaskCleanup, type TaskCleanup } from "../services/task-cleanup.ts";
import { createTaskEvents, type TaskEvents } from "../services/task-events.ts";
import { createTaskExecutions, type TaskExecutions } from "../services/task-executions.ts";
import { createTasks, type Tasks } from "../services/tasks.ts";
import { createContextShareRepository } from "../store/context-share-repository.ts";
import { createExchangeRepository } from "../store/exchange-repository.ts";
import { createIdempotencyRepository } from "../store/idempotency-repository.ts";
import { createPushConfigRepository } from "../store/push-config-repository.ts";
import { createResultCacheRepository } from "../store/result-cache-repository.ts";
import { readDecidedTasks } from "../store/route-reads.ts";
import { createTaskEventReads } from "../store/task-event-reads.ts";
import { createTaskRemoval } from "../store/task-removal.ts";
import { createTransitionReads } from "../store/transition-reads.ts";
import type { BudgetParts } from "./budgets.ts";
import type { Clients } from "./clients.ts";
import type { DispatchParts } from "./dispatch.ts";
import type { Ground } from "./ground.ts";
import type { LimitParts } from "./limits.ts";
import type { EngineBase } from "./options.ts";
import type { PolicyParts } from "./policy.ts";
import type { RoutingParts } from "./routing.ts";

export interface UseCases {
  /** The way of every message. What carries an exchange goes through it. */
  readonly sender: Sender;
  readonly tasks: Tasks;
  readonly taskExecutions: TaskExecutions;
  readonly plainTasks: PlainTasks;
  readonly taskCleanup: TaskCleanup;
  readonly taskEvents: TaskEvents;
  readonly contextShares: ContextShares;
  readonly routes: Routes;
  readonly pushConfigs: PushConfigs;
  readonly approvals: Approvals;
  /** Whether results of a capability are held back until the policy has decided. */
  readonly isGuarded: IsGuarded;
  readonly exchanges: Exchanges;
  readonly registry: Registry;
  readonly agentCredentials: AgentCredentials;
  readonly rolloutSettings: RolloutSettings;
  readonly cachedResults: CachedResults;
  readonly policyVersions: PolicyVersions;
  readonly policyTrials: PolicyTrials;
  readonly reputations: Reputations;
  readonly budgetUsage: BudgetUsage;
}

export function buildUseCases(
  base: EngineBase,
  ground: Ground,
  clients: Clients,
  policyParts: PolicyParts,
  routing: RoutingParts,
  { dispatcher }: DispatchParts,
  { budgets, budgetUsage }: BudgetParts,
  { limits }: Pick<LimitParts, "limits">,
): UseCases {
  const { db, config, log, runtime } = base;
  const { policy, reputation } = policyParts;
  const isGuarded = createIsGuarded(policyParts.policies);
  const { replica, hub, store, audit, repositories } = ground;
  const { router, rollouts, settings, agentQueue, readDecision } = routing;
  const { directory, loads, cardRefresh, health } = routing.watch;
  const { connector, webhooks, cards } = clients;

  const tasks: Tasks = createTasks({ store, router, dispatcher });
  const routes = createRoutes({
    router,
    tasks,
    settings,
    readDecision,
    readDecidedTasks: (workspaceId, query) => readDecidedTasks(db, workspaceId, query),
    runtime,
  });
  const taskExecutions = createTaskExecutions({ reads: createTransitionReads(db), tasks });
  const pushConfigs = createPushConfigs({
    repository: createPushConfigRepository(db),
    tasks,
    webhooks,
    audit,
    runtime,
  });
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
      base.onCacheLookup(outcome);
    },
  });
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
  const approvals = createApprovals({
    repository: repositories.approvals,
    store,
    waiting: dispatcher.waiting,
    hub,
    runtime,
    obstacle: createFindObstacle({ router, policy, trust: reputation, readDecision }),
    onOutcome: base.onApproval,
  });
  const sender = createSender({
    store,
    hub,
    cache,
    idempotency,
    router,
    policy,
    trust: reputation,
    budgets,
    limits,
    onBudgetRefused: base.onBudgetRefused,
    delegations: createDelegations(store),
    dispatcher,
    tasks,
    pushConfigs,
    approvals,
    isGuarded,
    runtime,
    silenceMs: config.task.silenceMs,
    taskTimeoutMs: config.task.timeoutMs,
  });
  const registry = createRegistry({
    repository: repositories.agents,
    capabilities: repositories.capabilities,
    directory,
    connector,
    cards,
    cardRefresh,
    health,
    reputation,
    audit,
    runtime,
  });
  const exchanges = buildExchanges({
    records: createExchangeRepository(db),
    registry,
    directory,
    connector,
    sender,
    tasks,
    taskExecutions,
    routes,
    policy,
    runtime,
    loads,
    trust: reputation,
    waitingAt: agentQueue.waitingAt,
    settings,
    refusals: ground.refusals,
  });
  return {
    sender: withExchanges(sender, exchanges),
    tasks,
    taskExecutions,
    plainTasks: createPlainTasks({ sender, tasks, store, hub, runtime }),
    taskCleanup: createTaskCleanup({
      tasks,
      removal: createTaskRemoval(db, config.audit.enabled ? replica.id : undefined),
      hub,
      runtime,
    }),
    taskEvents: createTaskEvents({ reads: createTaskEventReads(db), hub, runtime }),
    contextShares: createContextShares({ repository: createContextShareRepository(db), audit, runtime }),
    routes,
    pushConfigs,
    approvals,
    isGuarded,
    exchanges,
    registry,
    agentCredentials: createAgentCredentials({
      repository: repositories.agentCredentials,
      agents: repositories.agents,
      directory,
      box: ground.secrets,
      checks: clients.credentialChecks,
      known: clients.credentials,
      audit,
      runtime,
    }),
    policyVersions: createPolicyVersions({ ...policyParts, audit, runtime }),
    policyTrials: createPolicyTrials({
      ...policyParts,
      readDecidedTasks: (workspaceId, query) => readDecidedTasks(db, workspaceId, query),
      runtime,
    }),
    reputations: config.reputation.enabled
      ? createReputations({
          repository: policyParts.reputationRepository,
          reputation,
          rules: policyParts.trustRules,
          directory,
          tasks,
          audit,
          runtime,
          onReport: () => base.onReputation("report", 1),
        })
      : noReputations,
    budgetUsage,
    rolloutSettings: createRolloutSettings({ repository: repositories.rollouts, rollouts, audit, runtime }),
    cachedResults: createCachedResults({ repository: results, counter, audit }),
  };
}
