/** A user of @a2a-js/sdk: finds the agent by its card, lets the SDK choose the transport, and reads what comes. */
import { randomUUID } from "node:crypto";
import {
  type Message,
  type Part,
  SendMessageRequest,
  type StreamResponse,
  type Task,
  TaskState,
  type TaskStatus,
} from "@a2a-js/sdk";
import { type Client, ClientFactory, JsonRpcTransportFactory, RestTransportFactory } from "@a2a-js/sdk/client";
import { GrpcTransportFactory } from "@a2a-js/sdk/client/grpc";
import { UnsupportedOperationError } from "@a2a-js/sdk/errors";

export const TRANSPORTS = ["JSONRPC", "HTTP+JSON", "GRPC"] as const;
export type TransportName = (typeof TRANSPORTS)[number];

/** A client of whatever the card under `url` describes, over the transport that the user likes best. */
export function connect(url: string, transport: TransportName): Promise<Client> {
  const factory = new ClientFactory({
    transports: [new JsonRpcTransportFactory(), new RestTransportFactory(), new GrpcTransportFactory()],
    preferredTransports: [transport],
  });
  return factory.createFromUrl(`${url}/`);
}

export interface SayInit {
  taskId?: string;
  contextId?: string;
  messageId?: string;
  referenceTaskIds?: string[];
  historyLength?: number;
  returnImmediately?: boolean;
}

/** A request with a text. */
export function say(text: string, init: SayInit = {}): SendMessageRequest & { message: Message } {
  const { historyLength, returnImmediately, ...message } = init;
  const request = SendMessageRequest.fromJSON({
    message: { messageId: randomUUID(), role: "ROLE_USER", parts: [{ text }], ...message },
    configuration: { historyLength, returnImmediately },
  });
  return { ...request, message: request.message! };
}

/** The task with which a call was answered. */
export function asTask(answer: Task | Message): Task {
  if ("messageId" in answer) throw new Error(`A message came where a task was expected: ${textOf(answer.parts)}`);
  return answer;
}

export async function collect(stream: AsyncIterable<StreamResponse>): Promise<StreamResponse[]> {
  const items: StreamResponse[] = [];
  for await (const item of stream) items.push(item);
  return items;
}

/** The items of a stream, up to and with the first whose line begins with this. The stream stays open. */
export async function readUntil(
  stream: AsyncGenerator<StreamResponse, void, undefined>,
  line: string,
): Promise<StreamResponse[]> {
  const items: StreamResponse[] = [];
  for (;;) {
    const { value, done } = await stream.next();
    if (done) throw new Error(`The stream ended without "${line}": ${items.map(lineOf).join(", ")}`);
    items.push(value);
    if (lineOf(value).startsWith(line)) return items;
  }
}

/** The task as it stands when it has ended, for however long that takes. */
export async function settled(client: Client, id: string): Promise<Task> {
  try {
    await collect(client.resubscribeTask({ tenant: "", id }));
  } catch (error) {
    // It has ended already: there is nothing to watch.
    if (!(error instanceof UnsupportedOperationError)) throw error;
  }
  return client.getTask({ tenant: "", id });
}

/** The Task with which a stream begins. */
export function shownTask(item: StreamResponse | undefined): Task {
  if (item?.payload?.$case !== "task") throw new Error(`The stream begins with ${item?.payload?.$case}.`);
  return item.payload.value;
}

export const textOf = (parts: readonly Part[] = []): string =>
  parts.map(({ content }) => (content?.$case === "text" ? content.value : "")).join("");

/** `WORKING`, and what the status says after a colon. */
export function statusOf({ status }: { status: TaskStatus | undefined }): string {
  const state = TaskState[status?.state ?? TaskState.TASK_STATE_UNSPECIFIED].replace("TASK_STATE_", "");
  const text = textOf(status?.message?.parts);
  return text === "" ? state : `${state}: ${text}`;
}

/** The texts of a task's history. */
export const historyOf = ({ history }: Task): string[] => (history ?? []).map(({ parts }) => textOf(parts));

/** The texts of a task's artifacts by their ids. */
export const artifactsOf = ({ artifacts }: Task): Record<string, string> =>
  Object.fromEntries((artifacts ?? []).map(({ artifactId, parts }) => [artifactId, textOf(parts)]));

/** An item of a stream in one line. */
export function lineOf({ payload }: StreamResponse): string {
  switch (payload?.$case) {
    case "task":
      return `task ${statusOf(payload.value)}`;
    case "statusUpdate":
      return statusOf(payload.value);
    case "artifactUpdate": {
      const { artifact, append, lastChunk } = payload.value;
      return `${append ? "+" : ""}${artifact?.artifactId}: ${textOf(artifact?.parts)}${lastChunk ? " (last)" : ""}`;
    }
    case "message":
      return `message ${textOf(payload.value.parts)}`;
    default:
      return "nothing";
  }
}

/** The texts of the artifacts that a client puts together from a stream (section 4.2.2). */
export function assemble(items: readonly StreamResponse[]): Record<string, string> {
  const texts: Record<string, string> = {};
  for (const { payload } of items) {
    if (payload?.$case === "task") Object.assign(texts, artifactsOf(payload.value));
    if (payload?.$case !== "artifactUpdate" || !payload.value.artifact) continue;
    const { artifact, append } = payload.value;
    const before = append ? (texts[artifact.artifactId] ?? "") : "";
    texts[artifact.artifactId] = before + textOf(artifact.parts);
  }
  return texts;
}
