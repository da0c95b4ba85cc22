/** The call that is measured over the network: a blocking SendMessage that makes a task and answers when it is COMPLETED. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Client, credentials, Metadata } from "@grpc/grpc-js";
import {
  A2AService,
  ListTasksRequestSchema,
  Role,
  SendMessageConfigurationSchema,
  type SendMessageRequest,
  SendMessageRequestSchema,
  type SendMessageResponse,
  SendMessageResponseSchema,
  TaskState,
} from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { A2A_VERSION, call, frame, pathOf } from "../lab/grpc.ts";
import type { LoadRequest } from "../lab/load-request.ts";
import type { ServerAddress } from "../lab/server-process.ts";

/** A server of A2A: gRPC at `authority`, JSON-RPC at `/rpc` of `httpUrl`. */
export interface A2AAddress extends ServerAddress {
  httpUrl: string;
}

export function messageOf(text: string, tenant = ""): SendMessageRequest {
  const parts = [{ content: { case: "text", value: text } } as const];
  const message = { messageId: crypto.randomUUID(), role: Role.USER, parts };
  return create(SendMessageRequestSchema, { message, tenant });
}

/** A connection on which tasks are begun. */
export interface TaskStarter extends Disposable {
  /** Begins a task without waiting for its end, and returns its id. */
  startTask(): Promise<string>;
}

export function connectTo({ authority }: A2AAddress): TaskStarter {
  const client = new Client(authority, credentials.createInsecure());
  const { sendMessage } = A2AService.method;
  const metadata = Metadata.fromHttp2Headers(A2A_VERSION);
  const begin = () =>
    new Promise<SendMessageResponse>((resolve, reject) =>
      client.makeUnaryRequest(
        pathOf(sendMessage),
        (request: SendMessageRequest) => Buffer.from(toBinary(SendMessageRequestSchema, request)),
        (bytes) => fromBinary(SendMessageResponseSchema, bytes),
        { ...messageOf("Begin."), configuration: create(SendMessageConfigurationSchema, { returnImmediately: true }) },
        metadata,
        (error, answer) => (error ? reject(error) : resolve(answer!)),
      ),
    );
  return {
    async startTask() {
      const { payload } = await begin();
      if (payload.case !== "task") throw new Error(`SendMessage answers with ${payload.case}`);
      return payload.value.id;
    },
    [Symbol.dispose]: () => client.close(),
  };
}

/** Over gRPC. One call is made first and looked at: a gRPC server may answer HTTP 200 and fail. */
export async function grpcSend(address: A2AAddress, tenant?: string): Promise<LoadRequest> {
  const request = messageOf("Do it.", tenant);
  const { payload } = await call(address, A2AService.method.sendMessage, request);
  const state = payload.case === "task" ? payload.value.status?.state : undefined;
  if (state !== TaskState.COMPLETED) throw new Error(`SendMessage over gRPC answers with a task that is ${state}`);
  return {
    authority: address.authority,
    protocol: "grpc",
    path: pathOf(A2AService.method.sendMessage),
    headers: A2A_VERSION,
    bodies: [frame(toBinary(SendMessageRequestSchema, request))],
  };
}

/** Over JSON-RPC. One call is made first and looked at: errors come with HTTP 200. */
export async function jsonRpcSend({ httpUrl }: A2AAddress): Promise<LoadRequest> {
  const message = { messageId: crypto.randomUUID(), role: "ROLE_USER", parts: [{ text: "Do it." }] };
  const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method: "SendMessage", params: { message } });
  const url = new URL("/rpc", httpUrl);
  const headers = { ...A2A_VERSION, "content-type": "application/json" };
  const text = await (await fetch(url, { method: "POST", headers, body })).text();
  const answer = JSON.parse(text) as { result?: { task?: { status?: { state?: string } } } };
  if (answer.result?.task?.status?.state !== "TASK_STATE_COMPLETED") {
    throw new Error(`SendMessage over JSON-RPC answers ${text}`);
  }
  return {
    authority: url.host,
    protocol: "json",
    path: url.pathname,
    headers: A2A_VERSION,
    bodies: [Buffer.from(body)],
  };
}

/** How many COMPLETED tasks a server has stored; of more than 10,000 a server may only say about how many there are. */
export async function storedTasks(address: A2AAddress): Promise<number> {
  const request = create(ListTasksRequestSchema, { status: TaskState.COMPLETED, pageSize: 1 });
  return (await call(address, A2AService.method.listTasks, request)).totalSize;
}
