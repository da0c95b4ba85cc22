/** The place of budgets in the way of a request: what a task may cost is held before it begins, and settled when it ends. */
import type { BudgetHold, TaskParent } from "../domain/budget/hold.ts";
import type { RequestContext } from "./request-context.ts";
import type { Route } from "./router.ts";

/** A task that is about to begin. */
export interface Spending {
  readonly context: RequestContext;
  readonly route: Route;
  readonly taskId: string;
  readonly parent: TaskParent | undefined;
  /** Whether an earlier result answers it: no agent is paid. */
  readonly isAnswered: boolean;
}

/** What was reserved for a task. */
export interface Reservation {
  /** To be stored with the task, in the same write. */
  readonly holds: readonly BudgetHold[];
  /** Gives everything back: the task was not stored. */
  release(): void;
}

export interface Budgets {
  /**
   * Reserves what a task may cost, of every budget that it falls under. Undefined where none is concerned.
   *
   * @throws SignalboxError BUDGET_EXCEEDED, with the limit, its use and the time of its reset.
   */
  reserve(spending: Spending): Promise<Reservation | undefined> | undefined;
}

/** Nothing is limited. */
export const noBudgets: Budgets = { reserve: () => undefined };
