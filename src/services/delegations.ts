/** Tasks that agents send on behalf of tasks that they have. */
import type { SendMessageRequest } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import type { TaskParent } from "../domain/budget/hold.ts";
import type { RequestContext } from "./request-context.ts";

export interface Delegations {
  /**
   * The task on whose behalf this one is sent, by the delegation extension; undefined where it names none.
   *
   * @throws SignalboxError INVALID_ARGUMENT for what is no id, or too deep; TASK_NOT_FOUND for a parent that the caller may
   * not see, UNSUPPORTED_OPERATION for one that has ended.
   */
  parentOf(context: RequestContext, request: SendMessageRequest): Promise<TaskParent | undefined> | undefined;
}

/** Nobody delegates. */
export const noDelegations: Delegations = { parentOf: () => undefined };
