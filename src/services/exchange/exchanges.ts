/** Exchanges: messages that ask the router for something, its answers, and the record of both. */
import { create } from "@bufbuild/protobuf";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import {
  ExchangeKind,
  type ExchangeMessage,
  type ListExchangesRequest,
  type ListExchangesResponse,
  ListExchangesResponseSchema,
  MessageService,
  RecordedMessageSchema,
} from "../../../gen/signalbox/v1/message_pb.ts";
import { clip, internal, invalidArgument, SignalboxError, scopeMissing } from "../../domain/errors.ts";
import { type ActResult, answerTo, taskIdOf } from "../../domain/exchange-answer.ts";
import { type ActKind, completeEnvelope, kindName } from "../../domain/exchange-rules.ts";
import { holds, type Principal } from "../../domain/identity/principal.ts";
import { ALL_TASKS, viewerOf } from "../../domain/identity/visibility.ts";
import { idViolations } from "../../domain/message-rules.ts";
import { refuse } from "../../domain/refusal.ts";
import type { ExchangeRecord, ExchangeRepository, RecentCursor } from "../../store/exchange-repository.ts";
import type { Refusals } from "../audit-refusals.ts";
import type { RequestContext, StreamCursor } from "../request-context.ts";
import type { Runtime } from "../runtime.ts";
import type { Sender } from "../send.ts";
import type { Tasks } from "../tasks.ts";
import { type Act, limitTime } from "./act.ts";
import { observed } from "./look-acts.ts";

/** Messages of an exchange beyond which none but an answer is taken. */
const MOST_MESSAGES = 256;
const NO_LIMIT = 2 ** 31 - 1;
const DEFAULT_PAGE = 20;
const MAX_PAGE = 50;

/** The scopes that an act needs besides that of the exchange itself: those of the RPCs that do the same. */
const SCOPES: Record<ActKind, readonly string[]> = {
  discover: ["agents.read"],
  intent: ["agents.read"],
  negotiate: ["agents.read", "tasks.write"],
  delegate: ["tasks.write"],
  observe: ["tasks.read"],
  revise: ["tasks.write"],
  explain: ["tasks.read", "routing.read"],
  verify: ["tasks.read"],
};
const OWN_SCOPE = "exchanges.write";

/** An item of a stream, and the number of the task's log up to which it tells. */
export interface NumberedAnswer {
  /** Undefined of an error before there was any. */
  sequence: number | undefined;
  message: ExchangeMessage;
}

export interface Exchanges {
  /** Does what a message asks for. What goes wrong in the act is an answer of kind ERROR; what is wrong with the envelope is thrown. */
  exchange(context: RequestContext, message: ExchangeMessage | undefined): Promise<ExchangeMessage>;
  /** Watches a task. An error before its first item is an answer of kind ERROR. */
  stream(
    context: RequestContext,
    message: ExchangeMessage | undefined,
    cursor?: StreamCursor,
  ): AsyncIterable<NumberedAnswer>;
  list(context: RequestContext, request: ListExchangesRequest): Promise<ListExchangesResponse>;
}

const SERVICE = MessageService.typeName;

export interface ExchangesDeps {
  acts: { readonly [K in ActKind]: Act<K> };
  records: ExchangeRepository;
  sender: Sender;
  tasks: Tasks;
  runtime: Runtime;
  /** Records what is refused in an answer: to the binding such a call is a success. */
  refusals: Pick<Refusals, "record">;
}

export function createExchanges(deps: ExchangesDeps): Exchanges {
  const { acts, records, runtime, refusals } = deps;

  /** The envelope as it is kept. Throws for one that is none, and for a caller who may not send it. */
  function completed(context: RequestContext, given: ExchangeMessage | undefined): ExchangeMessage {
    const { principal, idempotencyKey = "" } = context;
    if (!given) throw invalidArgument([{ field: "message", description: "is required: the envelope" }]);
    const { newId } = runtime;
    // Under its key it is the same message, however often it is sent.
    const named = { ...given, messageId: given.messageId || idempotencyKey };
    const message = completeEnvelope(named, { newId, sender: principal.id, now: runtime.now() });
    const { case: kind } = message.payload;
    const needed = kind === "result" || kind === "error" ? [] : SCOPES[kind!];
    for (const scope of [OWN_SCOPE, ...needed]) {
      if (!holds(principal, scope)) throw scopeMissing(scope);
    }
    return message;
  }

  async function record(
    { workspaceId, principal }: RequestContext,
    message: ExchangeMessage,
    { isAnswer }: { isAnswer: boolean },
  ): Promise<number> {
    const begins = message.kind !== ExchangeKind.RESPONSE && message.kind !== ExchangeKind.ERROR;
    const entry = { message, principal: principal.id, taskId: taskIdOf(message) };
    const most = isAnswer ? NO_LIMIT : MOST_MESSAGES;
    // What was asked for began an exchange of who asked.
    const ownerId = begins || isAnswer ? principal.id : await answeredBy(workspaceId, principal, message.correlationId);
    const outcome =
      ownerId === undefined ? "missing" : await records.append(workspaceId, entry, { ownerId, begins, most });
    if (outcome === "missing") throw exchangeNotFound(message.correlationId);
    if (outcome === "full") throw exchangeFull(message.correlationId);
    return outcome;
  }

  /** Whose exchange somebody's own RESPONSE or ERROR belongs to. */
  const answeredBy = (workspaceId: string, principal: Principal, correlationId: string) =>
    records.answerable(workspaceId, correlationId, {
      principalId: principal.id,
      seesAll: holds(principal, ALL_TASKS),
      agentId: principal.agentId,
    });

  const answer = (asked: ExchangeMessage, outcome: ActResult | SignalboxError): ExchangeMessage =>
    answerTo(asked, outcome, { messageId: runtime.newId(), now: runtime.now() });

  /** Keeps an answer and returns it. What was done is done: a record that fails is no reason to say nothing of it. */
  async function kept(context: RequestContext, message: ExchangeMessage): Promise<ExchangeMessage> {
    try {
      await record(context, message, { isAnswer: true });
    } catch (error) {
      const { correlationId } = message;
      context.log.warn({ err: error, correlationId }, "the answer to a message of an exchange was not kept");
    }
    return message;
  }

  /** What went wrong, as the answer tells it. */
  async function told(context: RequestContext, rpc: string, thrown: unknown): Promise<SignalboxError> {
    if (thrown instanceof SignalboxError) {
      const { workspaceId, principal } = context;
      await refusals.record({
        caller: { workspaceId, principalId: principal.id, actors: principal.actors },
        rpc,
        error: thrown,
      });
      return thrown;
    }
    context.log.error({ err: thrown }, "a message of an exchange failed in an unforeseen way");
    return internal(thrown);
  }

  return {
    async exchange(context, given) {
      const asked = completed(context, given);
      const { case: kind, value } = asked.payload;
      const sequence = await record(context, asked, { isAnswer: false });
      if (kind === "result" || kind === "error") {
        return answer(asked, { case: "recorded", value: { sequence: BigInt(sequence) } });
      }
      const limit = limitTime(runtime, context, asked, Number(asked.timeoutMs));
      try {
        const result = await (acts[kind!] as Act<ActKind>)(value as never, limit);
        return await kept(context, answer(asked, result));
      } catch (error) {
        // Nobody hears it, and the exchange shall not look as if it still went on.
        if (context.signal.aborted) {
          await kept(context, answer(asked, callEnded()));
          throw error;
        }
        return kept(context, answer(asked, await told(context, `${SERVICE}/Exchange`, limit.reasonOf(error))));
      } finally {
        limit.end();
      }
    },

    async *stream(context, given, cursor) {
      const asked = completed(context, given);
      const { payload } = asked;
      if (payload.case !== "observe") throw notObserve(asked.kind);
      await record(context, asked, { isAnswer: false });
      // Without a time of its own a stream lasts as long as the task.
      const limit = limitTime(runtime, context, asked, Number(given!.timeoutMs) || undefined);
      let last: NumberedAnswer | undefined;
      let failure: NumberedAnswer | undefined;
      try {
        for await (const { sequence, result } of observed(deps, limit.context, payload.value, cursor)) {
          last = { sequence, message: answer(asked, result) };
          yield last;
        }
      } catch (error) {
        if (!limit.timeIsUp() && (last || context.signal.aborted)) throw error;
        const why = await told(context, `${SERVICE}/ExchangeStream`, limit.reasonOf(error));
        failure = { sequence: last?.sequence, message: answer(asked, why) };
      } finally {
        limit.end();
        // The updates stand in the log of the task: the exchange keeps the last of them.
        await kept(context, (failure ?? last)?.message ?? answer(asked, callEnded()));
      }
      if (failure) yield failure;
    },

    async list({ workspaceId, principal }, { correlationId, pageSize, pageToken }) {
      refuse([
        ...idViolations("correlationId", correlationId),
        ...(pageSize < 0 ? [{ field: "pageSize", description: "must not be negative" }] : []),
      ]);
      const limit = Math.min(pageSize || DEFAULT_PAGE, MAX_PAGE);
      const from = pageToken === "" ? undefined : readToken(pageToken, correlationId);
      const ownerId = viewerOf(principal)?.id;
      const found =
        correlationId === ""
          ? await records.recent(workspaceId, ownerId, { ...(from && { before: from }), limit: limit + 1 })
          : await records.list(workspaceId, { correlationId, ownerId }, { after: from, limit: limit + 1 });
      if (!found) throw exchangeNotFound(correlationId);
      const page = found.slice(0, limit);
      const last = page.at(-1);
      return create(ListExchangesResponseSchema, {
        messages: page.map(({ message, seq, principal, taskId = "", omittedBytes }) =>
          create(RecordedMessageSchema, {
            message,
            sequence: BigInt(seq),
            principal,
            taskId,
            omittedBytes: BigInt(omittedBytes),
          }),
        ),
        nextPageToken: found.length > limit && last ? writeToken(last, correlationId) : "",
      });
    },
  };
}

const callEnded = () =>
  new SignalboxError({ code: "CANCELLED", reason: "CANCELLED", message: "The call ended before it was answered." });

const notObserve = (kind: ExchangeKind) =>
  invalidArgument([
    { field: "message.kind", description: `${kindName(kind)} has one answer: call Exchange. Only OBSERVE streams` },
  ]);

const exchangeNotFound = (correlationId: string) =>
  new SignalboxError({
    code: "NOT_FOUND",
    reason: "EXCHANGE_NOT_FOUND",
    message: `There is no exchange "${clip(correlationId)}". Exchanges begin with a message that asks for something, and are forgotten after exchange.keep-ms.`,
    metadata: { correlationId: clip(correlationId) },
  });

const exchangeFull = (correlationId: string) =>
  new SignalboxError({
    code: "RESOURCE_EXHAUSTED",
    reason: "EXCHANGE_FULL",
    message: `Exchange "${clip(correlationId)}" has ${MOST_MESSAGES} messages. Begin another one: leave correlationId out.`,
    metadata: { correlationId: clip(correlationId) },
  });

// A page token is opaque to clients: the last message of the page, and the list that it is of.

const writeToken = ({ message, ownerId, seq }: ExchangeRecord, listed: string): string =>
  Buffer.from(
    JSON.stringify([
      listed,
      message.createTime && timestampMs(message.createTime),
      message.correlationId,
      ownerId,
      seq,
    ]),
  ).toString("base64url");

function readToken(token: string, listed: string): RecentCursor {
  const [list, ms, correlationId, ownerId, seq] = parsed(token);
  const isToken = list === listed && isDateMs(ms) && isId(correlationId) && isOwner(ownerId) && isSequence(seq);
  if (isToken) return { at: new Date(ms), correlationId, ownerId, seq };
  throw invalidArgument([
    { field: "pageToken", description: "is not a nextPageToken of ListExchanges with the same correlationId" },
  ]);
}

function parsed(token: string): unknown[] {
  try {
    const value: unknown = JSON.parse(Buffer.from(token.slice(0, 4096), "base64url").toString());
    return Array.isArray(value) ? value : [];
  } catch {
    return [];
  }
}

// What PostgreSQL can hold, and more than any message has.
const isDateMs = (value: unknown): value is number => typeof value === "number" && value >= 0 && value <= 8.64e15;
const isId = (value: unknown): value is string =>
  typeof value === "string" && idViolations("correlationId", value).length === 0;
const isOwner = (value: unknown): value is string => typeof value === "string" && !value.includes("\0");
const isSequence = (value: unknown): value is number =>
  Number.isInteger(value) && (value as number) >= 0 && (value as number) <= NO_LIMIT;
