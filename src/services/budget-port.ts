/** The place of budgets in the way of a request: what a task may cost is held before it begins, and settled when it ends. */
import type { BudgetHold, DelegatingTask } from "../domain/budget/hold.ts";
import type { NewUpdate, TaskHeader, TaskImage } from "../domain/task-log.ts";
import type { AppendCost } from "../store/append-batch.ts";
import type { RequestContext } from "./request-context.ts";
import type { Route } from "./router.ts";

/** A task that is about to begin. */
export interface Spending {
  readonly context: RequestContext;
  readonly route: Pick<Route, "agent" | "capability" | "among" | "wishes">;
  readonly taskId: string;
  readonly parent: DelegatingTask | undefined;
  /** Whether an earlier result answers it: no agent is paid. */
  readonly isAnswered: boolean;
}

/** What was reserved for a task. The first of `release`, `keep` and `doubt` that is called counts; the others then do nothing. */
export interface Reservation {
  /** To be stored with the task, in the same write. */
  readonly holds: readonly BudgetHold[];
  /** Those of them that are drawn from the parent's, by their keys. */
  readonly drawn: ReadonlySet<string>;
  /** Gives everything back: the task was not stored. */
  release(): void;
  /** The task is stored: its end gives back what it does not use. */
  keep(): void;
  /** The task may be stored. It is looked for later, and what it does not hold is given back then. */
  doubt(): void;
}

/** What a task has cost, to be stored with its end. The first of `stored` and `cancel` that is called counts. */
export interface Bill extends AppendCost {
  /** It is stored: what was not to be had is told. */
  stored(): void;
  /** Gives back what it took beyond what was held: it was not stored. */
  cancel(): void;
}

export interface Budgets {
  /**
   * Reserves what a task may cost, of every budget that it falls under. Undefined where none is concerned.
   *
   * @throws SignalboxError BUDGET_EXCEEDED, with the limit, its use and the time of its reset. DATABASE_UNAVAILABLE where more would
   * have to be asked for. What the call's signal says when it ends the wait for other replicas.
   */
  reserve(spending: Spending): Promise<Reservation | undefined> | undefined;
  /**
   * What a task that holds of budgets has cost, by the rows that end it; undefined where nobody says so, and what was declared is
   * charged. What it cost beyond what it held is taken of what is left here.
   */
  billOf(image: TaskImage, updates: readonly NewUpdate[]): Bill | undefined;
  /** Whether a task that ends by these rows has cost more than it held: then it is `fullBillOf` that says what. */
  isOverspent(image: TaskImage, updates: readonly NewUpdate[]): boolean;
  /**
   * The same as `billOf`, with what the database and other replicas have left. Takes a moment, which `signal` ends, and never
   * rejects.
   */
  fullBillOf(image: TaskImage, updates: readonly NewUpdate[], signal: AbortSignal): Promise<Bill | undefined>;
  /** The end of a task that held of budgets is stored: what it did not use may be asked for. */
  settled(task: TaskHeader): void;
}
