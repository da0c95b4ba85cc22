/** The AgentClient of the port over any binding: builds requests, and gives each call its time limit. */
import type {
  DescMessage,
  DescMethodServerStreaming,
  DescMethodUnary,
  JsonObject,
  MessageShape,
} from "@bufbuild/protobuf";
import { A2AService, type Message, type SendMessageRequest, type StreamResponse } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import type { AbortGroup } from "../services/abort-group.ts";
import {
  AgentCallError,
  type AgentCallOptions,
  type AgentClient,
  type AgentSendOptions,
} from "../services/agent-port.ts";
import { type AgentCall, beginCall } from "./agent-call.ts";
import type { AgentChannel } from "./agent-channel.ts";

export interface AgentClientInit {
  streaming: boolean;
  /** Of the interface that was picked; echoed in every request. */
  tenant: string;
  /** Ends every call that runs. */
  shutdown: AbortGroup;
}

const rpcs = A2AService.method;

export function createAgentClient(
  channel: AgentChannel,
  { streaming, tenant, shutdown }: AgentClientInit,
): Omit<AgentClient, "release"> {
  async function unary<I extends DescMessage, O extends DescMessage>(
    rpc: DescMethodUnary<I, O>,
    request: MessageShape<I>,
    options: AgentCallOptions,
  ): Promise<MessageShape<O>> {
    const call = beginCall(rpc.name, options, shutdown);
    try {
      call.throwIfEnded();
      return await channel.unary(rpc, request, call);
    } finally {
      call.end();
    }
  }

  async function sendMessage(request: SendMessageRequest, options: AgentSendOptions): Promise<StreamResponse> {
    const { payload } = await unary(rpcs.sendMessage, request, options);
    return { $typeName: "lf.a2a.v1.StreamResponse", payload };
  }

  function sendRequest(message: Message, options: AgentSendOptions): SendMessageRequest {
    const { acceptedOutputModes, returnImmediately = false, metadata } = options;
    const request: SendMessageRequest = {
      $typeName: "lf.a2a.v1.SendMessageRequest",
      tenant,
      message,
      configuration: {
        $typeName: "lf.a2a.v1.SendMessageConfiguration",
        acceptedOutputModes: acceptedOutputModes ? [...acceptedOutputModes] : [],
        returnImmediately,
      },
    };
    if (metadata) request.metadata = metadata as JsonObject;
    return request;
  }

  const stream = <I extends DescMessage, O extends DescMessage>(
    rpc: DescMethodServerStreaming<I, O>,
    request: MessageShape<I>,
    options: AgentCallOptions,
  ): AsyncIterable<MessageShape<O>> => new AgentStream(channel, shutdown, rpc, request, options);

  return {
    streaming,
    send: (message, options) => sendMessage(sendRequest(message, options), options),
    sendStream: (message, options) => stream(rpcs.sendStreamingMessage, sendRequest(message, options), options),
    subscribe: (id, options) =>
      stream(rpcs.subscribeToTask, { $typeName: "lf.a2a.v1.SubscribeToTaskRequest", tenant, id }, options),
    get: (id, options) => unary(rpcs.getTask, { $typeName: "lf.a2a.v1.GetTaskRequest", tenant, id }, options),
    cancel: (id, options) => unary(rpcs.cancelTask, { $typeName: "lf.a2a.v1.CancelTaskRequest", tenant, id }, options),
  };
}

/** A streamed call. It begins when its first item is asked for, and ends with its last one or when its reader leaves. */
class AgentStream<I extends DescMessage, O extends DescMessage> implements AsyncIterableIterator<MessageShape<O>> {
  readonly #channel: AgentChannel;
  readonly #shutdown: AbortGroup;
  readonly #rpc: DescMethodServerStreaming<I, O>;
  readonly #request: MessageShape<I>;
  readonly #options: AgentCallOptions;
  #call: AgentCall | undefined;
  #items: AsyncIterator<MessageShape<O>> | undefined;
  #spoke = false;
  #over = false;

  constructor(
    channel: AgentChannel,
    shutdown: AbortGroup,
    rpc: DescMethodServerStreaming<I, O>,
    request: MessageShape<I>,
    options: AgentCallOptions,
  ) {
    this.#channel = channel;
    this.#shutdown = shutdown;
    this.#rpc = rpc;
    this.#request = request;
    this.#options = options;
  }

  async next(): Promise<IteratorResult<MessageShape<O>, undefined>> {
    if (this.#over) return { done: true, value: undefined };
    try {
      this.#items ??= this.#begin();
      const item = await this.#items.next();
      if (!item.done) {
        this.#spoke = true;
        return item;
      }
      if (!this.#spoke) {
        const what = `The agent ended the stream of ${this.#rpc.name} before its first item.`;
        throw new AgentCallError("broken", what);
      }
    } catch (error) {
      this.#end();
      throw error;
    }
    this.#end();
    return { done: true, value: undefined };
  }

  async return(): Promise<IteratorResult<MessageShape<O>, undefined>> {
    try {
      if (!this.#over) await this.#items?.return?.();
    } finally {
      this.#end();
    }
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #begin(): AsyncIterator<MessageShape<O>> {
    this.#call = beginCall(this.#rpc.name, this.#options, this.#shutdown);
    this.#call.throwIfEnded();
    return this.#channel.stream(this.#rpc, this.#request, this.#call)[Symbol.asyncIterator]();
  }

  #end(): void {
    this.#over = true;
    this.#call?.end();
  }
}
