/** What calls and tasks are held against: rates and quotas of workspaces, and what counts their use. */
import { startLimitCounts } from "../services/background/limit-counts.ts";
import type { Budgets } from "../services/budget-port.ts";
import { createQuotaUses, type QuotaUses } from "../services/identity/quota-use.ts";
import { createKnownQuotas, type KnownQuotas } from "../services/limits/known-quotas.ts";
import { createOpenStreams, type OpenStreams } from "../services/limits/open-streams.ts";
import { createSlicedRates } from "../services/limits/sliced-rates.ts";
import { createTaskPlaces, IN_FLIGHT_END, type TaskPlaces } from "../services/limits/task-places.ts";
import { type CallLimits, createWorkspaceLimits, type TaskLimits } from "../services/limits/workspace-limits.ts";
import { createAllotmentRepository } from "../store/allotment-repository.ts";
import { createBudgetRepository } from "../store/budget-repository.ts";
import { createBudgetUsageReads } from "../store/budget-usage-reads.ts";
import { createQuotaRepository } from "../store/quota-repository.ts";
import { createSharedRates } from "../store/shared-rates.ts";
import { createStoredBytes } from "../store/stored-bytes.ts";
import type { Ground } from "./ground.ts";
import type { EngineBase } from "./options.ts";

export interface LimitParts {
  readonly limits: CallLimits & TaskLimits;
  readonly knownQuotas: KnownQuotas;
  /** What workspaces use of their quotas. */
  readonly quotaUses: QuotaUses;
  readonly taskPlaces: TaskPlaces;
  readonly openStreams: OpenStreams;
}

export function buildLimits(base: EngineBase, { store, hub, replica }: Ground): LimitParts {
  const { db, config, runtime, log, closing } = base;
  const repository = createQuotaRepository(db);
  const knownQuotas = createKnownQuotas({ repository, runtime, log });
  const rates = createSharedRates(db, runtime.elapsedMs);
  const announce = () => hub.announceWork();
  const taskPlaces = createTaskPlaces({
    quotas: knownQuotas,
    repository: createBudgetRepository(db, () => IN_FLIGHT_END),
    counts: repository,
    reads: createBudgetUsageReads(db),
    store,
    replicaId: replica.id,
    announce,
    runtime,
    log,
  });
  const openStreams = createOpenStreams({
    quotas: knownQuotas,
    repository: createAllotmentRepository(db),
    counts: repository,
    replicaId: replica.id,
    announce,
    runtime,
    log,
  });
  hub.onWork((origin) => {
    if (origin !== "elsewhere") return;
    taskPlaces.heed();
    openStreams.heed();
  });
  const counts = startLimitCounts({ stored: createStoredBytes(db), rates, runtime, log });
  closing.push(() => knownQuotas.close());
  closing.push(() => rates.close());
  closing.push(() => counts.stop());
  const limits = createWorkspaceLimits({
    quotas: knownQuotas,
    rates: createSlicedRates(rates, runtime),
    places: taskPlaces,
    streams: openStreams,
    principalCalls: config.limits.principalCalls,
    onLimited: base.onLimited,
  });
  return { limits, knownQuotas, quotaUses: createQuotaUses(repository), taskPlaces, openStreams };
}

/** Budgets, and places: the end of a task gives back of both. */
export const withPlaces = (budgets: Budgets, places: Pick<TaskPlaces, "settled">): Budgets => ({
  ...budgets,
  settled(task) {
    budgets.settled(task);
    places.settled(task);
  },
});
