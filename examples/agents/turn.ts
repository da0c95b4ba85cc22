/** One turn of an agent: short words for the events that @a2a-js/sdk wants spelled out. */
import { randomUUID } from "node:crypto";
import { type Message, Role, TaskState } from "@a2a-js/sdk";
import { AgentEvent, type ExecutionEventBus, type RequestContext } from "@a2a-js/sdk/server";

export interface Turn {
  /** What the user said. */
  readonly said: string;
  readonly taskId: string;
  /** Whether the task has been worked on before. */
  readonly resumed: boolean;
  /** Reports a state, with words to the user if there are any. */
  report(state: TaskState, words?: string): void;
  /** Hands out a piece of an artifact; the pieces of one id are put together. */
  piece(artifact: { id: string; name: string }, text: string, place: { first: boolean; last: boolean }): void;
}

export function beginTurn({ userMessage, taskId, contextId, task }: RequestContext, bus: ExecutionEventBus): Turn {
  const status = (state: TaskState, words?: string) => ({
    state,
    message: words === undefined ? undefined : agentMessage(words, taskId, contextId),
    timestamp: new Date().toISOString(),
  });
  // Every turn begins with the task.
  bus.publish(
    AgentEvent.task({
      ...(task ?? { id: taskId, contextId, artifacts: [], history: [userMessage], metadata: undefined }),
      status: status(TaskState.TASK_STATE_WORKING),
    }),
  );
  return {
    said: textOf(userMessage),
    taskId,
    resumed: task !== undefined,
    report: (state, words) =>
      bus.publish(AgentEvent.statusUpdate({ taskId, contextId, status: status(state, words), metadata: undefined })),
    piece: ({ id, name }, text, { first, last }) =>
      bus.publish(
        AgentEvent.artifactUpdate({
          taskId,
          contextId,
          artifact: {
            artifactId: id,
            name,
            description: "",
            parts: [textPart(text)],
            metadata: undefined,
            extensions: [],
          },
          append: !first,
          lastChunk: last,
          metadata: undefined,
        }),
      ),
  };
}

/** Tells that a task is canceled. */
export function reportCanceled(taskId: string, contextId: string, bus: ExecutionEventBus): void {
  const status = { state: TaskState.TASK_STATE_CANCELED, message: undefined, timestamp: new Date().toISOString() };
  bus.publish(AgentEvent.statusUpdate({ taskId, contextId, status, metadata: undefined }));
}

function agentMessage(text: string, taskId: string, contextId: string): Message {
  return {
    messageId: randomUUID(),
    role: Role.ROLE_AGENT,
    parts: [textPart(text)],
    taskId,
    contextId,
    metadata: undefined,
    extensions: [],
    referenceTaskIds: [],
  };
}

const textPart = (text: string) => ({
  content: { $case: "text" as const, value: text },
  metadata: undefined,
  filename: "",
  mediaType: "text/plain",
});

function textOf(message: Message): string {
  const texts = message.parts.flatMap(({ content }) => (content?.$case === "text" ? [content.value] : []));
  return texts.join(" ").trim();
}
