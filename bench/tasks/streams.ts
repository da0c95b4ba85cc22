/** Streams of one task, as clients read them over connections of their own, with the number of each update. */
import { once } from "node:events";
import { request as httpRequest, type IncomingMessage } from "node:http";
import { fromBinary, fromJsonString, toBinary } from "@bufbuild/protobuf";
import { Client, credentials, Metadata } from "@grpc/grpc-js";
import {
  A2AService,
  type StreamResponse,
  StreamResponseSchema,
  SubscribeToTaskRequestSchema,
} from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { A2A_VERSION, pathOf } from "../lab/grpc.ts";
import type { A2AAddress } from "./send.ts";

/** Goes on with the stream of a task after an update. Leaving the loop closes the connection. */
export type Resume = (address: A2AAddress, taskId: string, after: string) => AsyncIterable<StreamResponse>;

/** A server-sent event that holds an item of a stream. */
export interface StreamEvent {
  /** The number of the update, as `Last-Event-ID` wants it. */
  id: string;
  item: StreamResponse;
}

/** Over gRPC, with the metadata `signalbox-after-sequence`. */
export const resumeOverGrpc: Resume = async function* ({ authority }, taskId, after) {
  // Otherwise clients of one address share a connection.
  const client = new Client(authority, credentials.createInsecure(), { "grpc.use_local_subchannel_pool": 1 });
  try {
    const { subscribeToTask } = A2AService.method;
    yield* client.makeServerStreamRequest(
      pathOf(subscribeToTask),
      (id: string) =>
        Buffer.from(
          toBinary(SubscribeToTaskRequestSchema, { $typeName: "lf.a2a.v1.SubscribeToTaskRequest", tenant: "", id }),
        ),
      (bytes) => fromBinary(StreamResponseSchema, bytes),
      taskId,
      Metadata.fromHttp2Headers({ ...A2A_VERSION, "signalbox-after-sequence": after }),
    ) as AsyncIterable<StreamResponse>;
  } finally {
    client.close();
  }
};

/** Over HTTP+JSON, with the header `Last-Event-ID`. */
export const resumeOverSse: Resume = async function* ({ httpUrl }, taskId, after) {
  const url = `${httpUrl}/tasks/${taskId}:subscribe`;
  for await (const { item } of events(url, { headers: { "last-event-id": after } })) yield item;
};

/** Sends a message, which makes a task. */
export function streamMessage({ httpUrl }: A2AAddress, text: string): AsyncGenerator<StreamEvent, void> {
  const message = { messageId: crypto.randomUUID(), role: "ROLE_USER", parts: [{ text }] };
  return events(`${httpUrl}/message:stream`, { method: "POST", body: JSON.stringify({ message }) });
}

async function* events(
  url: string,
  { method = "GET", headers = {}, body = "" }: { method?: string; headers?: Record<string, string>; body?: string },
): AsyncGenerator<StreamEvent, void> {
  const call = httpRequest(url, {
    method,
    agent: false,
    headers: { ...A2A_VERSION, "content-type": "application/json", accept: "text/event-stream", ...headers },
  });
  try {
    call.end(body);
    const [answer] = (await once(call, "response")) as [IncomingMessage];
    let text = "";
    for await (const chunk of answer.setEncoding("utf8")) {
      text += chunk as string;
      const whole = text.split("\n\n");
      text = whole.pop()!;
      for (const event of whole) {
        const [, id] = /^id: ?(.*)$/m.exec(event) ?? [];
        const [, data] = /^data: ?(.*)$/m.exec(event) ?? [];
        if (id !== undefined && data !== undefined) yield { id, item: fromJsonString(StreamResponseSchema, data) };
      }
    }
    if (answer.statusCode !== 200) throw new Error(`${url} answers HTTP ${answer.statusCode}: ${text}`);
  } finally {
    call.destroy();
  }
}
