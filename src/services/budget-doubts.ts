/** What was taken of budgets for tasks of which nobody knows whether they are stored. It is given back where they are not. */
import type { TaskStore } from "../store/task-store.ts";
import type { Slice } from "./limit-slice.ts";
import type { Runtime } from "./runtime.ts";

/** A statement whose answer was lost has ended by then, in milliseconds. */
const DOUBT_MS = 120_000;

/** Units of this replica's slice of a window. */
export interface TakenUnits {
  readonly slice: Slice;
  readonly units: number;
}

/** A task that may be stored, and what was taken for it. */
export interface DoubtfulTask {
  readonly workspaceId: string;
  readonly taskId: string;
  readonly taken: readonly TakenUnits[];
}

export interface BudgetDoubts {
  add(task: DoubtfulTask): void;
  /** Looks for the tasks that must be stored by now, if they ever will be. Rejects as the database does. */
  resolve(): Promise<void>;
  /** Forgets them all: what was taken is lost with its slices. */
  reset(): void;
}

export function createBudgetDoubts({
  store,
  runtime,
}: {
  store: Pick<TaskStore, "lastNumbers">;
  runtime: Pick<Runtime, "elapsedMs">;
}): BudgetDoubts {
  let doubts: (DoubtfulTask & { readonly sinceMs: number })[] = [];
  return {
    add(task) {
      doubts.push({ ...task, sinceMs: runtime.elapsedMs() });
    },
    async resolve() {
      const now = runtime.elapsedMs();
      const due = doubts.filter(({ sinceMs }) => now - sinceMs >= DOUBT_MS);
      if (due.length === 0) return;
      const found = new Set((await store.lastNumbers(due)).map(({ taskId }) => taskId));
      doubts = doubts.filter((doubt) => !due.includes(doubt));
      for (const { taskId, taken } of due) {
        if (!found.has(taskId)) for (const { slice, units } of taken) slice.giveBack(units);
      }
    },
    reset() {
      doubts = [];
    },
  };
}
