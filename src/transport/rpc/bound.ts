/**
 * An RPC as every transport sees it: the implementation with all that surrounds it (authentication, scope, logs, metrics,
 * one error type). Transports decode a request, make a HandlerContext, call, and encode. They know nothing else.
 */

import type { DescMethod, DescService, JsonValue, Message } from "@bufbuild/protobuf";
import { createContextKey, type HandlerContext } from "@connectrpc/connect";
import type { Credentials } from "../../services/identity/credentials.ts";

export interface BoundRpc {
  readonly service: DescService;
  readonly method: DescMethod;
  /** For methodKind "unary". Throws SignalboxError and nothing else. */
  unary(request: Message, context: HandlerContext): Promise<Message>;
  /** For every streaming kind. Throws SignalboxError and nothing else; may throw before the first item. */
  stream(requests: Message | AsyncIterable<Message>, context: HandlerContext): AsyncIterable<Message>;
}

/** All RPCs of the server by full name, as `lf.a2a.v1.A2AService/GetTask`. */
export type BoundRpcs = ReadonlyMap<string, BoundRpc>;

/**
 * The target that the address of a request names (`/agents/{agent}/...` gives `a.<agent>`). It stands for the `tenant`
 * of every request made there.
 */
export const addressTargetKey = createContextKey<string | undefined>(undefined, {
  description: "target named by the address",
});

/** What tells who calls, where the context of the call does not have it itself: see `credentialsOf`. */
export const credentialsKey = createContextKey<Credentials | undefined>(undefined, {
  description: "what tells who calls",
});

/** What of a call tells who it comes from. */
export function credentialsOf(context: HandlerContext): Credentials {
  const credentials = (context as { credentials?: Credentials }).credentials ?? context.values.get(credentialsKey);
  if (!credentials) throw new Error(`A transport has brought ${context.method.name} without credentials`);
  return credentials;
}

const sequences = new WeakMap<object, number | string>();

/** Remembers the sequence number, or the cursor, of an item of a stream, for transports that carry it beside the body (SSE `id:`). */
export function setSequence<T extends object>(response: T, sequence: number | string): T {
  sequences.set(response, sequence);
  return response;
}

export function sequenceOf(response: object): number | string | undefined {
  return sequences.get(response);
}

/** What the JSON bindings make of the ProtoJSON of a stream's item before they write it. */
export type EventDialect = (item: JsonValue) => JsonValue;

/** Set, before the first item of a stream, by an implementation whose items are to be written otherwise than they are. */
export const eventDialectKey = createContextKey<EventDialect>((item) => item, {
  description: "how items of the stream are written in JSON",
});
