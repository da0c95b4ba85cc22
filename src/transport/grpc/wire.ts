/** Messages, errors and headers as grpc-js has them, for calls of every kind. */
import { create, type DescMessage, fromBinary, type Message, toBinary } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import { StatusSchema } from "../../../gen/google/rpc/status_pb.ts";
import { encode } from "../../domain/encode.ts";
import { GRPC_CODE, packedErrorDetails } from "../../domain/error-details.ts";
import { internal, invalidArgument, SignalboxError } from "../../domain/errors.ts";
import { getOrMake } from "../../domain/get-or-make.ts";
import { MAX_BINARY_DEPTH } from "../../domain/nesting.ts";
import type { BoundRpc } from "../rpc/bound.ts";
import { sharedForm } from "../shared-form.ts";
import type { GrpcCallContext } from "./call-context.ts";

/** Told of answers that could not be sent. */
export type OnError = (error: unknown) => void;

/** Reads a request. Throws INVALID_ARGUMENT for what is none. */
export function decode(rpc: BoundRpc, bytes: Buffer): Message {
  try {
    return fromBinary(rpc.method.input, bytes, { recursionLimit: MAX_BINARY_DEPTH });
  } catch (error) {
    const description = `The request is no ${rpc.method.input.typeName} in Protobuf's binary form.`;
    throw invalidArgument([{ field: "", description }], error);
  }
}

/** The bytes of an answer. */
export function encodeAnswer(type: DescMessage, answer: Message): Buffer {
  const bytes = encode(type, answer);
  // The same bytes, not a copy.
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

const encoders = new Map<DescMessage, (item: Message) => Buffer>();

/** Makes the bytes of a stream's items, of each one once, however many streams bring it. */
export const encoderOf = (type: DescMessage): ((item: Message) => Buffer) =>
  getOrMake(encoders, type, () => sharedForm((item) => encodeAnswer(type, item)));

/**
 * Ends a call with an error. Nothing thrown on the way escapes, which would end the process: a status that cannot be sent
 * gives way to a bare INTERNAL, so that the caller has an answer.
 */
export function fail(error: unknown, send: (status: grpc.ServiceError) => void, onError: OnError): void {
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

/** The one table from errors to gRPC: the code's number, and google.rpc.Status with its details (section 10.6). */
export function statusOf(thrown: unknown): grpc.ServiceError {
  const error = thrown instanceof SignalboxError ? thrown : internal(thrown);
  const code = GRPC_CODE[error.code];
  const metadata = new grpc.Metadata();
  const status = create(StatusSchema, { code, message: error.message, details: packedErrorDetails(error) });
  metadata.set("grpc-status-details-bin", Buffer.from(toBinary(StatusSchema, status)));
  return Object.assign(new Error(error.message), { code, details: error.message, metadata });
}

export function metadataOf(headers: Headers): grpc.Metadata {
  const metadata = new grpc.Metadata();
  for (const [name, value] of headers) metadata.add(name, name.endsWith("-bin") ? Buffer.from(value, "base64") : value);
  return metadata;
}

/** What follows the answer, if the implementation said anything. */
export const trailersOf = (context: GrpcCallContext): grpc.Metadata | undefined =>
  context.trailersToSend && metadataOf(context.trailersToSend);
