/** Calls and frames of gRPC, as the benchmarks need them. */
import { type DescMessage, type DescMethodUnary, fromBinary, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { Client, credentials, Metadata } from "@grpc/grpc-js";
import type { ServerAddress } from "./server-process.ts";

/** `/package.Service/Method` */
export const pathOf = (method: { name: string; parent: { typeName: string } }): string =>
  `/${method.parent.typeName}/${method.name}`;

/** A message as gRPC frames it: not compressed, its length in four bytes, itself. */
export function frame(message: Uint8Array): Uint8Array {
  const framed = Buffer.alloc(5 + message.length);
  framed.writeUInt32BE(message.length, 1);
  framed.set(message, 5);
  return framed;
}

/** The version of A2A that every call names. */
export const A2A_VERSION = { "a2a-version": "1.0" };

/** One call by a real gRPC client. */
export function call<I extends DescMessage, O extends DescMessage>(
  { authority }: ServerAddress,
  method: DescMethodUnary<I, O>,
  request: MessageShape<I>,
): Promise<MessageShape<O>> {
  const client = new Client(authority, credentials.createInsecure());
  return new Promise<MessageShape<O>>((resolve, reject) => {
    client.makeUnaryRequest(
      pathOf(method),
      (value: MessageShape<I>) => Buffer.from(toBinary(method.input, value)),
      (bytes) => fromBinary(method.output, bytes),
      request,
      Metadata.fromHttp2Headers(A2A_VERSION),
      (error, value) => (error ? reject(error) : resolve(value!)),
    );
  }).finally(() => client.close());
}
