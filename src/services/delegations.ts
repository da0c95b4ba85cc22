/** Tasks that agents send on behalf of tasks that they have. */
import type { SendMessageRequest } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { parentEnded } from "../domain/budget/budget-errors.ts";
import type { DelegatingTask } from "../domain/budget/hold.ts";
import { MAX_DELEGATION_DEPTH, parentNamed } from "../domain/delegation-extension.ts";
import { taskNotFound, unsupportedOperation } from "../domain/errors.ts";
import { viewerOf } from "../domain/identity/visibility.ts";
import { refuse } from "../domain/refusal.ts";
import { isFinal } from "../domain/task-state.ts";
import type { TaskStore } from "../store/task-store.ts";
import type { RequestContext } from "./request-context.ts";

export interface Delegations {
  /**
   * The task on whose behalf this one is sent, by the delegation extension; undefined where it names none.
   *
   * @throws SignalboxError INVALID_ARGUMENT for what is no id; TASK_NOT_FOUND for a parent that there is not, or that is neither the caller's to see nor with the agent that it is,
   * UNSUPPORTED_OPERATION for one that has ended, or above which there are as many tasks as there may be.
   */
  parentOf(context: RequestContext, request: SendMessageRequest): Promise<DelegatingTask | undefined> | undefined;
}

/**
 * A task is stored after its parent, and keeps it: none is its own ancestor. A parent may still be hidden from Get, because its first
 * request waits for it: whoever knows its id, which cannot be guessed, was told by the router.
 */
export function createDelegations(store: Pick<TaskStore, "header">): Delegations {
  async function find({ workspaceId, principal }: RequestContext, taskId: string): Promise<DelegatingTask> {
    const stored = taskId.includes("\0") ? undefined : await store.header(workspaceId, taskId, viewerOf(principal));
    const isWith = principal.agentId !== undefined && principal.agentId === stored?.header.agentId;
    if (!stored || (!stored.access && !isWith)) throw taskNotFound(taskId.replaceAll("\0", ""));
    const { agentId, parent, deadlineAt, holds = [] } = stored.header;
    if (isFinal(stored.state)) throw parentEnded(taskId);
    const depth = (parent?.depth ?? 0) + 1;
    if (depth > MAX_DELEGATION_DEPTH) throw tooDeep(taskId);
    return { taskId, agentId, depth, deadlineAt, holds };
  }

  return {
    parentOf(context, { metadata }) {
      const named = parentNamed(metadata);
      if (named === undefined) return undefined;
      if (typeof named !== "string") return void refuse(named);
      return find(context, named);
    },
  };
}

const tooDeep = (taskId: string) =>
  unsupportedOperation(
    `Task "${taskId}" is ${MAX_DELEGATION_DEPTH} tasks below the one that began it all: no task can be sent on its behalf.`,
    { taskId },
  );
