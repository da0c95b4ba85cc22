/** Connect, gRPC-Web and gRPC on the HTTP listener, by connect-node, over the same bound RPCs. */

import type { DescService } from "@bufbuild/protobuf";
import {
  Code,
  ConnectError,
  type ConnectRouter,
  createConnectRouter,
  createContextValues,
  type ServiceImpl,
} from "@connectrpc/connect";
import {
  compressionBrotli,
  compressionGzip,
  universalRequestFromNodeRequest,
  universalResponseToNodeResponse,
} from "@connectrpc/connect-node";
import { detailRegistry, GRPC_CODE, packedErrorDetails } from "../../domain/error-details.ts";
import { internal, SignalboxError } from "../../domain/errors.ts";
import { MAX_BINARY_DEPTH, MAX_JSON_MESSAGE_DEPTH } from "../../domain/nesting.ts";
import { HttpCredentials } from "../http-credentials.ts";
import { bodyTimeout, errorHeaders } from "../http-errors.ts";
import { discardBody, type HttpRequest, type HttpResponse } from "../http-exchange.ts";
import { type BoundRpc, type BoundRpcs, credentialsKey } from "../rpc/bound.ts";
import { bodyFirst } from "./body-first.ts";

export interface ConnectLaneOptions {
  rpcs: BoundRpcs;
  /** Largest message that is taken, in bytes. */
  maxBytes: number;
  /** Whether answers may be compressed. Costs half of the throughput. */
  compress: boolean;
  /** Longest deadline that a client may ask for, in milliseconds. */
  maxTimeoutMs?: number;
  /** How long the body of a unary or server-streaming call may take, in milliseconds. Default 30 s. */
  bodyTimeoutMs?: number;
  /** Answers what is no RPC. */
  fallback: (req: HttpRequest, res: HttpResponse) => void;
}

const ONE_DAY_MS = 86_400_000;

/**
 * A request handler for HTTP/1.1 and HTTP/2. `target` is what the client asked for, of which the request may have a part. Rejects with
 * what connect-node could not say to the client.
 */
export function createConnectLane(
  options: ConnectLaneOptions,
): (req: HttpRequest, res: HttpResponse, target: string) => Promise<void> | void {
  const { bodyTimeoutMs = 30_000 } = options;
  const router = createConnectRouter({
    acceptCompression: [compressionGzip, compressionBrotli],
    readMaxBytes: options.maxBytes,
    compressMinBytes: options.compress ? 1024 : Number.MAX_SAFE_INTEGER,
    binaryOptions: { recursionLimit: MAX_BINARY_DEPTH },
    jsonOptions: { ignoreUnknownFields: true, recursionLimit: MAX_JSON_MESSAGE_DEPTH, registry: detailRegistry },
    maxTimeoutMs: options.maxTimeoutMs ?? ONE_DAY_MS,
  });
  addRoutes(router, options.rpcs);
  const handlers = new Map(router.handlers.map((handler) => [handler.requestPath, handler]));

  return async (req, res, target) => {
    const [path = ""] = (req.url ?? "").split("?", 1);
    const handler = handlers.get(path);
    if (!handler) return options.fallback(req, res);
    const request = universalRequestFromNodeRequest(req, res, undefined, undefined);
    const credentials = new HttpCredentials(req, target);
    const contextValues = createContextValues().set(credentialsKey, credentials);
    // Where requests are a stream, they may go on as long as the call.
    const isOne = handler.method.methodKind === "unary" || handler.method.methodKind === "server_streaming";
    let body = request.body as AsyncIterable<Uint8Array>;
    if (isOne) body = inTime(req, body, bodyTimeoutMs);
    if (isOne && req.headers["signature-input"] !== undefined) {
      body = await bodyFirst(body, credentials, options.maxBytes, asConnectError);
    }
    try {
      await universalResponseToNodeResponse(await handler({ ...request, body, contextValues }), res);
    } catch (error) {
      // The client left.
      if (ConnectError.from(error).code === Code.Aborted) return;
      if (!res.headersSent) throw error;
      res.destroy();
    }
  };
}

/**
 * The body of a request, which fails when it has not ended in time: that makes connect-node answer, in the words of the
 * caller's protocol. A client that still goes on is cut off.
 */
function inTime(req: HttpRequest, body: AsyncIterable<Uint8Array>, timeoutMs: number): AsyncIterable<Uint8Array> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  // connect-node may be done before it has read the body.
  late.catch(() => {});
  const timer = setTimeout(() => {
    reject(connectError(bodyTimeout(timeoutMs)));
    discardBody(req);
  }, timeoutMs);
  timer.unref();
  const ended = () => clearTimeout(timer);
  req.once("end", ended);
  req.once("close", ended);
  return {
    [Symbol.asyncIterator]() {
      const chunks = body[Symbol.asyncIterator]();
      return {
        next: () => Promise.race([chunks.next(), late]),
        return: async () => (await chunks.return?.()) ?? { done: true, value: undefined },
      };
    },
  };
}

function addRoutes(router: ConnectRouter, rpcs: BoundRpcs): void {
  for (const [service, methods] of Map.groupBy(rpcs.values(), (rpc) => rpc.service)) {
    const implementation = Object.fromEntries(methods.map((rpc) => [rpc.method.localName, handlerOf(rpc)]));
    router.service(service, implementation as unknown as ServiceImpl<DescService>);
  }
}

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

const asConnectError = (thrown: unknown): unknown => (thrown instanceof SignalboxError ? connectError(thrown) : thrown);

/** The one table from errors to Connect: its codes are gRPC's numbers. */
function connectError(thrown: unknown): ConnectError {
  const error = thrown instanceof SignalboxError ? thrown : internal(thrown);
  const failure = new ConnectError(error.message, GRPC_CODE[error.code] as Code);
  failure.details = packedErrorDetails(error).map(({ typeUrl, value }) => ({
    type: typeUrl.slice(typeUrl.lastIndexOf("/") + 1),
    value,
  }));
  for (const [name, value] of errorHeaders(error)) failure.metadata.set(name, value);
  return failure;
}
