/** What a task holds of budgets until it ends. Stored with the task, so that whoever ends it can settle. */
export interface BudgetHold {
  /** The window of a budget, as the key of its limit. */
  readonly key: string;
  readonly unit: "MONEY" | "TASKS";
  /** Millionths of the currency, or tasks. Whole, not negative. */
  readonly units: number;
  /** The replica of whose slice it was taken. */
  readonly replicaId: string;
}

/** The task on whose behalf an agent sends another one. */
export interface TaskParent {
  readonly taskId: string;
  /** The agent that has it, which is who delegates. */
  readonly agentId: string;
  /** How many tasks stand above the new one: 1 where the parent has no parent. */
  readonly depth: number;
}
