/**
 * Reserves what tasks may cost, from this replica's slices of the budgets' windows: in memory, as long as there is enough; where
 * there is not, the database is asked for more, and other replicas for what they do not need.
 */
import type { Logger } from "pino";
import {
  beyondBudget,
  budgetExceeded,
  isFree,
  parentExceeded,
  type WindowUse,
} from "../domain/budget/budget-errors.ts";
import { type BudgetIndex, createBudgetIndex } from "../domain/budget/budget-index.ts";
import { budgetKey, lineOf, parseBudgetKey, type Spender, shareOf } from "../domain/budget/budget-key.ts";
import type { BudgetLimit, BudgetRule } from "../domain/budget/budget-rule.ts";
import { WindowClock, WindowEnds } from "../domain/budget/budget-window.ts";
import type { BudgetHold, DelegatingTask } from "../domain/budget/hold.ts";
import type { LimitKey } from "../store/allotment-repository.ts";
import type { BudgetRepository } from "../store/budget-repository.ts";
import type { BudgetUsageReads } from "../store/budget-usage-reads.ts";
import { replicaExpired } from "../store/database-errors.ts";
import type { TaskStore } from "../store/task-store.ts";
import { createAllotments } from "./allotments.ts";
import { createBudgetBills, WAIT_MS } from "./budget-bills.ts";
import type { Budgets, Reservation, Spending } from "./budgets.ts";
import type { Slice } from "./limit-slice.ts";
import type { Runtime } from "./runtime.ts";

/** What was found about a window that is used up holds so long, in milliseconds. */
const KNOWN_MS = 1_000;
/** How often slices of dead replicas are looked for, in milliseconds. */
const SWEEP_MS = 2_000;
/** A window is forgotten so long after its end, and after it was last used, in milliseconds. */
const PAST_MS = 7_200_000;
/** A statement whose answer was lost has ended by then, in milliseconds. */
const DOUBT_MS = 120_000;
/** The longest pause that a client is asked for, in milliseconds. */
const MOST_RETRY_MS = 2_678_400_000;

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

/** What a task needs of one window. */
interface Need {
  readonly rule: BudgetRule;
  readonly limit: BudgetLimit;
  readonly limitKey: LimitKey;
  readonly endMs: number;
  readonly units: number;
}

/** How long it is waited for what other replicas do not need, of all windows together. */
interface Patience {
  /** By the clock that counts milliseconds. */
  readonly until: number;
  readonly signal: AbortSignal;
}

/** A task of which nobody knows whether it is stored. */
interface Doubt {
  readonly workspaceId: string;
  readonly taskId: string;
  readonly sinceMs: number;
  giveBack(): void;
}

export function createBudgetHolds(deps: BudgetHoldsDeps): BudgetHolds {
  const { repository, reads, runtime, log, replicaId } = deps;
  const clock = new WindowClock();
  const ends = new WindowEnds();
  const indexes = new Map<string, { rules: readonly BudgetRule[]; index: BudgetIndex }>();
  const known = new Map<string, { use: WindowUse; atMs: number }>();
  let doubts: Doubt[] = [];
  let waiters = Promise.withResolvers<void>();
  let sweptMs = Number.NEGATIVE_INFINITY;

  const allotments = createAllotments({
    repository: {
      settle: repository.settle,
      async sweep(graceMs) {
        if (runtime.elapsedMs() - sweptMs < SWEEP_MS) return;
        sweptMs = runtime.elapsedMs();
        await resolveDoubts();
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

  // --- what a task needs

  function needsOf(rules: readonly BudgetRule[], spender: Spender, { context, route }: Spending): Need[] {
    const { workspaceId } = context;
    const now = runtime.now().getTime();
    const cost = costOf(route);
    return rules.flatMap((rule) => {
      const share = shareOf(rule, spender);
      return rule.limits.map((limit): Need => {
        const { period, unit } = limit;
        const { startMs, endMs } = clock.at(period, rule.timeZone, now);
        const limitKey = { workspaceId, key: budgetKey(rule.id, startMs, period, unit, share) };
        return { rule, limit, limitKey, endMs, units: unit === "MONEY" ? cost.reserved : 1 };
      });
    });
  }

  async function hold(spending: Spending, rules: readonly BudgetRule[], spender: Spender): Promise<Reservation> {
    const { declared } = costOf(spending.route);
    const owner = replicaId();
    const drawn = new Set<string>();
    const taken: { slice: Slice; units: number }[] = [];
    const giveBack = () => {
      for (const { slice, units } of taken.splice(0)) slice.giveBack(units);
    };
    const holds: BudgetHold[] = [];
    const patience = { until: runtime.elapsedMs() + WAIT_MS, signal: spending.context.signal };
    try {
      for (const need of needsOf(rules, spender, spending)) {
        const { rule, limit, units } = need;
        const held = parentHold(spending.parent, need);
        if (held && Math.max(1, units) > held.units)
          throw parentExceeded(rule.id, spending.parent!.taskId, held.units, units);
        if (held && units > 0) drawn.add(held.key);
        else if (!held) taken.push({ slice: await obtain(need, patience), units });
        holds.push({
          key: held?.key ?? need.limitKey.key,
          unit: limit.unit,
          units,
          replicaId: held?.replicaId ?? owner,
          declared: limit.unit === "MONEY" ? declared : 1,
          drawn: 0,
          chargesFailure: rule.onFailure === "CHARGE",
        });
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
    const { taskId, context } = spending;
    return {
      holds,
      drawn,
      release: giveBack,
      keep: () => void taken.splice(0),
      doubt() {
        const mine = taken.splice(0);
        if (mine.length === 0) return;
        doubts.push({
          workspaceId: context.workspaceId,
          taskId,
          sinceMs: runtime.elapsedMs(),
          giveBack: () => {
            for (const { slice, units } of mine) slice.giveBack(units);
          },
        });
      },
    };
  }

  /**
   * Takes what is needed. Throws BUDGET_EXCEEDED where there is not so much. Of a task whose cost nobody knows yet nothing is held, but
   * there must be something left to charge it to.
   */
  async function obtain(need: Need, patience: Patience): Promise<Slice> {
    const { rule, limit, limitKey } = need;
    const units = Math.max(1, need.units);
    if (units > limit.units) throw beyondBudget({ id: rule.id, unit: limit.unit, limit: limit.units }, need.units);
    const slice = allotments.slice(limitKey, limit.units);
    if (!slice.take(units)) await wait(need, slice, units, patience);
    if (need.units === 0) slice.giveBack(units);
    return slice;
  }

  /** The same where it cannot be taken at once. */
  async function wait(need: Need, slice: Slice, units: number, { until, signal }: Patience): Promise<void> {
    const last = known.get(nameOf(need.limitKey));
    if (slice.isExhausted && last && runtime.elapsedMs() - last.atMs < KNOWN_MS) throw refused(need, last.use);
    for (let asked = 0; ; asked++) {
      signal.throwIfAborted();
      const { promise: room } = waiters;
      if (await slice.ask(units)) return;
      const { use, elsewhere } = await useOf(need);
      const leftMs = until - runtime.elapsedMs();
      if ((!isFree(use, units) && slice.idle + elsewhere < units) || leftMs <= 0) throw refused(need, use);
      // Tasks may have given back since the database was asked. What other replicas do not need they give back, now that they
      // hear that it is wanted.
      slice.hope();
      if (asked > 0) await roomWithin(leftMs, room, signal);
    }
  }

  async function useOf({ rule, limit, limitKey, endMs }: Need): Promise<{ use: WindowUse; elsewhere: number }> {
    const { used, reserved, elsewhere } = await reads.standing(limitKey, replicaId());
    const use = {
      budgetId: rule.id,
      unit: limit.unit,
      limit: limit.units,
      used,
      reserved,
      resetAt: new Date(endMs),
    };
    known.set(nameOf(limitKey), { use, atMs: runtime.elapsedMs() });
    return { use, elsewhere };
  }

  function refused({ units, endMs }: Need, use: WindowUse) {
    const leftMs = Math.max(1, endMs - runtime.now().getTime());
    // What is reserved may be released any moment; what is used is gone until the next window.
    const retryMs = use.limit - use.used >= Math.max(1, units) ? 1_000 : leftMs;
    return budgetExceeded(use, units, Math.min(retryMs, MOST_RETRY_MS));
  }

  /** What nobody knew to be stored, and is not by now, will not be. */
  async function resolveDoubts(): Promise<void> {
    const now = runtime.elapsedMs();
    for (const [name, { atMs }] of known) if (now - atMs >= KNOWN_MS) known.delete(name);
    const due = doubts.filter(({ sinceMs }) => now - sinceMs >= DOUBT_MS);
    if (due.length === 0) return;
    const found = new Set((await deps.store.lastNumbers(due)).map(({ taskId }) => taskId));
    doubts = doubts.filter((doubt) => !due.includes(doubt));
    for (const doubt of due) if (!found.has(doubt.taskId)) doubt.giveBack();
  }

  return {
    endOf,
    indexOf,
    reserve(spending) {
      const { context, route, isAnswered } = spending;
      const index = isAnswered ? undefined : indexOf(context.workspaceId);
      if (!index) return undefined;
      const { agentId } = route.agent;
      const spender = { agentId, capabilityId: route.capability?.capabilityId, principalId: context.principal.id };
      const rules = index.matching(spender);
      return rules.length === 0 ? undefined : hold(spending, rules, spender);
    },

    ...bills,

    settled({ workspaceId, holds = [] }) {
      for (const { key } of holds) {
        known.delete(nameOf({ workspaceId, key }));
        allotments.find({ workspaceId, key })?.hope();
      }
    },

    heed: allotments.heed,
    reset() {
      doubts = [];
      allotments.reset();
    },
    start: allotments.start,
    stop: allotments.stop,
  };
}

/** What is reserved for a task, and what is charged where nobody reports a cost, in millionths. */
function costOf({ capability, wishes }: Spending["route"]): { reserved: number; declared: number } {
  const declared = capability?.costMicros ?? 0;
  // Who declares no cost may report one: as much as its client allows.
  return { reserved: declared > 0 ? declared : (wishes.maxCostMicros ?? 0), declared };
}

/** What the parent holds of the same budget's money, if it ever held any: a task on its behalf draws on that. */
const parentHold = (parent: DelegatingTask | undefined, { limit, limitKey }: Need): BudgetHold | undefined =>
  limit.unit !== "MONEY"
    ? undefined
    : parent?.holds.find(({ key, units, drawn }) => units + drawn > 0 && lineOf(key) === lineOf(limitKey.key));

const nameOf = ({ workspaceId, key }: LimitKey): string => `${workspaceId} ${key}`;
