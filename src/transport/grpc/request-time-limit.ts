/** grpc-js waits for a request for ever: a client that sends half of one would keep its call open as long as it likes. */
import * as grpc from "@grpc/grpc-js";
import { bodyTimeout } from "../http-errors.ts";
import { statusOf } from "./adapter.ts";

/**
 * Ends a call whose one request has not come within `timeoutMs`: DEADLINE_EXCEEDED, reason BODY_TIMEOUT. Calls that stream
 * their requests are let be.
 */
export function requestTimeLimit(timeoutMs: number): grpc.ServerInterceptor {
  return (method, call) => {
    const limited = new grpc.ServerInterceptingCall(call, method.requestStream ? undefined : { start });
    return limited;

    function start(next: (listener: grpc.ServerListener) => void): void {
      const timer = setTimeout(() => limited.sendStatus(statusOf(bodyTimeout(timeoutMs))), timeoutMs);
      timer.unref();
      next({
        onReceiveHalfClose(proceed) {
          clearTimeout(timer);
          proceed();
        },
        onCancel: () => clearTimeout(timer),
      });
    }
  };
}
