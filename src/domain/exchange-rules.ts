/** What an envelope must be before anything is done about it, and how it is completed. Pure. */
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import {
  ExchangeKind,
  type ExchangeMessage,
  ExchangeMessageSchema,
  ExchangeRequestSchema,
  type Negotiate,
} from "../../gen/signalbox/v1/message_pb.ts";
import { MAX_LABELS } from "./capability-rules.ts";
import { type FieldViolation, invalidArgument } from "./errors.ts";
import { isDnsLabel } from "./identifiers.ts";
import { idViolations, lengthViolations } from "./message-rules.ts";
import { costMicros } from "./money.ts";
import { missingFields } from "./required-fields.ts";
import { STRATEGIES, type StrategyName } from "./routing/strategy.ts";

/** The name under which the router sends and receives. */
export const ROUTER = "router";

export const DEFAULT_TIMEOUT_MS = 30_000;
export const MAX_TIMEOUT_MS = 600_000;
const MAX_WEIGHT = 1000;

const DIGEST = /^[0-9a-f]{64}$/i;

/** A kind that asks for something, with the payload that it has. */
export type ActKind = Exclude<NonNullable<ExchangeMessage["payload"]["case"]>, "result" | "error">;

const PAYLOAD_OF: ReadonlyMap<ExchangeKind, ActKind | "result" | "error"> = new Map([
  [ExchangeKind.DISCOVER, "discover"],
  [ExchangeKind.INTENT, "intent"],
  [ExchangeKind.NEGOTIATE, "negotiate"],
  [ExchangeKind.DELEGATE, "delegate"],
  [ExchangeKind.OBSERVE, "observe"],
  [ExchangeKind.REVISE, "revise"],
  [ExchangeKind.EXPLAIN, "explain"],
  [ExchangeKind.VERIFY, "verify"],
  [ExchangeKind.RESPONSE, "result"],
  [ExchangeKind.ERROR, "error"],
]);
const KIND_OF = new Map([...PAYLOAD_OF].map(([kind, payload]) => [payload, kind]));

/** What fills the gaps of an envelope. */
export interface Completion {
  newId: () => string;
  /** Who calls. */
  sender: string;
  now: Date;
}

/** The envelope with all that may be left out. Throws INVALID_ARGUMENT, with paths as `message.timeoutMs`, for one that is none. */
export function completeEnvelope(message: ExchangeMessage, { newId, sender, now }: Completion): ExchangeMessage {
  const given = message.payload.case;
  const kind = message.kind || (given && KIND_OF.get(given));
  const payload = kind && PAYLOAD_OF.get(kind);
  if (!payload) throw refusal("kind", "is required: a kind, or the payload of one, as discover");
  if (given !== undefined && given !== payload)
    throw refusal(given, `is not the payload of ${kindName(kind)}; give ${payload}`);
  const completed: ExchangeMessage = {
    ...message,
    kind,
    messageId: message.messageId || newId(),
    correlationId: message.correlationId || newId(),
    sender: message.sender || sender,
    receiver: message.receiver || ROUTER,
    timeoutMs: message.timeoutMs || BigInt(DEFAULT_TIMEOUT_MS),
    createTime: timestampFromDate(now),
    payload: given === undefined ? emptyPayload(kind) : message.payload,
  };
  const violations = [
    ...missingFields(ExchangeRequestSchema, create(ExchangeRequestSchema, { message: completed })),
    ...envelopeViolations(completed).map(({ field, description }) => ({ field: `message.${field}`, description })),
  ];
  if (violations.length > 0) throw invalidArgument(violations.slice(0, 16));
  return completed;
}

/** An empty message of a kind. */
export const emptyPayload = (kind: ExchangeKind): ExchangeMessage["payload"] =>
  create(ExchangeMessageSchema, { payload: { case: PAYLOAD_OF.get(kind), value: {} } as never }).payload;

/** A kind as people write it, such as DISCOVER. */
export const kindName = (kind: ExchangeKind): string =>
  Object.entries(ExchangeKind).find(([, number]) => number === kind)?.[0] ?? `kind ${kind}`;

const refusal = (field: string, description: string) => invalidArgument([{ field: `message.${field}`, description }]);

function envelopeViolations(message: ExchangeMessage): FieldViolation[] {
  const { payload, timeoutMs } = message;
  return [
    ...(["messageId", "correlationId", "inReplyTo", "sender", "receiver"] as const).flatMap((field) =>
      idViolations(field, message[field]),
    ),
    ...check(
      timeoutMs > 0n && timeoutMs <= BigInt(MAX_TIMEOUT_MS),
      "timeoutMs",
      `must be 1 to ${MAX_TIMEOUT_MS} milliseconds, or 0 for ${DEFAULT_TIMEOUT_MS}`,
    ),
    ...receiverViolations(message),
    ...(payload.case !== undefined && payload.value && "taskId" in payload.value
      ? idViolations(`${payload.case}.taskId`, payload.value.taskId)
      : []),
    ...(payload.case === "negotiate" ? negotiateViolations(payload.value, message.receiver) : []),
    ...(payload.case === "delegate" ? delegateViolations(message) : []),
    ...(payload.case === "observe"
      ? check((payload.value.afterSequence ?? 0n) >= 0n, "observe.afterSequence", "must not be negative")
      : []),
    ...(payload.case === "revise"
      ? check(payload.value.content.case !== undefined, "revise", "needs one of message and text")
      : []),
    ...(payload.case === "verify" ? verifyViolations(payload.value) : []),
  ];
}

const check = (isFine: boolean, field: string, description: string): FieldViolation[] =>
  isFine ? [] : [{ field, description }];

function receiverViolations({ kind, receiver }: ExchangeMessage): FieldViolation[] {
  if (receiver === ROUTER || kind === ExchangeKind.RESPONSE || kind === ExchangeKind.ERROR) return [];
  if (kind !== ExchangeKind.NEGOTIATE && kind !== ExchangeKind.DELEGATE)
    return check(false, "receiver", `a message of kind ${kindName(kind)} is for the router; leave it out`);
  const isTarget = /^[ac]\./.test(receiver) && isDnsLabel(receiver.slice(2));
  return check(isTarget, "receiver", "must be a.<agent> or c.<capability>, or be left out for the router");
}

/** The id that a receiver names, if it is of that kind. */
export const receiverId = (receiver: string, kind: "agent" | "capability"): string | undefined =>
  receiver.startsWith(kind === "agent" ? "a." : "c.") ? receiver.slice(2) : undefined;

function negotiateViolations(asked: Negotiate, receiver: string): FieldViolation[] {
  const { capabilityId, agentId, weights, maxCost, maxLatencyMs, strategy, labels } = asked;
  const named = receiverId(receiver, "capability");
  const at = (field: string) => `negotiate.${field}`;
  const name = strategyOf(asked);
  return [
    ...check(capabilityId !== "" || named !== undefined, at("capabilityId"), "is required: what is to be done"),
    ...check(
      named === undefined || capabilityId === "" || capabilityId === named,
      at("capabilityId"),
      "is not the one that the receiver names; leave one of them out",
    ),
    ...[capabilityId, agentId].flatMap((id, i) =>
      check(id === "" || isDnsLabel(id), at(i === 0 ? "capabilityId" : "agentId"), "must be a DNS label"),
    ),
    ...check(name !== undefined, at("strategy"), `must be one of ${STRATEGIES.join(", ")}`),
    ...check(
      weights === undefined || strategy === "" || name === "WEIGHTED_SCORE",
      at("weights"),
      `count in WEIGHTED_SCORE only, not in ${strategy}`,
    ),
    ...check(
      weights === undefined ||
        areWeights([weights.cost, weights.latency, weights.load, weights.errors, weights.reputation]),
      at("weights"),
      `must each be 0 to ${MAX_WEIGHT}, and not all 0`,
    ),
    ...check(costMicros(maxCost) !== undefined, at("maxCost"), "must be a decimal number, such as 0.25"),
    ...check(maxLatencyMs >= 0n, at("maxLatencyMs"), "must not be negative"),
    ...check(Object.keys(labels).length <= MAX_LABELS, at("labels"), `at most ${MAX_LABELS}`),
    ...lengthViolations(at("currency"), asked.currency, 16),
  ];
}

const areWeights = (weights: readonly number[]): boolean =>
  weights.every((weight) => weight >= 0 && weight <= MAX_WEIGHT) && weights.some((weight) => weight > 0);

/** The strategy that selects the best offer; undefined for a name that is none. `lowest-cost` is LOWEST_COST. */
export function strategyOf({ strategy }: Pick<Negotiate, "strategy">): StrategyName | undefined {
  const name = strategy === "" ? "WEIGHTED_SCORE" : strategy.toUpperCase().replaceAll("-", "_");
  return STRATEGIES.find((known) => known === name);
}

function delegateViolations({ payload, receiver }: ExchangeMessage): FieldViolation[] {
  if (payload.case !== "delegate") return [];
  const { work, quoteId } = payload.value;
  if (work.case === undefined) return check(false, "delegate", "needs one of request and input");
  if (work.case === "request") {
    const { tenant } = work.value;
    const isClear = tenant === "" || receiver === ROUTER || tenant === receiver;
    return check(isClear, "delegate.request.tenant", "is not what the receiver names; leave one of them out");
  }
  const { capabilityId, data, text } = work.value;
  const named = receiverId(receiver, "capability");
  return [
    ...check(data !== undefined || text !== "", "delegate.input", "needs data, or text, or both"),
    ...check(
      capabilityId !== "" || receiver !== ROUTER || quoteId !== "",
      "delegate.input.capabilityId",
      "is required, unless the receiver or a quote says what is to be done",
    ),
    ...check(capabilityId === "" || isDnsLabel(capabilityId), "delegate.input.capabilityId", "must be a DNS label"),
    ...check(
      capabilityId === "" || named === undefined || named === capabilityId,
      "delegate.input.capabilityId",
      "is not what the receiver names; leave one of them out",
    ),
  ];
}

function verifyViolations({ digest, artifacts }: { digest: string; artifacts: readonly unknown[] }): FieldViolation[] {
  return [
    ...check(digest === "" || DIGEST.test(digest), "verify.digest", "must be 64 hexadecimal digits: a SHA-256"),
    ...check(digest === "" || artifacts.length === 0, "verify.digest", "give it or artifacts, not both"),
  ];
}
