/** Takes what a task needs of a window: of this replica's slice, of what the database has left, and of what other replicas do not need. */
import { beyondBudget, budgetExceeded, isFree, type WindowUse } from "../domain/budget/budget-errors.ts";
import type { BudgetLimit, BudgetRule } from "../domain/budget/budget-rule.ts";
import type { LimitKey } from "../store/allotment-repository.ts";
import type { WindowStanding } from "../store/budget-usage-reads.ts";
import type { Slice } from "./limit-slice.ts";
import type { Runtime } from "./runtime.ts";

/** What was found about a window that is used up holds so long, in milliseconds. */
const KNOWN_MS = 1_000;
/** The longest pause that a client is asked for, in milliseconds. */
const MOST_RETRY_MS = 2_678_400_000;

/** What a task needs of one window. */
export interface Need {
  readonly rule: BudgetRule;
  readonly limit: BudgetLimit;
  readonly limitKey: LimitKey;
  readonly endMs: number;
  readonly units: number;
}

/** How long it is waited for what other replicas do not need, of all windows together. */
export interface Patience {
  /** By the clock that counts milliseconds. */
  readonly until: number;
  readonly signal: AbortSignal;
}

export interface BudgetObtainingDeps {
  /** This replica's slice of a window that has so many units. */
  slice(limit: LimitKey, units: number): Slice;
  /** What is used and held of a window, by all. */
  standing(limit: LimitKey): Promise<WindowStanding>;
  /** Resolves when there may be units where there were none. */
  room(): Promise<void>;
  roomWithin(ms: number, room: Promise<void>, signal: AbortSignal): Promise<void>;
  runtime: Pick<Runtime, "now" | "elapsedMs">;
}

export interface BudgetObtaining {
  /**
   * Takes what is needed, and tells of which slice: at once where this replica has so much. Of a task whose cost nobody knows yet nothing
   * is held, but there must be something left to charge it to.
   *
   * @throws SignalboxError BUDGET_EXCEEDED where there is not so much; what the signal says when it ends the wait.
   */
  obtain(need: Need, patience: Patience): Slice | Promise<Slice>;
  /** Something has come back to a window: what was found about it holds no longer. */
  forget(limit: LimitKey): void;
  /** Forgets what was found too long ago, to be called from time to time. */
  prune(): void;
}

export function createBudgetObtaining(deps: BudgetObtainingDeps): BudgetObtaining {
  const { runtime } = deps;
  const known = new Map<string, { use: WindowUse; atMs: number }>();

  function obtain(need: Need, patience: Patience): Slice | Promise<Slice> {
    const { rule, limit, limitKey } = need;
    const units = Math.max(1, need.units);
    if (units > limit.units) throw beyondBudget({ id: rule.id, unit: limit.unit, limit: limit.units }, need.units);
    const slice = deps.slice(limitKey, limit.units);
    const done = () => {
      if (need.units === 0) slice.giveBack(units);
      return slice;
    };
    return slice.take(units) ? done() : wait(need, slice, units, patience).then(done);
  }

  /** The same where it cannot be taken at once. */
  async function wait(need: Need, slice: Slice, units: number, { until, signal }: Patience): Promise<void> {
    const last = known.get(nameOf(need.limitKey));
    if (slice.isExhausted && last && runtime.elapsedMs() - last.atMs < KNOWN_MS) throw refused(need, last.use);
    for (let asked = 0; ; asked++) {
      signal.throwIfAborted();
      const room = deps.room();
      if (await slice.ask(units)) return;
      const { use, elsewhere } = await useOf(need);
      const leftMs = until - runtime.elapsedMs();
      if ((!isFree(use, units) && slice.idle + elsewhere < units) || leftMs <= 0) throw refused(need, use);
      // Tasks may have given back since the database was asked. What other replicas do not need they give back, now that they
      // hear that it is wanted.
      slice.hope();
      if (asked > 0) await deps.roomWithin(leftMs, room, signal);
    }
  }

  async function useOf({ rule, limit, limitKey, endMs }: Need): Promise<{ use: WindowUse; elsewhere: number }> {
    const { used, reserved, elsewhere } = await deps.standing(limitKey);
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

  return {
    obtain,
    forget(limitKey) {
      if (known.size > 0) known.delete(nameOf(limitKey));
    },
    prune() {
      const now = runtime.elapsedMs();
      for (const [name, { atMs }] of known) if (now - atMs >= KNOWN_MS) known.delete(name);
    },
  };
}

const nameOf = ({ workspaceId, key }: LimitKey): string => `${workspaceId} ${key}`;
