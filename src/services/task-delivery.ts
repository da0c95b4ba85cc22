/** Brings messages to the agent of one task: what travels with them, and with which of the agent's ids. */
import type { Message, StreamResponse } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { withTask } from "../domain/delegation-extension.ts";
import type { Delivery, TaskHeader } from "../domain/task-log.ts";
import type { TaskStore } from "../store/task-store.ts";
import type { AgentClient, AgentSendOptions } from "./agent-port.ts";
import { whenDatabaseAnswers } from "./database-away.ts";
import type { Runtime } from "./runtime.ts";

export interface DeliveryDeps {
  readonly store: TaskStore;
  readonly runtime: Runtime;
  /** Longest silence of an agent, in milliseconds. */
  readonly agentTimeoutMs: number;
  /** Whether the agent is told which task it has, so that it can send others on its behalf. */
  readonly delegates?: boolean;
}

/** Where the task is looked at when something is delivered: its agent, and the agent's ids. */
export interface Delivered {
  readonly image: { readonly header: TaskHeader };
}

export class TaskDelivery {
  readonly #deps: DeliveryDeps;
  readonly #writer: Delivered;
  readonly #client: AgentClient;
  readonly #signal: AbortSignal;

  constructor(deps: DeliveryDeps, writer: Delivered, client: AgentClient, signal: AbortSignal) {
    this.#deps = deps;
    this.#writer = writer;
    this.#client = client;
    this.#signal = signal;
  }

  /** Sends a message and streams what the agent answers. */
  async stream(message: Message, delivery: Delivery): Promise<AsyncIterable<StreamResponse>> {
    return this.#client.sendStream(await this.#upstream(message, delivery), this.#options(delivery));
  }

  /** Sends a message, and waits for what comes of it. */
  async send(message: Message, delivery: Delivery): Promise<StreamResponse> {
    return this.#client.send(await this.#upstream(message, delivery), this.#options(delivery));
  }

  /**
   * Sends a message, and asks the agent to answer at once. What is known by name can be canceled, continued and taken up
   * after a crash, where a call that blocks until the end could not. A message that answers a question is not sent so: an
   * agent that returned at once would show the task as it stood, with the question.
   */
  async sendAndReturn(message: Message, delivery: Delivery): Promise<StreamResponse> {
    return this.#client.send(await this.#upstream(message, delivery), {
      ...this.#options(delivery),
      returnImmediately: true,
    });
  }

  /** The message as the client sent it, with the agent's own ids in place of ours. */
  async #upstream(message: Message, { references: seen = [] }: Delivery): Promise<Message> {
    const { workspaceId, agentId, upstreamTaskId, upstreamContextId } = this.#writer.image.header;
    const { referenceTaskIds } = message;
    const ids = { taskId: upstreamTaskId ?? "", contextId: upstreamContextId ?? "" };
    if (referenceTaskIds.length === 0) return { ...message, ...ids };
    const { store, runtime } = this.#deps;
    const references = await whenDatabaseAnswers(runtime, this.#signal, () =>
      store.mapTaskIds(workspaceId, agentId, seen, "to-upstream"),
    );
    return { ...message, ...ids, referenceTaskIds: referenceTaskIds.map((id) => references.get(id) ?? id) };
  }

  #options(delivery: Delivery): AgentSendOptions {
    const { deadlineAt, taskId } = this.#writer.image.header;
    const { agentTimeoutMs, delegates } = this.#deps;
    const told = delegates && { metadata: withTask(delivery.metadata, taskId) };
    const { references: _, ...said } = delivery;
    return { ...said, ...told, signal: this.#signal, timeoutMs: agentTimeoutMs, ...(deadlineAt && { deadlineAt }) };
  }
}
