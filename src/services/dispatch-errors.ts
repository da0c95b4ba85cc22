/** Why the dispatcher refuses. */
import { SignalboxError, unsupportedOperation } from "../domain/errors.ts";
import { stateOf, type TaskImage } from "../domain/task-log.ts";
import { stateName } from "../domain/task-state.ts";

/** The server is about to stop; another replica, or this one after its restart, goes on. */
export const draining = (): SignalboxError =>
  new SignalboxError({
    code: "UNAVAILABLE",
    reason: "DRAINING",
    message: "This server is stopping. Its tasks go on; call again, or subscribe to the task again.",
    retryAfterMs: 1000,
  });

export const queueIsFull = (): SignalboxError =>
  new SignalboxError({
    code: "RESOURCE_EXHAUSTED",
    reason: "QUEUE_FULL",
    message:
      "All servers are busy, and as many tasks wait for one as may (limits.queued-tasks). Nothing was stored; try again later.",
    retryAfterMs: 1000,
  });

/** As many tasks wait for one agent as may. `retryAfterMs`: when there may be room. */
export const agentQueueIsFull = (agentId: string, retryAfterMs: number): SignalboxError =>
  new SignalboxError({
    code: "RESOURCE_EXHAUSTED",
    reason: "QUEUE_FULL",
    message: `Agent "${agentId}" works on as many tasks as it may, and as many wait for it as may (limits.agent-queue). Nothing was stored; try again later.`,
    metadata: { agentId },
    retryAfterMs,
  });

export const agentUnavailable = (agentId: string, cause: Error): SignalboxError =>
  new SignalboxError({
    code: "UNAVAILABLE",
    reason: "AGENT_UNAVAILABLE",
    message: `Agent "${agentId}" cannot be called: ${cause.message}`,
    metadata: { agentId },
    cause,
  });

/** A message for a task that no agent has yet: there is nobody to hand it to. */
export const notBegunYet = (taskId: string): SignalboxError =>
  new SignalboxError({
    code: "UNAVAILABLE",
    reason: "TASK_NOT_BEGUN",
    message: `Task "${taskId}" waits for its agent, which has not heard its first message yet. Nothing was stored; send this one again later.`,
    metadata: { taskId },
    retryAfterMs: 1000,
  });

/** The agent takes the messages of one task more slowly than they come. */
export const tooManyMessages = (taskId: string): SignalboxError =>
  new SignalboxError({
    code: "RESOURCE_EXHAUSTED",
    reason: "QUEUE_FULL",
    message: `Too many messages are on their way to the agent of task "${taskId}". Nothing was stored; send this one again later.`,
    metadata: { taskId },
    retryAfterMs: 1000,
  });

/** A message for a task that has ended (A2A specification, section 3.1.1). */
export function messageToEnded(image: TaskImage): SignalboxError {
  const { taskId, contextId } = image.header;
  return unsupportedOperation(
    `Task "${taskId}" is ${stateName(stateOf(image))} and takes no further message. Send the message without taskId, in context "${contextId}", to begin a new task.`,
    { taskId, contextId },
  );
}
