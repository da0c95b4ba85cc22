/** A small A2A service for tests of transports. */
import { once } from "node:events";
import { create, type DescService, type Message } from "@bufbuild/protobuf";
import { EmptySchema, timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { HandlerContext } from "@connectrpc/connect";
import {
  A2AService,
  AgentCardSchema,
  type CancelTaskRequest,
  type GetTaskPushNotificationConfigRequest,
  type GetTaskRequest,
  ListTaskPushNotificationConfigsResponseSchema,
  type ListTasksRequest,
  ListTasksResponseSchema,
  type SendMessageRequest,
  SendMessageResponseSchema,
  StreamResponseSchema,
  type SubscribeToTaskRequest,
  type TaskPushNotificationConfig,
  TaskPushNotificationConfigSchema,
  TaskSchema,
  TaskState,
} from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { AgentSchema, RegistryService, type UpdateAgentRequest } from "../../gen/signalbox/v1/registry_pb.ts";
import { TaskService } from "../../gen/signalbox/v1/task_pb.ts";
import { SignalboxError, taskNotFound } from "../../src/domain/errors.ts";
import { type BoundRpc, type BoundRpcs, setSequence } from "../../src/transport/rpc/bound.ts";

export interface SeenCall {
  method: string;
  request: Message;
  context: HandlerContext;
}

/** A task "t1" that anyone may read, a task "endless" whose stream lasts as long as its watcher, and errors on demand. */
export class MemoryService {
  readonly seen: SeenCall[] = [];
  /** Resolves when the stream of "endless" has been left. */
  readonly endlessLeft = Promise.withResolvers<unknown>();
  /** Resolves when a message "wait" is waiting, with its signal. */
  readonly waiting = Promise.withResolvers<AbortSignal>();

  get last(): SeenCall {
    return this.seen.at(-1)!;
  }

  task(id: string) {
    return create(TaskSchema, {
      id,
      contextId: "c1",
      status: { state: TaskState.WORKING, timestamp: timestampFromMs(1_700_000_000_123) },
    });
  }

  statusUpdate(taskId: string, state: TaskState, sequence: number) {
    const value = { taskId, contextId: "c1", status: { state } };
    return setSequence(create(StreamResponseSchema, { payload: { case: "statusUpdate", value } }), sequence);
  }

  async sendMessage(request: SendMessageRequest, context: HandlerContext) {
    const text = request.message?.parts[0]?.content.value;
    if (text === "crash") throw new TypeError("a secret");
    if (text === "busy") {
      throw new SignalboxError({
        code: "RESOURCE_EXHAUSTED",
        reason: "RATE_LIMITED",
        message: "Slow down.",
        retryAfterMs: 1500,
      });
    }
    if (text === "wait") {
      this.waiting.resolve(context.signal);
      await once(context.signal, "abort");
      throw context.signal.reason;
    }
    context.responseHeader.set("a2a-extensions", "urn:x");
    return create(SendMessageResponseSchema, { payload: { case: "task", value: this.task("t1") } });
  }

  async *sendStreamingMessage(request: SendMessageRequest) {
    const text = request.message?.parts[0]?.content.value;
    if (text === "none") return;
    if (text === "first") throw taskNotFound("t1");
    yield setSequence(create(StreamResponseSchema, { payload: { case: "task", value: this.task("t1") } }), 1);
    if (text === "second") throw taskNotFound("t1");
    if (text === "crash") throw new TypeError("a secret");
    yield this.statusUpdate("t1", TaskState.COMPLETED, 2);
  }

  async *subscribeToTask(request: SubscribeToTaskRequest, context: HandlerContext) {
    if (request.id !== "endless" && request.id !== "t1" && request.id !== "flood") throw taskNotFound(request.id);
    yield setSequence(create(StreamResponseSchema, { payload: { case: "task", value: this.task(request.id) } }), 7);
    if (request.id === "flood") {
      const text = "x".repeat(64 * 1024);
      try {
        for (this.flooded = 0; this.flooded < 1000; this.flooded++) {
          const value = { messageId: "m", parts: [{ content: { case: "text", value: text } as const }] };
          yield create(StreamResponseSchema, { payload: { case: "message", value } });
        }
      } finally {
        this.endlessLeft.resolve(undefined);
      }
    }
    if (request.id === "endless") {
      await once(context.signal, "abort");
      this.endlessLeft.resolve(context.signal.reason);
    }
  }

  /** How far the stream of "flood" came. */
  flooded = 0;

  async getTask(request: GetTaskRequest) {
    if (request.id === "missing") throw taskNotFound(request.id);
    return this.task(request.id);
  }

  async listTasks(_: ListTasksRequest) {
    return create(ListTasksResponseSchema, {});
  }

  async cancelTask(request: CancelTaskRequest) {
    return this.task(request.id);
  }

  async createTaskPushNotificationConfig(request: TaskPushNotificationConfig) {
    return request;
  }

  async getTaskPushNotificationConfig(request: GetTaskPushNotificationConfigRequest) {
    return create(TaskPushNotificationConfigSchema, { id: request.id, taskId: request.taskId });
  }

  async listTaskPushNotificationConfigs() {
    return create(ListTaskPushNotificationConfigsResponseSchema, {});
  }

  async deleteTaskPushNotificationConfig() {
    return create(EmptySchema, {});
  }

  async getExtendedAgentCard() {
    return create(AgentCardSchema, { name: "n" });
  }

  async updateAgent(request: UpdateAgentRequest) {
    return request.agent ?? create(AgentSchema);
  }

  /** Every RPC of all services; those that are not written above answer with an empty message. */
  rpcs(): BoundRpcs {
    return new Map([...this.#bind(A2AService), ...this.#bind(RegistryService), ...this.#bind(TaskService)]);
  }

  #bind(service: DescService): [string, BoundRpc][] {
    type Impl = (request: Message, context: HandlerContext) => unknown;
    const impls = this as unknown as Record<string, Impl | undefined>;
    return service.methods.map((method) => {
      const call = (request: Message, context: HandlerContext): unknown => {
        this.seen.push({ method: method.name, request, context });
        return impls[method.localName]?.call(this, request, context) ?? create(method.output);
      };
      const rpc: BoundRpc = {
        service,
        method,
        unary: async (request, context) => (await call(request, context)) as Message,
        stream: (request, context) => call(request as Message, context) as AsyncIterable<Message>,
      };
      return [`${service.typeName}/${method.name}`, rpc];
    });
  }
}
