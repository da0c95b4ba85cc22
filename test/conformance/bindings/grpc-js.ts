/** gRPC by grpc-js' own client, at the gRPC listener. */
import { fromBinary, fromJson, type Message, toBinary, toJson } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import { StatusSchema } from "../../../gen/google/rpc/status_pb.ts";
import { A2AService } from "../../../gen/lf/a2a/v1/a2a_pb.ts";
import { CacheService } from "../../../gen/signalbox/v1/cache_pb.ts";
import { MessageService } from "../../../gen/signalbox/v1/message_pb.ts";
import { RegistryService } from "../../../gen/signalbox/v1/registry_pb.ts";
import { RolloutService } from "../../../gen/signalbox/v1/rollout_pb.ts";
import { RoutingService } from "../../../gen/signalbox/v1/routing_pb.ts";
import { TaskService } from "../../../gen/signalbox/v1/task_pb.ts";
import { type Binding, type Call, detailsToJson, RpcError, registry } from "./binding.ts";

export const grpcJs: Binding = {
  name: "gRPC",
  services: [A2AService, RegistryService, TaskService, RoutingService, RolloutService, MessageService, CacheService],
  codes: "grpc",
  connect({ grpcAddress }) {
    const client = new grpc.Client(grpcAddress, grpc.credentials.createInsecure());
    return {
      async *call(call) {
        const answers = start(client, call);
        const cancel = () => answers.cancel();
        call.signal.addEventListener("abort", cancel);
        try {
          for await (const message of answers) yield toJson(call.method.output, message, { registry });
        } catch (error) {
          throw isServiceError(error) ? rpcError(error) : error;
        } finally {
          call.signal.removeEventListener("abort", cancel);
          cancel();
        }
      },
      close: () => client.close(),
    };
  },
};

/** A unary RPC is a stream of one item. */
function start(client: grpc.Client, { method, request, headers }: Call): grpc.ClientReadableStream<Message> {
  const path = `/${method.parent.typeName}/${method.name}`;
  const metadata = new grpc.Metadata();
  for (const [name, value] of Object.entries(headers)) metadata.set(name, value);
  const serialize = (message: Message) => Buffer.from(toBinary(method.input, message));
  const deserialize = (bytes: Buffer) => fromBinary(method.output, bytes);
  return client.makeServerStreamRequest(path, serialize, deserialize, fromJson(method.input, request), metadata);
}

const isServiceError = (error: unknown): error is grpc.ServiceError => error instanceof Error && "metadata" in error;

function rpcError({ code, details, metadata }: grpc.ServiceError): RpcError {
  const [packed] = metadata.get("grpc-status-details-bin");
  if (packed === undefined) return new RpcError(grpc.status[code], details, []);
  const status = fromBinary(StatusSchema, packed as Buffer);
  if (status.code !== code || status.message !== details) {
    throw new Error(`grpc-status-details-bin says ${status.code} ${status.message}, the call ${code} ${details}`);
  }
  return new RpcError(grpc.status[code], details, detailsToJson(status.details));
}
