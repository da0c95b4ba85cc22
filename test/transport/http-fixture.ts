/** What the tests of the JSON bindings share: a small A2A service, and both kinds of HTTP under one client. */
import { once } from "node:events";
import http from "node:http";
import http2 from "node:http2";
import type { AddressInfo } from "node:net";
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
import { SignalboxError, taskNotFound } from "../../src/domain/errors.ts";
import type { HttpRequest, HttpResponse } from "../../src/transport/http-exchange.ts";
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

  /** Every RPC of both services; those that are not written above answer with an empty message. */
  rpcs(): BoundRpcs {
    return new Map([...this.#bind(A2AService), ...this.#bind(RegistryService)]);
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

export interface Reply {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  text: string;
  // biome-ignore lint/suspicious/noExplicitAny: tests look into JSON as it comes
  json: any;
}

export interface Exchange {
  method?: string;
  path: string;
  headers?: Record<string, string>;
  body?: string | Uint8Array;
  /** Leave the body open after `body`. */
  unfinished?: boolean;
}

/** A request under way: its answer, and a way to leave. */
export interface Pending {
  reply: Promise<Reply>;
  /** Each piece of the answer's body as it comes. */
  chunks: AsyncIterable<string>;
  leave(): void;
}

export interface TestServer {
  port: number;
  start(exchange: Exchange): Pending;
  send(exchange: Exchange): Promise<Reply>;
  close(): Promise<void>;
}

export type Listener = (req: HttpRequest, res: HttpResponse) => void;

export const PROTOCOLS = ["HTTP/1.1", "HTTP/2"] as const;
export type Protocol = (typeof PROTOCOLS)[number];

export async function serve(protocol: Protocol, listener: Listener): Promise<TestServer> {
  return protocol === "HTTP/1.1" ? serveHttp1(listener) : serveHttp2(listener);
}

async function serveHttp1(listener: Listener): Promise<TestServer> {
  const server = http.createServer(listener);
  await once(server.listen(0, "127.0.0.1"), "listening");
  const { port } = server.address() as AddressInfo;
  const agent = new http.Agent({ keepAlive: true });

  const start = ({ method = "GET", path, headers = {}, body, unfinished = false }: Exchange): Pending => {
    const sized = body === undefined || unfinished ? {} : { "content-length": Buffer.byteLength(body) };
    const req = http.request({ host: "127.0.0.1", port, agent, method, path, headers: { ...sized, ...headers } });
    const response = once(req, "response") as Promise<[http.IncomingMessage]>;
    if (unfinished) req.write(body ?? "");
    else req.end(body);
    const chunks = (async function* () {
      const [res] = await response;
      yield* res.setEncoding("utf8");
    })();
    const reply = response.then(async ([res]) => toReply(res.statusCode ?? 0, res.headers, await textOf(chunks)));
    reply.catch(() => {});
    req.on("error", () => {});
    return { reply, chunks, leave: () => req.destroy() };
  };
  return {
    port,
    start,
    send: (exchange) => start(exchange).reply,
    async close() {
      agent.destroy();
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

async function serveHttp2(listener: Listener): Promise<TestServer> {
  const server = http2.createServer(listener);
  await once(server.listen(0, "127.0.0.1"), "listening");
  const { port } = server.address() as AddressInfo;
  const session = http2.connect(`http://127.0.0.1:${port}`);

  const start = ({ method = "GET", path, headers = {}, body, unfinished = false }: Exchange): Pending => {
    const endStream = body === undefined && !unfinished;
    const stream = session.request({ ":method": method, ":path": path, ...headers }, { endStream });
    const response = once(stream, "response") as Promise<[http2.IncomingHttpHeaders & { ":status": number }]>;
    if (unfinished) stream.write(body ?? "");
    else if (body !== undefined) stream.end(body);
    const chunks = (async function* () {
      await response;
      yield* stream.setEncoding("utf8");
    })();
    const reply = response.then(async ([head]) => toReply(head[":status"], head, await textOf(chunks)));
    reply.catch(() => {});
    stream.on("error", () => {});
    return { reply, chunks, leave: () => stream.close(http2.constants.NGHTTP2_CANCEL) };
  };
  return {
    port,
    start,
    send: (exchange) => start(exchange).reply,
    async close() {
      session.destroy();
      server.close();
      await once(server, "close");
    },
  };
}

async function textOf(chunks: AsyncIterable<string>): Promise<string> {
  let text = "";
  for await (const chunk of chunks) text += chunk;
  return text;
}

function toReply(status: number, headers: Reply["headers"], text: string): Reply {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    json = undefined;
  }
  return { status, headers, text, json };
}

/** The frames of an event stream, without its comments. */
export function framesOf(text: string): Record<string, string>[] {
  const blocks = text.split("\n\n").filter((block) => block !== "" && !block.startsWith(":"));
  return blocks.map((block) =>
    Object.fromEntries(
      block.split("\n").map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 2)]),
    ),
  );
}
