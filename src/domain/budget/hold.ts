/** What a task holds of budgets until it ends, and what is charged of it then. Stored with the task, so that whoever ends it can settle. Pure. */
import type { BudgetUnit } from "./budget-rule.ts";

/** Beside the units of budgets there are tasks that have not ended, of which a workspace may have so many: their end gives all back. */
export type HoldUnit = BudgetUnit | "IN_FLIGHT";

export interface BudgetHold {
  /** The window of a budget, or the quota, as the key of its limit. */
  readonly key: string;
  readonly unit: HoldUnit;
  /** Millionths of the currency, or tasks. Whole, not negative. What was drawn from it is not among them any more. */
  readonly units: number;
  /** The replica of whose slice it was taken. */
  readonly replicaId: string;
  /** What is charged where nobody reports a cost: at most what the task held at first. */
  readonly declared: number;
  /** Units that tasks sent on this one's behalf have drawn from it. */
  readonly drawn: number;
  /** Whether a task that does not complete is charged as one that does. */
  readonly chargesFailure: boolean;
}

/** The task on whose behalf an agent sends another one. */
export interface TaskParent {
  readonly taskId: string;
  /** The agent that has it, which is who delegates. */
  readonly agentId: string;
  /** How many tasks stand above the new one: 1 where the parent has no parent. */
  readonly depth: number;
}

/** The same with what the new task has from it. */
export interface DelegatingTask extends TaskParent {
  /** When it fails if it has not ended: no task on its behalf lives longer. */
  readonly deadlineAt: Date | undefined;
  /** What it holds of budgets: tasks on its behalf draw on it. */
  readonly holds: readonly BudgetHold[];
}

/** How a task ended. */
export interface TaskOutcome {
  readonly completed: boolean;
  /** What its agent says that it cost, with all that was done on its behalf, in millionths; undefined where it says nothing. */
  readonly costMicros: number | undefined;
}

/**
 * The units of a hold that are used when its task ends; the rest goes back to the budget. A reported cost is charged whatever
 * the outcome was. What was drawn has its own tasks to be charged for. The append statement reckons the same.
 */
export function chargeOf(hold: BudgetHold, { completed, costMicros }: TaskOutcome): number {
  if (hold.unit === "IN_FLIGHT") return 0;
  const isCharged = completed || hold.chargesFailure;
  if (hold.unit === "TASKS") return isCharged ? hold.units : 0;
  const cost = costMicros ?? (isCharged ? hold.declared : 0);
  return Math.min(hold.units, Math.max(0, cost - hold.drawn));
}

/** The millionths that a task costs beyond what it held, before anything was drawn from it. */
export const beyondHold = (hold: BudgetHold, { costMicros = 0 }: TaskOutcome): number =>
  hold.unit === "MONEY" ? Math.max(0, costMicros - hold.units - hold.drawn) : 0;

/** What is left of a hold from which units are drawn; undefined when it has not so many. */
export const drawFrom = (hold: BudgetHold, units: number): BudgetHold | undefined =>
  units > hold.units ? undefined : { ...hold, units: hold.units - units, drawn: hold.drawn + units };
