/**
 * What every call on the gRPC listener passes through: unary calls are answered here, and a request has its time to arrive.
 * grpc-js itself waits for one for ever: a client that sends half of it would keep its call open as long as it likes.
 */
import * as grpc from "@grpc/grpc-js";
import { bodyTimeout } from "../http-errors.ts";
import type { BoundRpcs } from "../rpc/bound.ts";
import { createTimeLimit, type TimeLimit } from "../time-limit.ts";
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
    if (requestStream) return new grpc.ServerInterceptingCall(call);
    if (responseStream) return limited(call, arrival);
    return new UnaryCall(rpcs.get(path.slice(1))!, call, arrival, onError);
  };
}

function limited(call: Call, arrival: TimeLimit<Call>): grpc.ServerInterceptingCall {
  return new grpc.ServerInterceptingCall(call, {
    start(next) {
      arrival.begin(call);
      next({
        onReceiveHalfClose(proceed) {
          arrival.end(call);
          proceed();
        },
        onCancel: () => arrival.end(call),
      });
    },
  });
}
