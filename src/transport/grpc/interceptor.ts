/**
 * What every call on the gRPC listener passes through: those with one request are answered here, and it has its time to arrive.
 * grpc-js itself waits for one for ever: a client that sends half of it would keep its call open as long as it likes.
 */
import * as grpc from "@grpc/grpc-js";
import { bodyTimeout } from "../http-errors.ts";
import type { BoundRpcs } from "../rpc/bound.ts";
import { createTimeLimit } from "../time-limit.ts";
import { StreamCall } from "./stream-call.ts";
import { UnaryCall } from "./unary-call.ts";
import { type OnError, statusOf } from "./wire.ts";

type Call = grpc.ServerInterceptingCallInterface;

/**
 * Ends a call whose one request has not come within `timeoutMs`: DEADLINE_EXCEEDED, reason BODY_TIMEOUT. Calls that stream
 * their requests are let be.
 */
export function interceptCalls(rpcs: BoundRpcs, timeoutMs: number, onError: OnError): grpc.ServerInterceptor {
  const arrival = createTimeLimit<Call>(timeoutMs, (call) => call.sendStatus(statusOf(bodyTimeout(timeoutMs))));
  return ({ path, requestStream, responseStream }, call) => {
    if (requestStream) return known(call);
    const rpc = rpcs.get(path.slice(1))!;
    return responseStream ? new StreamCall(rpc, call, arrival, onError) : new UnaryCall(rpc, call, arrival, onError);
  };
}

/** Calls of grpc-js itself, by their metadata: what handlers of streams have is a wrapping of them. */
const origins = new WeakMap<grpc.Metadata, Call>();

/** The call of grpc-js itself under one that a handler of streams has. */
export function originOf(metadata: grpc.Metadata): Call {
  const call = origins.get(metadata);
  if (!call) throw new Error("A call that came past the interceptor.");
  return call;
}

function remember(call: Call, metadata: grpc.Metadata, next: (metadata: grpc.Metadata) => void): void {
  origins.set(metadata, call);
  next(metadata);
}

function known(call: Call): grpc.ServerInterceptingCall {
  return new grpc.ServerInterceptingCall(call, {
    start: (next) => next({ onReceiveMetadata: (metadata, proceed) => remember(call, metadata, proceed) }),
  });
}
