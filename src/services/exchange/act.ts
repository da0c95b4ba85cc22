/** What the acts of an exchange have in common: the message that asks for one, who calls, and until when. */
import type { ExchangeMessage } from "../../../gen/signalbox/v1/message_pb.ts";
import { SignalboxError } from "../../domain/errors.ts";
import type { ActResult } from "../../domain/exchange-answer.ts";
import type { ActKind } from "../../domain/exchange-rules.ts";
import type { RequestContext } from "../request-context.ts";
import type { Runtime } from "../runtime.ts";

/** The payload of a kind of message. */
export type PayloadOf<K extends ActKind> = Extract<ExchangeMessage["payload"], { case: K }>["value"];

/** A message that is complete and right, and what it is done with. */
export interface ActContext {
  /** Who calls. Its signal aborts when the time of the act is over, too. */
  readonly context: RequestContext;
  readonly message: ExchangeMessage;
  /** Whether the time of the act is over, and nothing else has ended it. */
  timeIsUp(): boolean;
}

/** Does what a message of a kind asks for. Throws SignalboxError as the RPC for it would. */
export type Act<K extends ActKind> = (asked: PayloadOf<K>, act: ActContext) => Promise<ActResult>;

/** A limit of time, which runs until it is ended. */
export interface TimeLimit extends ActContext {
  /** What went wrong, which is that the time is over where that ended it. */
  reasonOf(error: unknown): unknown;
  end(): void;
}

/** Limits what is done about a message to `ms`; undefined: by nothing but its caller. */
export function limitTime(
  runtime: Runtime,
  caller: RequestContext,
  message: ExchangeMessage,
  ms: number | undefined,
): TimeLimit {
  const over = new AbortController();
  const done = new AbortController();
  const timeIsUp = () => over.signal.aborted && !caller.signal.aborted;
  if (ms !== undefined) {
    runtime.wait(ms, done.signal).then(
      () => over.abort(timeout(ms)),
      () => {},
    );
  }
  return {
    context: narrowed(caller, { signal: AbortSignal.any([caller.signal, over.signal]) }),
    message,
    timeIsUp,
    reasonOf: (error) => (timeIsUp() ? over.signal.reason : error),
    end: () => done.abort(),
  };
}

/** The same caller, with another signal or other extensions. */
export function narrowed(
  caller: RequestContext,
  { signal = caller.signal, extensions = caller.extensions }: Partial<Pick<RequestContext, "signal" | "extensions">>,
): RequestContext {
  const { principal, workspaceId, requestId, traceparent, addressTarget, idempotencyKey, noStore } = caller;
  return {
    principal,
    workspaceId,
    requestId,
    signal,
    extensions,
    traceparent,
    addressTarget,
    idempotencyKey,
    noStore,
    get log() {
      return caller.log;
    },
  };
}

const timeout = (ms: number) =>
  new SignalboxError({
    code: "DEADLINE_EXCEEDED",
    reason: "DEADLINE_EXCEEDED",
    message: `The message's time, ${ms} ms, was over before it was done. Give it more with timeoutMs.`,
  });
