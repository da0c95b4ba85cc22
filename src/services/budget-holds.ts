/**
 * Reserves what tasks may cost, from this replica's slices of the budgets' windows: in memory, as long as there is enough; where
 * there is not, the database is asked for more, and other replicas for what they do not need.
 */
import type { Logger } from "pino";
import { parentExceeded } from "../domain/budget/budget-errors.ts";
import { type BudgetIndex, createBudgetIndex } from "../domain/budget/budget-index.ts";
import { lineOf, parseBudgetKey } from "../domain/budget/budget-key.ts";
import type { BudgetRule } from "../domain/budget/budget-rule.ts";
import { WindowEnds } from "../domain/budget/budget-window.ts";
import type { BudgetHold, DelegatingTask } from "../domain/budget/hold.ts";
import type { LimitKey } from "../store/allotment-repository.ts";
import type { BudgetRepository } from "../store/budget-repository.ts";
import type { BudgetUsageReads } from "../store/budget-usage-reads.ts";
import { replicaExpired } from "../store/database-errors.ts";
import type { TaskStore } from "../store/task-store.ts";
import { createAllotments } from "./allotments.ts";
import { createBudgetBills, WAIT_MS } from "./budget-bills.ts";
import { createBudgetDoubts, type TakenUnits } from "./budget-doubts.ts";
import { createBudgetObtaining, type Need } from "./budget-obtain.ts";
import { type BudgetPlan, createBudgetPlans, type TaskCost } from "./budget-plans.ts";
import type { Budgets, Reservation, Spending } from "./budget-port.ts";
import type { Runtime } from "./runtime.ts";

/** How often slices of dead replicas are looked for, in milliseconds. */
const SWEEP_MS = 2_000;
/** A window is forgotten so long after its end, and after it was last used, in milliseconds. */
const PAST_MS = 7_200_000;
export interface BudgetHoldsDeps {
  /** The budgets of a workspace's policy. The same array as long as it is the same policy. */
  rulesOf: (workspaceId: string) => readonly BudgetRule[];
  repository: BudgetRepository;
  reads: Pick<BudgetUsageReads, "standing">;
  store: Pick<TaskStore, "lastNumbers">;
  replicaId: () => string;
  /** Tells other replicas that they may find something that was not there, or are asked for something. */
  announce: () => void;
  /** Told of what tasks cost beyond what was to be had, in millionths. */
  onOverrun: (micros: number) => void;
  runtime: Runtime;
  log: Logger;
}

export interface BudgetHolds extends Budgets {
  /** When a window ends, in milliseconds since the epoch, as this replica knows its budget. */
  endOf(limit: LimitKey): number;
  /** The budgets of a workspace, as this replica knows them now. */
  indexOf(workspaceId: string): BudgetIndex | undefined;
  /** Another replica may have given something back, or want something. */
  heed(): void;
  /** Forgets all slices: this replica was declared dead. */
  reset(): void;
  start(): void;
  stop(): Promise<void>;
}

export function createBudgetHolds(deps: BudgetHoldsDeps): BudgetHolds {
  const { repository, reads, runtime, log, replicaId } = deps;
  const plans = createBudgetPlans();
  const ends = new WindowEnds();
  const indexes = new Map<string, { rules: readonly BudgetRule[]; index: BudgetIndex }>();
  const doubts = createBudgetDoubts(deps);
  let waiters = Promise.withResolvers<void>();
  let sweptMs = Number.NEGATIVE_INFINITY;

  const allotments = createAllotments({
    repository: {
      settle: repository.settle,
      async sweep(graceMs) {
        if (runtime.elapsedMs() - sweptMs < SWEEP_MS) return;
        sweptMs = runtime.elapsedMs();
        obtaining.prune();
        await doubts.resolve();
        await repository.sweep(graceMs);
      },
    },
    replicaId,
    limitOf: (limit) => (runtime.now().getTime() < endOf(limit) ? limitOf(limit) : undefined),
    isPast: (limit, unusedMs) => unusedMs >= PAST_MS && runtime.now().getTime() >= endOf(limit) + PAST_MS,
    wanted: () => repository.wanted(replicaId()),
    announce: deps.announce,
    onRoom() {
      waiters.resolve();
      waiters = Promise.withResolvers();
    },
    runtime,
    log,
  });

  const obtaining = createBudgetObtaining({
    slice: allotments.slice,
    standing: (limitKey) => reads.standing(limitKey, replicaId()),
    room: () => waiters.promise,
    roomWithin,
    runtime,
  });

  const bills = createBudgetBills({
    sliceOf(limitKey) {
      // Also after its end: a task is paid of the window in which it began.
      const limit = limitOf(limitKey);
      return limit === undefined ? allotments.find(limitKey) : allotments.slice(limitKey, limit);
    },
    async leftOf(limitKey, units) {
      const { used, reserved, elsewhere } = await reads.standing(limitKey, replicaId());
      return { elsewhere, free: units - used - reserved };
    },
    room: () => waiters.promise,
    roomWithin,
    replicaId,
    onOverrun: deps.onOverrun,
    runtime,
    log,
  });

  /** Waits until there may be room, and no longer than it may. */
  async function roomWithin(ms: number, room: Promise<void>, signal: AbortSignal): Promise<void> {
    const over = new AbortController();
    const time = runtime.wait(ms, AbortSignal.any([over.signal, signal])).catch(() => {});
    await Promise.race([room, time]).finally(() => over.abort());
  }

  function indexOf(workspaceId: string): BudgetIndex | undefined {
    const rules = deps.rulesOf(workspaceId);
    if (rules.length === 0) return undefined;
    const last = indexes.get(workspaceId);
    if (last?.rules === rules) return last.index;
    const index = createBudgetIndex(rules, workspaceId);
    indexes.set(workspaceId, { rules, index });
    return index;
  }

  /** The limit of a window, as the policy says now. */
  function limitOf({ workspaceId, key }: LimitKey): number | undefined {
    const parsed = parseBudgetKey(key);
    const rule = parsed && indexOf(workspaceId)?.byId.get(parsed.budgetId);
    return rule?.limits.find(({ period, unit }) => period === parsed?.period && unit === parsed.unit)?.units;
  }

  function endOf({ workspaceId, key }: LimitKey): number {
    const parsed = parseBudgetKey(key);
    if (!parsed) return 0;
    const rule = indexOf(workspaceId)?.byId.get(parsed.budgetId);
    return ends.of(parsed.period, rule?.timeZone ?? "UTC", parsed.startMs);
  }

  async function hold({ parent, context, taskId }: Spending, plan: BudgetPlan, owner: string): Promise<Reservation> {
    const drawn = new Set<string>();
    const taken: TakenUnits[] = [];
    const giveBack = () => {
      for (const { slice, units } of taken.splice(0)) slice.giveBack(units);
    };
    let { holds } = plan;
    const patience = { until: runtime.elapsedMs() + WAIT_MS, signal: context.signal };
    try {
      for (const [i, need] of plan.needs.entries()) {
        const { units } = need;
        const held = parentHold(parent, need);
        if (!held) {
          const slice = obtaining.obtain(need, patience);
          taken.push({ slice: slice instanceof Promise ? await slice : slice, units });
          continue;
        }
        if (Math.max(1, units) > held.units) throw parentExceeded(need.rule.id, parent!.taskId, held.units, units);
        if (units > 0) drawn.add(held.key);
        holds = holds.with(i, { ...holds[i]!, key: held.key, replicaId: held.replicaId });
      }
    } catch (error) {
      giveBack();
      throw error;
    }
    if (replicaId() !== owner) {
      // This replica was declared dead meanwhile: what was taken before it joined anew is not to be stored with what was taken since.
      giveBack();
      throw replicaExpired();
    }
    return {
      holds,
      drawn,
      release: giveBack,
      keep: () => void taken.splice(0),
      doubt() {
        const mine = taken.splice(0);
        if (mine.length > 0) doubts.add({ workspaceId: context.workspaceId, taskId, taken: mine });
      },
    };
  }

  return {
    endOf,
    indexOf,
    reserve(spending) {
      const { context, route, isAnswered } = spending;
      const index = isAnswered ? undefined : indexOf(context.workspaceId);
      if (!index) return undefined;
      const { workspaceId, principal } = context;
      const spender = {
        agentId: route.agent.agentId,
        capabilityId: route.capability?.capabilityId,
        among: route.among?.map(({ capabilityId }) => capabilityId),
        principalId: principal.id,
      };
      const owner = replicaId();
      const nowMs = runtime.now().getTime();
      const plan = plans.planOf(index, { workspaceId, spender, cost: costOf(route), replicaId: owner, nowMs });
      return plan.needs.length === 0 ? undefined : hold(spending, plan, owner);
    },

    ...bills,

    settled({ workspaceId, holds = [] }) {
      for (const { key } of holds) {
        obtaining.forget({ workspaceId, key });
        allotments.find({ workspaceId, key })?.hope();
      }
    },

    heed: allotments.heed,
    reset() {
      doubts.reset();
      allotments.reset();
    },
    start: allotments.start,
    stop: allotments.stop,
  };
}

/** What is reserved for a task, and what is charged where nobody reports a cost, in millionths. */
function costOf({ capability, wishes }: Spending["route"]): TaskCost {
  const declared = capability?.costMicros ?? 0;
  // Who declares no cost may report one: as much as its client allows.
  return { reserved: declared > 0 ? declared : (wishes.maxCostMicros ?? 0), declared };
}

/** What the parent holds of the same budget's money, if it ever held any: a task on its behalf draws on that. */
const parentHold = (parent: DelegatingTask | undefined, { limit, limitKey }: Need): BudgetHold | undefined =>
  limit.unit !== "MONEY"
    ? undefined
    : parent?.holds.find(({ key, units, drawn }) => units + drawn > 0 && lineOf(key) === lineOf(limitKey.key));
