/** gRPC, gRPC-Web and Connect by connect-node's own clients, at the HTTP listener. */
import {
  create,
  type DescMethod,
  type DescMethodStreaming,
  type DescMethodUnary,
  fromJson,
  type Message,
  toJson,
} from "@bufbuild/protobuf";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import { ConnectError, type Transport } from "@connectrpc/connect";
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
  Http2SessionManager,
} from "@connectrpc/connect-node";
import { status } from "@grpc/grpc-js";
import { A2AService } from "../../../gen/lf/a2a/v1/a2a_pb.ts";
import { CacheService } from "../../../gen/signalbox/v1/cache_pb.ts";
import { MessageService } from "../../../gen/signalbox/v1/message_pb.ts";
import { RegistryService } from "../../../gen/signalbox/v1/registry_pb.ts";
import { RolloutService } from "../../../gen/signalbox/v1/rollout_pb.ts";
import { RoutingService } from "../../../gen/signalbox/v1/routing_pb.ts";
import { TaskService } from "../../../gen/signalbox/v1/task_pb.ts";
import { type Binding, detailsToJson, RpcError, registry } from "./binding.ts";

export const grpcAtHttpPort = binding("gRPC at the HTTP port", ({ baseUrl, sessionManager }) =>
  createGrpcTransport({ baseUrl, sessionManager }),
);

export const connectInJson = binding("Connect in JSON over HTTP/1.1", ({ baseUrl }) =>
  createConnectTransport({ baseUrl, httpVersion: "1.1", jsonOptions: { registry } }),
);

export const connectInBinary = binding("Connect in binary over HTTP/2", ({ baseUrl, sessionManager }) =>
  createConnectTransport({ baseUrl, httpVersion: "2", sessionManager, useBinaryFormat: true }),
);

export const grpcWeb = binding("gRPC-Web", ({ baseUrl }) => createGrpcWebTransport({ baseUrl, httpVersion: "1.1" }));

function binding(
  name: string,
  createTransport: (options: { baseUrl: string; sessionManager: Http2SessionManager }) => Transport,
): Binding {
  return {
    name,
    services: [A2AService, RegistryService, TaskService, RoutingService, RolloutService, MessageService, CacheService],
    codes: "grpc",
    connect({ httpUrl: baseUrl }) {
      const sessionManager = new Http2SessionManager(baseUrl);
      const transport = createTransport({ baseUrl, sessionManager });
      return {
        async *call({ method, request, headers, signal }) {
          const left = new AbortController();
          const ends = AbortSignal.any([signal, left.signal]);
          try {
            for await (const message of start(transport, method, fromJson(method.input, request), headers, ends)) {
              yield toJson(method.output, message, { registry });
            }
          } catch (error) {
            throw error instanceof ConnectError ? rpcError(error) : error;
          } finally {
            left.abort();
          }
        },
        close: () => sessionManager.abort(),
      };
    },
  };
}

async function* start(
  transport: Transport,
  method: DescMethod,
  request: Message,
  headers: Readonly<Record<string, string>>,
  signal: AbortSignal,
): AsyncGenerator<Message, void> {
  if (isUnary(method)) {
    yield (await transport.unary(method, signal, undefined, headers, request)).message;
  } else {
    const requests = (async function* () {
      yield request;
    })();
    yield* (await transport.stream(method as DescMethodStreaming, signal, undefined, headers, requests)).message;
  }
}

const isUnary = (method: DescMethod): method is DescMethodUnary => method.methodKind === "unary";

function rpcError(error: ConnectError): RpcError {
  const packed = error.details.map((detail) => {
    if (!("type" in detail)) throw new Error("a detail of the client's own making");
    return create(AnySchema, { typeUrl: `type.googleapis.com/${detail.type}`, value: detail.value });
  });
  return new RpcError(status[error.code] ?? String(error.code), error.rawMessage, detailsToJson(packed));
}
