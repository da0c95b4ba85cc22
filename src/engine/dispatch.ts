/** What carries tasks to their agents, and what takes up those that nobody has. */
import { latencyQuantileAt } from "../domain/routing/agent-signals.ts";
import type { PermitTask } from "../services/agent-permits.ts";
import { type Claims, createClaims } from "../services/background/claims.ts";
import { createDispatcher, type Dispatcher } from "../services/dispatcher.ts";
import { createMirrorPolicy } from "../services/mirror-policy.ts";
import { createResultPolicy } from "../services/result-policy.ts";
import { asOfNow } from "../services/rollouts.ts";
import { createHeldUpdates } from "../store/held-updates.ts";
import type { BudgetParts } from "./budgets.ts";
import type { Clients } from "./clients.ts";
import type { Ground } from "./ground.ts";
import { type LimitParts, withPlaces } from "./limits.ts";
import type { EngineBase } from "./options.ts";
import type { PolicyParts } from "./policy.ts";
import type { RoutingParts } from "./routing.ts";

export interface DispatchParts {
  readonly dispatcher: Dispatcher;
  readonly claims: Claims;
}

export function buildDispatch(
  base: EngineBase,
  ground: Ground,
  clients: Clients,
  { policy, policies }: PolicyParts,
  routing: RoutingParts,
  { budgets }: BudgetParts,
  { taskPlaces }: Pick<LimitParts, "taskPlaces">,
): DispatchParts {
  const { config, log, runtime } = base;
  const { leases, replica, hub, store, repositories } = ground;
  const { router, alerts, allotments, permits, agentQueue } = routing;
  const { directory, loads } = routing.watch;
  const { task, limits } = config;
  const rollouts = asOfNow(routing.rollouts);
  const tryReserve = async (place: PermitTask) =>
    permits.isNeeded(place) ? (await permits.take(place).catch(() => undefined))?.release : () => {};

  const dispatcher = createDispatcher({
    store,
    hub,
    connector: clients.connector,
    runtime,
    log,
    replicaId: replica.id,
    budgets: withPlaces(budgets, taskPlaces),
    findAgent: router.endpoint,
    loads: {
      ...loads,
      end(header, state, isLast, home) {
        loads.end({ ...home, createdAt: header.createdAt }, state);
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
        base.onAttemptFailed();
        claims.look(pauseMs);
      },
    },
    hedges: {
      rollouts,
      secondAgent: routing.secondAgent,
      quantileMs(workspaceId, agentId, quantile) {
        const load = loads.of(workspaceId, agentId);
        return load && latencyQuantileAt(load.signals, quantile, runtime.elapsedMs());
      },
      averageLatencyMs: router.averageLatencyMs,
      inFlight: (workspaceId, agentId) => loads.of(workspaceId, agentId)?.inFlight ?? 0,
      tryReserve,
      onOutcome: base.onHedge,
    },
    mirrors: {
      rollouts,
      isAllowed: createMirrorPolicy({ policy, directory, readDecision: routing.readDecision }),
      tryReserve,
      onOutcome: base.onMirror,
    },
    nextAgent: (failed, message, exclude) => router.reroute(failed, message, "FAILED", exclude),
    approvals: {
      pending: repositories.approvals.pending,
      maxPending: limits.pendingApprovals,
      onOutcome: base.onApproval,
    },
    guard: {
      results: createResultPolicy({ policies, readDecision: routing.readDecision, onVerdict: base.onPolicyVerdict }),
      held: createHeldUpdates(base.db),
      maxBytes: limits.heldBytes,
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
    onTaken: base.onTaken,
  });
  hub.onWork((origin) => {
    if (origin === "elsewhere") {
      agentQueue.heed();
      allotments.heed();
    }
    claims.look();
  });
  return { dispatcher, claims };
}
