/** What tests that call agents share. */
import { create } from "@bufbuild/protobuf";
import {
  type Message,
  MessageSchema,
  Role,
  type StreamResponse,
  type Task,
  type TaskState,
} from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { AgentCallError, type AgentCallOptions } from "../../src/services/agent-port.ts";

/** A call that nothing ends but ten seconds of silence. */
export const patiently = (timeoutMs = 10_000): AgentCallOptions => ({
  signal: new AbortController().signal,
  timeoutMs,
});

let lastId = 0;

/** A message of a user with one text. */
export function say(text: string, init: { taskId?: string; contextId?: string } = {}): Message {
  const parts = [{ content: { case: "text" as const, value: text } }];
  return create(MessageSchema, { messageId: `m${++lastId}`, role: Role.USER, parts, ...init });
}

/** All items of a stream; what came before a failure is in `into`. */
export async function collect(
  items: AsyncIterable<StreamResponse>,
  into: StreamResponse[] = [],
): Promise<StreamResponse[]> {
  for await (const item of items) into.push(item);
  return into;
}

export function taskOf({ payload }: StreamResponse): Task {
  if (payload.case !== "task") throw new Error(`${payload.case} instead of a task`);
  return payload.value;
}

export const stateOf = ({ payload }: StreamResponse): TaskState | undefined =>
  payload.case === "task" || payload.case === "statusUpdate" ? payload.value.status?.state : undefined;

/** The AgentCallError with which a call fails. */
export async function failureOf(call: Promise<unknown>): Promise<AgentCallError> {
  const error = await call.then(
    (value) => new Error(`nothing failed: ${JSON.stringify(value)}`),
    (failure) => failure,
  );
  if (!(error instanceof AgentCallError)) throw error;
  return error;
}
