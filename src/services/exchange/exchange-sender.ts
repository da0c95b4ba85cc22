/**
 * Messages of exchanges over plain A2A: a message to the router that names our extension and carries an envelope is not
 * routed but done, and answered with a bare Message that carries the answer. Every other message goes its way untouched.
 */
import { create, fromJson, type JsonObject, toJson } from "@bufbuild/protobuf";
import { ValueSchema } from "@bufbuild/protobuf/wkt";
import {
  type Message,
  MessageSchema,
  Role,
  type SendMessageRequest,
  SendMessageRequestSchema,
  type StreamResponse,
  SubscribeToTaskRequestSchema,
  type Task,
  TaskState,
} from "../../../gen/lf/a2a/v1/a2a_pb.ts";
import { type ExchangeMessage, ExchangeMessageSchema } from "../../../gen/signalbox/v1/message_pb.ts";
import {
  type CarriedEnvelope,
  carriedEnvelope,
  EXCHANGE_EXTENSION,
  isInMetadata,
  readEnvelope,
  withoutEnvelope,
} from "../../domain/exchange-extension.ts";
import { sendViolations } from "../../domain/message-rules.ts";
import { refuse } from "../../domain/refusal.ts";
import { missingFields } from "../../domain/required-fields.ts";
import type { RequestContext } from "../request-context.ts";
import type { Numbered, Sender } from "../send.ts";
import type { Exchanges } from "./exchanges.ts";

/** The way of messages, with exchanges before it. */
export function withExchanges(sender: Sender, exchanges: Exchanges): Sender {
  return {
    send(context, request) {
      const carried = addressed(context, request);
      return carried ? answer(context, request, carried) : sender.send(context, request);
    },
    stream(context, request) {
      const carried = addressed(context, request);
      return carried ? streamed(context, request, carried) : sender.stream(context, request);
    },
    subscribe: sender.subscribe,
  };

  async function answer(context: RequestContext, request: SendMessageRequest, carried: CarriedEnvelope) {
    const answer = await exchanges.exchange(context, envelopeIn(request, carried));
    const task = taskIn(answer);
    return {
      $typeName: "lf.a2a.v1.SendMessageResponse" as const,
      payload: task
        ? { case: "task" as const, value: task }
        : { case: "message" as const, value: carrying(answer, request) },
    };
  }

  async function* streamed(
    context: RequestContext,
    request: SendMessageRequest,
    carried: CarriedEnvelope,
  ): AsyncGenerator<Numbered> {
    const envelope = envelopeIn(request, carried);
    if (envelope.payload.case === "delegate") envelope.payload.value.returnImmediately = true;
    const answer = await exchanges.exchange(context, envelope);
    const task = taskIn(answer);
    if (!task) {
      const message = carrying(answer, request);
      yield { sequence: 0, response: responseOf({ case: "message", value: message }), capabilityId: undefined };
      return;
    }
    const subscription = create(SubscribeToTaskRequestSchema, { id: task.id });
    for await (const item of sender.subscribe(context, subscription, { sequence: 0, header: "" })) {
      yield item;
      // As of any stream that sends (A2A specification, section 11.7).
      const { payload } = item.response;
      if (payload.case === "statusUpdate" && payload.value.status?.state === TaskState.INPUT_REQUIRED) return;
    }
  }
}

/** The envelope of a message that is for the router itself. What names an agent is for the agent, which may know the extension. */
function addressed(context: RequestContext, request: SendMessageRequest): CarriedEnvelope | undefined {
  if (!context.extensions.includes(EXCHANGE_EXTENSION)) return undefined;
  if (request.tenant !== "" || context.addressTarget !== undefined) return undefined;
  return carriedEnvelope(request);
}

/** The envelope, with what the message around it says. Throws INVALID_ARGUMENT. */
function envelopeIn(request: SendMessageRequest, carried: CarriedEnvelope): ExchangeMessage {
  refuse([...missingFields(SendMessageRequestSchema, request), ...sendViolations(request)]);
  const envelope = readEnvelope(carried);
  const { message, configuration } = request;
  envelope.messageId ||= message!.messageId;
  envelope.correlationId ||= message!.contextId;
  const { payload } = envelope;
  if (payload.case === "delegate") {
    const { value } = payload;
    value.returnImmediately ||= configuration?.returnImmediately ?? false;
    // The message itself is the work, where the envelope stands beside it.
    if (value.work.case === undefined && isInMetadata(carried))
      value.work = { case: "request", value: withoutEnvelope(request) };
  }
  return envelope;
}

function taskIn({ payload }: ExchangeMessage): Task | undefined {
  const result = payload.case === "result" ? payload.value.result : undefined;
  return result?.case === "delegate" ? result.value.task : undefined;
}

function carrying(answer: ExchangeMessage, { message }: SendMessageRequest): Message {
  const json = toJson(ExchangeMessageSchema, answer) as JsonObject;
  return create(MessageSchema, {
    messageId: answer.messageId,
    contextId: message!.contextId,
    role: Role.AGENT,
    extensions: [EXCHANGE_EXTENSION],
    parts: [{ content: { case: "data", value: fromJson(ValueSchema, json) }, mediaType: "application/json" }],
  });
}

const responseOf = (payload: StreamResponse["payload"]): StreamResponse => ({
  $typeName: "lf.a2a.v1.StreamResponse",
  payload,
});
