/**
 * The generic adapter: any bound service on grpc-js. Messages are decoded and encoded with the code that was generated for
 * them, so there is no second code generation.
 */

import { fromBinary, type Message } from "@bufbuild/protobuf";
import type * as grpc from "@grpc/grpc-js";
import type { BoundRpc, BoundRpcs } from "../rpc/bound.ts";
import { GrpcCallContext } from "./call-context.ts";
import { originOf } from "./interceptor.ts";
import { decode, encodeAnswer, fail, metadataOf, type OnError, trailersOf } from "./wire.ts";

/** Adds every bound RPC to a grpc-js server. `onError` is told of answers that could not be sent. */
export function addServices(server: grpc.Server, rpcs: BoundRpcs, onError: OnError): void {
  const byService = Map.groupBy(rpcs.values(), (rpc) => rpc.service);
  for (const [service, methods] of byService) {
    const definition: Record<string, grpc.MethodDefinition<Buffer, Message | Buffer>> = {};
    const handlers: Record<string, grpc.UntypedHandleCall> = {};
    for (const rpc of methods) {
      const { method } = rpc;
      definition[method.name] = {
        path: `/${service.typeName}/${method.name}`,
        requestStream: method.methodKind === "client_streaming" || method.methodKind === "bidi_streaming",
        responseStream: method.methodKind === "server_streaming" || method.methodKind === "bidi_streaming",
        requestSerialize: (value) => value,
        // Decoded by the handler: an error there reaches the client as one of ours.
        requestDeserialize: (bytes) => bytes,
        // Items of most streams come as bytes.
        responseSerialize: (answer) => (Buffer.isBuffer(answer) ? answer : encodeAnswer(method.output, answer)),
        responseDeserialize: (bytes) => fromBinary(method.output, bytes),
      };
      handlers[method.name] = handlerOf(rpc, onError);
    }
    server.addService(definition as grpc.ServiceDefinition, handlers);
  }
}

/** An interceptor answers calls with one request (interceptor.ts); grpc-js wants a handler all the same. */
const answeredBefore = () => {
  throw new Error("A call that no interceptor has answered.");
};

function handlerOf(rpc: BoundRpc, onError: OnError): grpc.UntypedHandleCall {
  switch (rpc.method.methodKind) {
    case "unary":
    case "server_streaming":
      return answeredBefore;
    case "bidi_streaming":
      return (call: DuplexCall) => void pump(rpc, call, onError);
    case "client_streaming":
      throw new Error(`${rpc.method.name}: client streaming is not served`);
  }
}

type DuplexCall = grpc.ServerDuplexStream<Buffer, Message>;

async function pump(rpc: BoundRpc, call: DuplexCall, onError: OnError): Promise<void> {
  const context = new GrpcCallContext(rpc, originOf(call.metadata), call.metadata, undefined);
  if (call.cancelled) context.leave();
  else call.once("cancelled", () => context.leave());
  // A reader that left is no error of the server's: the call's signal tells the implementation.
  call.on("error", () => {});
  try {
    let first = true;
    for await (const message of rpc.stream(decodeAll(rpc, call), context)) {
      if (first && context.headersToSend) call.sendMetadata(metadataOf(context.headersToSend));
      first = false;
      if (!call.write(message)) await drained(call, context.signal);
      if (call.cancelled) return;
    }
    context.answered();
    call.end(trailersOf(context));
  } catch (error) {
    if (!call.cancelled) fail(error, (status) => call.emit("error", status), onError);
  }
}

/** Resolves when the reader has caught up, or has left. */
function drained(call: DuplexCall, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const done = () => {
      call.off("drain", done);
      signal.removeEventListener("abort", done);
      resolve();
    };
    call.on("drain", done);
    signal.addEventListener("abort", done);
  });
}

async function* decodeAll(rpc: BoundRpc, call: DuplexCall): AsyncGenerator<Message> {
  for await (const bytes of call) yield decode(rpc, bytes as Buffer);
}
