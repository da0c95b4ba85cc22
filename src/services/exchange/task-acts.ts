/** DELEGATE and REVISE: work is given, and more is said of it. */
import { create, type JsonObject, type JsonValue, toJson } from "@bufbuild/protobuf";
import { timestampDate } from "@bufbuild/protobuf/wkt";
import {
  GetTaskRequestSchema,
  type Message,
  MessageSchema,
  Role,
  SendMessageConfigurationSchema,
  type SendMessageRequest,
  SendMessageRequestSchema,
  SubscribeToTaskRequestSchema,
  type Task,
  TaskState,
} from "../../../gen/lf/a2a/v1/a2a_pb.ts";
import {
  type Delegate,
  type Quote,
  QuoteSchema,
  QuoteSource,
  type Revise,
} from "../../../gen/signalbox/v1/message_pb.ts";
import { DELEGATION_EXTENSION } from "../../domain/delegation-extension.ts";
import { clip, invalidArgument, SignalboxError } from "../../domain/errors.ts";
import { EXCHANGE_EXTENSION } from "../../domain/exchange-extension.ts";
import { ROUTER } from "../../domain/exchange-rules.ts";
import { viewerOf } from "../../domain/identity/visibility.ts";
import { QUOTE_EXTENSION } from "../../domain/quote-extension.ts";
import { ROUTING_EXTENSION } from "../../domain/routing-extension.ts";
import { capabilityTenant } from "../../domain/target.ts";
import { isInterrupted, isTerminal } from "../../domain/task-state.ts";
import type { ExchangeRepository } from "../../store/exchange-repository.ts";
import type { RequestContext } from "../request-context.ts";
import type { Runtime } from "../runtime.ts";
import type { Sender } from "../send.ts";
import type { Tasks } from "../tasks.ts";
import { type Act, type ActContext, narrowed } from "./act.ts";

export interface TaskActsDeps {
  sender: Sender;
  tasks: Tasks;
  records: Pick<ExchangeRepository, "quote">;
  runtime: Runtime;
}

export function createTaskActs(deps: TaskActsDeps): { delegate: Act<"delegate">; revise: Act<"revise"> } {
  const { sender, tasks, runtime } = deps;

  /** Sends, and waits for what comes of it unless told otherwise. `after`: the task's last number before. */
  async function sent(act: ActContext, request: SendMessageRequest, after: number, isPatient: boolean): Promise<Task> {
    // Ours is between the client and us.
    const extensions = act.context.extensions.filter((uri) => uri !== EXCHANGE_EXTENSION);
    const isQuoted = request.metadata?.[QUOTE_EXTENSION] !== undefined;
    const context = narrowed(act.context, { extensions: isQuoted ? [...extensions, QUOTE_EXTENSION] : extensions });
    // Its id is known at once, whatever becomes of the wait.
    const configured = request.configuration ?? create(SendMessageConfigurationSchema);
    const configuration = { ...configured, returnImmediately: true };
    const { payload } = await sender.send(context, { ...request, configuration });
    const { id } = payload.value as Task;
    if (isPatient) await untilRest(act, context, id, after);
    const historyLength = request.configuration?.historyLength;
    return tasks.get(
      context,
      create(GetTaskRequestSchema, { id, ...(historyLength !== undefined && { historyLength }) }),
    );
  }

  return {
    async delegate(asked, act) {
      const { message, context } = act;
      const quote = asked.quoteId === "" ? undefined : await validQuote(context, asked.quoteId);
      const request = delegated(asked, message.receiver, message.messageId, quote);
      const metadata: JsonObject = {
        ...request.metadata,
        [EXCHANGE_EXTENSION]: { correlationId: message.correlationId },
        ...(quote?.source === QuoteSource.AGENT && { [QUOTE_EXTENSION]: { quote: toJson(QuoteSchema, quote) } }),
        ...(quote && { [ROUTING_EXTENSION]: quotedWishes(request, quote) }),
        ...(asked.parentTaskId !== "" && { [DELEGATION_EXTENSION]: onBehalfOf(request, asked.parentTaskId) }),
      };
      const task = await sent(act, { ...request, metadata }, 0, !asked.returnImmediately);
      return { case: "delegate", value: { task } };
    },

    async revise(asked, act) {
      const before = await tasks.changeable(act.context, "", asked.taskId);
      const request = create(SendMessageRequestSchema, { message: further(asked, act.message.messageId) });
      const task = await sent(act, request, before.seq, !asked.returnImmediately);
      return { case: "revise", value: { task } };
    },
  };

  /** Resolves when the task has ended or needs something, after number `after` of its log, and when the time is over. */
  async function untilRest(act: ActContext, context: RequestContext, id: string, after: number): Promise<void> {
    const request = create(SubscribeToTaskRequestSchema, { id });
    try {
      for await (const { response } of sender.subscribe(context, request, { sequence: after, header: "" })) {
        if (response.payload.case !== "statusUpdate") continue;
        const state = response.payload.value.status?.state ?? TaskState.UNSPECIFIED;
        if (isTerminal(state) || isInterrupted(state)) return;
      }
    } catch (error) {
      if (!act.timeIsUp()) throw error;
    }
  }

  async function validQuote({ workspaceId, principal }: RequestContext, quoteId: string): Promise<Quote> {
    const quote = await deps.records.quote(workspaceId, quoteId, viewerOf(principal)?.id);
    if (!quote) throw quoteNotFound(quoteId);
    const until = timestampDate(quote.expireTime!);
    if (until <= runtime.now()) throw quoteExpired(quoteId, until);
    return quote;
  }
}

/** What is sent: as it was given, or a message made of a capability's input. */
function delegated(
  { work }: Delegate,
  receiver: string,
  messageId: string,
  quote: Quote | undefined,
): SendMessageRequest {
  const target = receiver === ROUTER ? "" : receiver;
  if (work.case === "request") return { ...work.value, tenant: work.value.tenant || target };
  const { capabilityId, data, text } = work.value!;
  const parts = [
    ...(text === "" ? [] : [{ content: { case: "text" as const, value: text } }]),
    ...(data === undefined ? [] : [{ content: { case: "data" as const, value: data } }]),
  ];
  return create(SendMessageRequestSchema, {
    // A quote says both, in our own extension.
    tenant: quote || capabilityId === "" ? target : capabilityTenant(capabilityId),
    message: { messageId, role: Role.USER, parts },
    ...(quote && capabilityId !== "" && { metadata: { [ROUTING_EXTENSION]: { capability: capabilityId } } }),
  });
}

/** What the request wishes, and who gave the quote. Throws INVALID_ARGUMENT where the two differ. */
function quotedWishes({ metadata }: SendMessageRequest, { agentId, capabilityId, quoteId }: Quote): JsonValue {
  const wished = metadata?.[ROUTING_EXTENSION] ?? {};
  // The router says what is wrong with it.
  if (typeof wished !== "object" || Array.isArray(wished)) return wished;
  for (const [key, quoted] of [
    ["agent", agentId],
    ["capability", capabilityId],
  ] as const) {
    if (wished[key] === undefined || wished[key] === quoted) continue;
    const description = `"${clip(quoteId)}" is of ${key} "${quoted}", and another one is asked for; leave one of them out`;
    throw invalidArgument([{ field: "message.delegate.quoteId", description }]);
  }
  return { ...wished, agent: agentId, capability: capabilityId };
}

/** What the delegation extension says. Throws INVALID_ARGUMENT where the request and the envelope differ. */
function onBehalfOf({ metadata }: SendMessageRequest, parentTaskId: string): JsonValue {
  const said = metadata?.[DELEGATION_EXTENSION] ?? {};
  // Whoever looks for the parent says what is wrong with it.
  if (typeof said !== "object" || Array.isArray(said)) return said;
  if (said.parentTaskId !== undefined && said.parentTaskId !== parentTaskId) {
    const description = "is not what the metadata of the request names; leave one of them out";
    throw invalidArgument([{ field: "message.delegate.parentTaskId", description }]);
  }
  return { ...said, parentTaskId };
}

function further({ taskId, content }: Revise, messageId: string): Message {
  if (content.case === "message") {
    if (content.value.taskId !== "" && content.value.taskId !== taskId) {
      const description = "is not the taskId of the envelope; leave one of them out";
      throw invalidArgument([{ field: "message.revise.message.taskId", description }]);
    }
    return { ...content.value, taskId };
  }
  const parts = [{ content: { case: "text" as const, value: content.value ?? "" } }];
  return create(MessageSchema, { messageId, taskId, role: Role.USER, parts });
}

const quoteNotFound = (quoteId: string) =>
  new SignalboxError({
    code: "NOT_FOUND",
    reason: "QUOTE_NOT_FOUND",
    message: `There is no quote "${clip(quoteId)}". Ask for one with NEGOTIATE.`,
    metadata: { quoteId: clip(quoteId) },
  });

const quoteExpired = (quoteId: string, until: Date) =>
  new SignalboxError({
    code: "FAILED_PRECONDITION",
    reason: "QUOTE_EXPIRED",
    message: `The quote held until ${until.toISOString()}. Ask for another one with NEGOTIATE.`,
    metadata: { quoteId: clip(quoteId) },
  });
