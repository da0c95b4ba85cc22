/** Connect, gRPC-Web and gRPC on the HTTP listener, by connect-node, over the same bound RPCs. */

import type { DescService } from "@bufbuild/protobuf";
import { type Code, ConnectError, type ConnectRouter, type ServiceImpl } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { internal, SignalboxError } from "../../domain/errors.ts";
import { MAX_BINARY_DEPTH, MAX_JSON_MESSAGE_DEPTH } from "../../domain/nesting.ts";
import { GRPC_CODE, packedErrorDetails } from "../error-details.ts";
import type { HttpRequest, HttpResponse } from "../http-exchange.ts";
import type { BoundRpc, BoundRpcs } from "../rpc/bound.ts";

export interface ConnectLaneOptions {
  rpcs: BoundRpcs;
  /** Largest message that is taken, in bytes. */
  maxBytes: number;
  /** Whether answers may be compressed. Costs half of the throughput. */
  compress: boolean;
  /** Longest deadline that a client may ask for, in milliseconds. */
  maxTimeoutMs?: number;
  /** Answers what is no RPC. */
  fallback: (req: HttpRequest, res: HttpResponse) => void;
}

const ONE_DAY_MS = 86_400_000;

/** A request handler for HTTP/1.1 and HTTP/2. */
export function createConnectLane(options: ConnectLaneOptions): (req: HttpRequest, res: HttpResponse) => void {
  return connectNodeAdapter({
    routes: (router) => addRoutes(router, options.rpcs),
    readMaxBytes: options.maxBytes,
    compressMinBytes: options.compress ? 1024 : Number.MAX_SAFE_INTEGER,
    binaryOptions: { recursionLimit: MAX_BINARY_DEPTH },
    jsonOptions: { ignoreUnknownFields: true, recursionLimit: MAX_JSON_MESSAGE_DEPTH },
    maxTimeoutMs: options.maxTimeoutMs ?? ONE_DAY_MS,
    fallback: options.fallback as NodeHandler,
  });
}

function addRoutes(router: ConnectRouter, rpcs: BoundRpcs): void {
  for (const [service, methods] of Map.groupBy(rpcs.values(), (rpc) => rpc.service)) {
    const implementation = Object.fromEntries(methods.map((rpc) => [rpc.method.localName, handlerOf(rpc)]));
    router.service(service, implementation as unknown as ServiceImpl<DescService>);
  }
}

type NodeHandler = ReturnType<typeof connectNodeAdapter>;
type Unary = BoundRpc["unary"];
type Stream = BoundRpc["stream"];

function handlerOf(rpc: BoundRpc): Unary | Stream {
  if (rpc.method.methodKind === "unary") {
    return async (...call: Parameters<Unary>) => {
      try {
        return await rpc.unary(...call);
      } catch (error) {
        throw connectError(error);
      }
    };
  }
  return async function* (...call: Parameters<Stream>) {
    try {
      yield* rpc.stream(...call);
    } catch (error) {
      throw connectError(error);
    }
  };
}

/** The one table from errors to Connect: its codes are gRPC's numbers. */
function connectError(thrown: unknown): ConnectError {
  const error = thrown instanceof SignalboxError ? thrown : internal(thrown);
  const failure = new ConnectError(error.message, GRPC_CODE[error.code] as Code);
  failure.details = packedErrorDetails(error).map(({ typeUrl, value }) => ({
    type: typeUrl.slice(typeUrl.lastIndexOf("/") + 1),
    value,
  }));
  return failure;
}
