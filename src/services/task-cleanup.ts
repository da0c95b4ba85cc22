/** Removes tasks that have ended: one, or all that ended long ago. */
import type { CleanupTasksRequest } from "../../gen/signalbox/v1/task_pb.ts";
import { invalidArgument, SignalboxError, taskNotFound } from "../domain/errors.ts";
import { viewerOf } from "../domain/identity/visibility.ts";
import { stateOf } from "../domain/task-log.ts";
import { isTerminal, stateName } from "../domain/task-state.ts";
import type { TaskRemoval } from "../store/task-removal.ts";
import type { RequestContext } from "./request-context.ts";
import type { Runtime } from "./runtime.ts";
import type { Tasks } from "./tasks.ts";
import { REMOVED, type UpdateHub } from "./update-hub.ts";

const DEFAULT_AGE_S = 3600n;
/** Tasks that one statement looks at. */
const BATCH = 500;

export interface TaskCleanup {
  /** Removes a task that the caller may change. Throws TaskNotFound, and TASK_NOT_ENDED for one that goes on. */
  remove(context: RequestContext, taskId: string): Promise<void>;
  /** Removes what ended long ago and the caller may change, batch by batch, and returns how many tasks that were. */
  removeOld(context: RequestContext, request: CleanupTasksRequest): Promise<number>;
}

export interface TaskCleanupDeps {
  tasks: Tasks;
  removal: TaskRemoval;
  hub: UpdateHub;
  runtime: Runtime;
}

export function createTaskCleanup({ tasks, removal, hub, runtime }: TaskCleanupDeps): TaskCleanup {
  return {
    async remove(context, taskId) {
      if (taskId === "") throw invalidArgument([{ field: "taskId", description: "is required: the id of a task" }]);
      const { workspaceId } = context;
      const state = stateOf(await tasks.changeable(context, "", taskId));
      if (!isTerminal(state)) throw taskNotEnded(taskId, stateName(state));
      if (!(await removal.remove(workspaceId, taskId, context.principal))) throw taskNotFound(taskId);
      hub.hint(workspaceId, taskId, REMOVED);
    },

    async removeOld({ workspaceId, signal, principal }, { olderThanSeconds = DEFAULT_AGE_S }) {
      if (olderThanSeconds < 0n) {
        throw invalidArgument([
          { field: "olderThanSeconds", description: "must not be negative; 0 is all that have ended" },
        ]);
      }
      const before = new Date(Math.max(0, runtime.now().getTime() - Number(olderThanSeconds) * 1000));
      const viewer = viewerOf(principal);
      let count = 0;
      for (let after: string | undefined = ""; after !== undefined; ) {
        signal.throwIfAborted();
        const { removed, last } = await removal.removeEnded(
          workspaceId,
          { before, after, limit: BATCH, viewer },
          principal,
        );
        for (const taskId of removed) hub.hint(workspaceId, taskId, REMOVED);
        count += removed.length;
        after = last;
      }
      return count;
    },
  };
}

const taskNotEnded = (taskId: string, state: string) =>
  new SignalboxError({
    code: "FAILED_PRECONDITION",
    reason: "TASK_NOT_ENDED",
    message: `Task "${taskId}" is ${state}: only a task that has ended can be removed. Cancel it first.`,
    metadata: { taskId },
  });
