/** One way to call the server, by a client that knows nothing of it but the contract. */
import {
  createRegistry,
  type DescMethod,
  type DescService,
  type JsonObject,
  type JsonValue,
  toJson,
} from "@bufbuild/protobuf";
import { type Any, AnySchema } from "@bufbuild/protobuf/wkt";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../../../gen/google/rpc/error_details_pb.ts";
import type { CodeTable } from "../error-codes.ts";

export interface Call {
  method: DescMethod;
  /** ProtoJSON. */
  request: JsonObject;
  headers: Readonly<Record<string, string>>;
  /** Ends the call. */
  signal: AbortSignal;
}

/** Where a server listens. */
export interface ServerAddress {
  /** URL of the HTTP listener. */
  httpUrl: string;
  /** `host:port` of the gRPC listener. */
  grpcAddress: string;
}

export interface Binding {
  readonly name: string;
  readonly services: readonly DescService[];
  readonly codes: CodeTable;
  connect(server: ServerAddress): Client;
}

export interface Client {
  /**
   * What the server answers, in ProtoJSON: one item for a unary RPC. Leaving the iteration ends the call.
   * Throws RpcError for an error of the server.
   */
  call(call: Call): AsyncGenerator<JsonValue, void>;
  close(): void;
}

/** An error as the server told it. */
export class RpcError extends Error {
  /** The binding's own code, as text. */
  readonly code: string;
  /** In ProtoJSON, each with its `@type`. */
  readonly details: readonly JsonObject[];

  constructor(code: string, message: string, details: readonly JsonObject[]) {
    super(message);
    this.name = "RpcError";
    this.code = code;
    this.details = details;
  }
}

/** What stands packed in answers and errors. */
export const registry = createRegistry(ErrorInfoSchema, BadRequestSchema, RetryInfoSchema);

/** Packed details in ProtoJSON. */
export const detailsToJson = (details: readonly Any[]): JsonObject[] =>
  details.map((any) => toJson(AnySchema, any, { registry }) as JsonObject);
