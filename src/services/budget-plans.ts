/**
 * What a task needs of its budgets, and what it holds of them then. Most tasks are like one that came just before: they share what was
 * reckoned for that one, as long as its windows are open.
 */
import type { BudgetIndex } from "../domain/budget/budget-index.ts";
import { budgetKey, type Spender, shareOf } from "../domain/budget/budget-key.ts";
import { WindowClock } from "../domain/budget/budget-window.ts";
import type { BudgetHold } from "../domain/budget/hold.ts";
import type { Need } from "./budget-obtain.ts";

/** Plans that are known at once, at most. */
const MOST_KNOWN = 1_000;

/** What is reserved for a task, and what is charged where nobody reports a cost, in millionths. */
export interface TaskCost {
  readonly reserved: number;
  readonly declared: number;
}

export interface BudgetPlan {
  readonly needs: readonly Need[];
  /** One for each need, as held by whoever has no parent to draw on. */
  readonly holds: readonly BudgetHold[];
}

export interface BudgetPlans {
  /** `index` has the budgets of the workspace, `replicaId` is of whose slices is taken, `nowMs` the time since the epoch. */
  planOf(
    index: BudgetIndex,
    of: { workspaceId: string; spender: Spender; cost: TaskCost; replicaId: string; nowMs: number },
  ): BudgetPlan;
}

/** A plan, and from when on and until when it is the right one. */
interface Known extends BudgetPlan {
  readonly index: BudgetIndex;
  readonly startMs: number;
  readonly endMs: number;
  /** Of the clock, when it was reckoned. */
  readonly turns: number;
}

export function createBudgetPlans(): BudgetPlans {
  const clock = new WindowClock();
  const known = new Map<string, Known>();

  return {
    planOf(index, of) {
      const { workspaceId, spender, cost, replicaId, nowMs } = of;
      const { agentId, capabilityId = "", among, principalId } = spender;
      // A principal may hold any character, so it comes last.
      const offered = among === undefined ? "" : among.join();
      const name = `${workspaceId} ${replicaId} ${cost.reserved} ${cost.declared} ${agentId} ${capabilityId} ${offered} ${principalId}`;
      const last = known.get(name);
      const isOpen = last?.turns === clock.turns && nowMs >= last.startMs && nowMs < last.endMs;
      if (isOpen && last.index === index) return last;
      if (known.size >= MOST_KNOWN) known.clear();
      const made = make(index, of);
      known.set(name, made);
      return made;
    },
  };

  function make(
    index: BudgetIndex,
    { workspaceId, spender, cost, replicaId, nowMs }: Parameters<BudgetPlans["planOf"]>[1],
  ): Known {
    let [startMs, endMs] = [0, Number.POSITIVE_INFINITY];
    const needs: Need[] = [];
    const holds: BudgetHold[] = [];
    for (const rule of index.matching(spender)) {
      const share = shareOf(rule, spender);
      for (const limit of rule.limits) {
        const { period, unit } = limit;
        const isMoney = unit === "MONEY";
        const window = clock.at(period, rule.timeZone, nowMs);
        const limitKey = { workspaceId, key: budgetKey(rule.id, window.startMs, period, unit, share) };
        const units = isMoney ? cost.reserved : 1;
        const declared = isMoney ? cost.declared : 1;
        needs.push({ rule, limit, limitKey, endMs: window.endMs, units });
        const chargesFailure = rule.onFailure === "CHARGE";
        holds.push({ key: limitKey.key, unit, units, replicaId, declared, drawn: 0, chargesFailure });
        startMs = Math.max(startMs, Math.min(window.startMs, nowMs));
        endMs = Math.min(endMs, window.endMs);
      }
    }
    return { index, needs, holds, startMs, endMs, turns: clock.turns };
  }
}
