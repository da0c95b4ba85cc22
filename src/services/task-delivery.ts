/** Brings messages to the agent of one task: what travels with them, and with which of the agent's ids. */
import { create } from "@bufbuild/protobuf";
import { type Message, MessageSchema, type StreamResponse } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import type { Delivery } from "../domain/task-log.ts";
import type { TaskStore } from "../store/task-store.ts";
import type { AgentClient, AgentSendOptions } from "./agent-port.ts";
import type { Runtime } from "./runtime.ts";
import { type TaskWriter, whenDatabaseAnswers } from "./task-writer.ts";

export interface TaskDelivery {
  /** Sends a message and streams what the agent answers. */
  stream(message: Message, delivery: Delivery): Promise<AsyncIterable<StreamResponse>>;
  /** Sends a message, and waits for what comes of it. */
  send(message: Message, delivery: Delivery): Promise<StreamResponse>;
  /**
   * Sends a message, and asks the agent to answer at once. What is known by name can be canceled, continued and taken up
   * after a crash, where a call that blocks until the end could not. A message that answers a question is not sent so: an
   * agent that returned at once would show the task as it stood, with the question.
   */
  sendAndReturn(message: Message, delivery: Delivery): Promise<StreamResponse>;
}

export function createTaskDelivery(
  { store, runtime, agentTimeoutMs }: { store: TaskStore; runtime: Runtime; agentTimeoutMs: number },
  writer: TaskWriter,
  client: AgentClient,
  signal: AbortSignal,
): TaskDelivery {
  /** The message as the client sent it, with the agent's own ids in place of ours. */
  async function upstream(message: Message): Promise<Message> {
    const { workspaceId, agentId, upstreamTaskId, upstreamContextId } = writer.image.header;
    const { referenceTaskIds } = message;
    const references =
      referenceTaskIds.length === 0
        ? undefined
        : await whenDatabaseAnswers(runtime, signal, () =>
            store.mapTaskIds(workspaceId, agentId, referenceTaskIds, "to-upstream"),
          );
    return create(MessageSchema, {
      ...message,
      taskId: upstreamTaskId ?? "",
      contextId: upstreamContextId ?? "",
      referenceTaskIds: referenceTaskIds.map((id) => references?.get(id) ?? id),
    });
  }

  function options(delivery: Delivery): AgentSendOptions {
    const { deadlineAt } = writer.image.header;
    return { ...delivery, signal, timeoutMs: agentTimeoutMs, ...(deadlineAt && { deadlineAt }) };
  }

  return {
    stream: async (message, delivery) => client.sendStream(await upstream(message), options(delivery)),
    send: async (message, delivery) => client.send(await upstream(message), options(delivery)),
    sendAndReturn: async (message, delivery) =>
      client.send(await upstream(message), { ...options(delivery), returnImmediately: true }),
  };
}
