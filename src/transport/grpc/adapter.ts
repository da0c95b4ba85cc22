/**
 * The generic adapter: any bound service on grpc-js. Messages are decoded and encoded with the code that was generated for
 * them, so there is no second code generation.
 */

import { create, fromBinary, type Message, toBinary } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import { StatusSchema } from "../../../gen/google/rpc/status_pb.ts";
import { internal, invalidArgument, SignalboxError } from "../../domain/errors.ts";
import { MAX_BINARY_DEPTH } from "../../domain/nesting.ts";
import { GRPC_CODE, packedErrorDetails } from "../error-details.ts";
import type { BoundRpc, BoundRpcs } from "../rpc/bound.ts";
import { GrpcCallContext } from "./call-context.ts";

/** Adds every bound RPC to a grpc-js server. `onError` is told of answers that could not be sent. */
export function addServices(server: grpc.Server, rpcs: BoundRpcs, onError: (error: unknown) => void): void {
  const byService = Map.groupBy(rpcs.values(), (rpc) => rpc.service);
  for (const [service, methods] of byService) {
    const definition: Record<string, grpc.MethodDefinition<Buffer, Message>> = {};
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
        responseSerialize: (message) => asBuffer(toBinary(method.output, message)),
        responseDeserialize: (bytes) => fromBinary(method.output, bytes),
      };
      handlers[method.name] = handlerOf(rpc, onError);
    }
    server.addService(definition as grpc.ServiceDefinition, handlers);
  }
}

/** The same bytes, not a copy. */
const asBuffer = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);

type OnError = (error: unknown) => void;

function handlerOf(rpc: BoundRpc, onError: OnError): grpc.UntypedHandleCall {
  switch (rpc.method.methodKind) {
    case "unary":
      return unary(rpc, onError);
    case "server_streaming":
      return (call: grpc.ServerWritableStream<Buffer, Message>) =>
        void pump(rpc, call, () => decode(rpc, call.request), onError);
    case "bidi_streaming":
      return (call: grpc.ServerDuplexStream<Buffer, Message>) =>
        void pump(rpc, call, () => decodeAll(rpc, call), onError);
    case "client_streaming":
      throw new Error(`${rpc.method.name}: client streaming is not served`);
  }
}

function unary(rpc: BoundRpc, onError: OnError): grpc.handleUnaryCall<Buffer, Message> {
  return (call, callback) => {
    const context = new GrpcCallContext(rpc.service, rpc.method, call);
    answer(call, context)
      .then((message) => {
        context.answered();
        callback(null, message, trailers(context));
      })
      .catch((error: unknown) => {
        context.answered();
        fail(error, callback, onError);
      });
  };
  async function answer(call: grpc.ServerUnaryCall<Buffer, Message>, context: GrpcCallContext): Promise<Message> {
    const response = await rpc.unary(decode(rpc, call.request), context);
    if (context.headersToSend) call.sendMetadata(metadataOf(context.headersToSend));
    return response;
  }
}

type StreamingCall = grpc.ServerWritableStream<Buffer, Message> | grpc.ServerDuplexStream<Buffer, Message>;

async function pump(
  rpc: BoundRpc,
  call: StreamingCall,
  request: () => Message | AsyncIterable<Message>,
  onError: OnError,
): Promise<void> {
  const context = new GrpcCallContext(rpc.service, rpc.method, call);
  // A reader that left is no error of the server's: the call's signal tells the implementation.
  call.on("error", () => {});
  try {
    let first = true;
    for await (const message of rpc.stream(request(), context)) {
      if (first && context.headersToSend) call.sendMetadata(metadataOf(context.headersToSend));
      first = false;
      if (!call.write(message)) await drained(call, context.signal);
      if (call.cancelled) return;
    }
    context.answered();
    call.end(trailers(context));
  } catch (error) {
    if (!call.cancelled) fail(error, (status) => call.emit("error", status), onError);
  }
}

/**
 * Ends a call with an error. Nothing thrown on the way escapes, which would end the process: a status that cannot be sent
 * gives way to a bare INTERNAL, so that the caller has an answer.
 */
function fail(error: unknown, send: (status: grpc.ServiceError) => void, onError: OnError): void {
  try {
    send(statusOf(error));
  } catch (unsendable) {
    onError(unsendable);
    try {
      send(statusOf(internal(unsendable)));
    } catch (again) {
      onError(again);
    }
  }
}

/** Resolves when the reader has caught up, or has left. */
function drained(call: StreamingCall, signal: AbortSignal): Promise<void> {
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

function decode(rpc: BoundRpc, bytes: Buffer): Message {
  try {
    return fromBinary(rpc.method.input, bytes, { recursionLimit: MAX_BINARY_DEPTH });
  } catch (error) {
    const description = `The request is no ${rpc.method.input.typeName} in Protobuf's binary form.`;
    throw invalidArgument([{ field: "", description }], error);
  }
}

async function* decodeAll(rpc: BoundRpc, call: grpc.ServerDuplexStream<Buffer, Message>): AsyncGenerator<Message> {
  for await (const bytes of call) yield decode(rpc, bytes as Buffer);
}

/** The one table from errors to gRPC: the code's number, and google.rpc.Status with its details (section 10.6). */
export function statusOf(thrown: unknown): grpc.ServiceError {
  const error = thrown instanceof SignalboxError ? thrown : internal(thrown);
  const code = GRPC_CODE[error.code];
  const metadata = new grpc.Metadata();
  const status = create(StatusSchema, { code, message: error.message, details: packedErrorDetails(error) });
  metadata.set("grpc-status-details-bin", Buffer.from(toBinary(StatusSchema, status)));
  return Object.assign(new Error(error.message), { code, details: error.message, metadata });
}

function metadataOf(headers: Headers): grpc.Metadata {
  const metadata = new grpc.Metadata();
  for (const [name, value] of headers) metadata.add(name, name.endsWith("-bin") ? Buffer.from(value, "base64") : value);
  return metadata;
}

const trailers = (context: GrpcCallContext): grpc.Metadata | undefined =>
  context.trailersToSend && metadataOf(context.trailersToSend);
