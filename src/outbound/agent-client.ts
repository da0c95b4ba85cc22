/** The AgentClient of the port over any binding: builds requests, and gives each call its time limit. */
import {
  create,
  type DescMessage,
  type DescMethodServerStreaming,
  type DescMethodUnary,
  type JsonObject,
  type MessageShape,
} from "@bufbuild/protobuf";
import {
  A2AService,
  CancelTaskRequestSchema,
  GetTaskRequestSchema,
  type Message,
  type SendMessageRequest,
  SendMessageRequestSchema,
  type StreamResponse,
  StreamResponseSchema,
  SubscribeToTaskRequestSchema,
} from "../../gen/lf/a2a/v1/a2a_pb.ts";
import type { AbortGroup } from "../services/abort-group.ts";
import {
  AgentCallError,
  type AgentCallOptions,
  type AgentClient,
  type AgentSendOptions,
} from "../services/agent-port.ts";
import { beginCall } from "./agent-call.ts";
import type { AgentChannel } from "./agent-channel.ts";

export interface AgentClientInit {
  streaming: boolean;
  /** Of the interface that was picked; echoed in every request. */
  tenant: string;
  /** Ends every call that runs. */
  shutdown: AbortGroup;
}

export function createAgentClient(
  channel: AgentChannel,
  { streaming, tenant, shutdown }: AgentClientInit,
): Omit<AgentClient, "release"> {
  const rpcs = A2AService.method;

  async function unary<I extends DescMessage, O extends DescMessage>(
    rpc: DescMethodUnary<I, O>,
    request: MessageShape<I>,
    options: AgentCallOptions,
  ): Promise<MessageShape<O>> {
    const call = beginCall(rpc.name, options, shutdown);
    try {
      call.signal.throwIfAborted();
      return await channel.unary(rpc, request, call);
    } finally {
      call.end();
    }
  }

  async function* stream<I extends DescMessage, O extends DescMessage>(
    rpc: DescMethodServerStreaming<I, O>,
    request: MessageShape<I>,
    options: AgentCallOptions,
  ): AsyncGenerator<MessageShape<O>, void> {
    const call = beginCall(rpc.name, options, shutdown);
    let spoke = false;
    try {
      call.signal.throwIfAborted();
      for await (const item of channel.stream(rpc, request, call)) {
        spoke = true;
        yield item;
      }
      if (!spoke)
        throw new AgentCallError("broken", `The agent ended the stream of ${rpc.name} before its first item.`);
    } finally {
      call.end();
    }
  }

  async function sendMessage(request: SendMessageRequest, options: AgentSendOptions): Promise<StreamResponse> {
    const { payload } = await unary(rpcs.sendMessage, request, options);
    return create(StreamResponseSchema, { payload });
  }

  function sendRequest(message: Message, options: AgentSendOptions): SendMessageRequest {
    const { acceptedOutputModes, returnImmediately = false, metadata } = options;
    return create(SendMessageRequestSchema, {
      tenant,
      message,
      configuration: { acceptedOutputModes: [...(acceptedOutputModes ?? [])], returnImmediately },
      ...(metadata && { metadata: metadata as JsonObject }),
    });
  }

  return {
    streaming,
    send: (message, options) => sendMessage(sendRequest(message, options), options),
    sendStream: (message, options) => stream(rpcs.sendStreamingMessage, sendRequest(message, options), options),
    subscribe: (id, options) =>
      stream(rpcs.subscribeToTask, create(SubscribeToTaskRequestSchema, { tenant, id }), options),
    get: (id, options) => unary(rpcs.getTask, create(GetTaskRequestSchema, { tenant, id }), options),
    cancel: (id, options) => unary(rpcs.cancelTask, create(CancelTaskRequestSchema, { tenant, id }), options),
  };
}
