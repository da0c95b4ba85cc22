/** Items of a stream in ProtoJSON, whose client named the extension that numbers them. */
import { fromJson, type JsonObject, type JsonValue } from "@bufbuild/protobuf";
import { type StreamResponse, StreamResponseSchema, type Task } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { applyArtifact, applyStatus } from "../../src/domain/task-log.ts";

export const EXTENSION = "urn:signalbox:a2a:updates:v1";

/** An item, without its number. */
export interface NumberedItem {
  sequence: number;
  response: StreamResponse;
}

/** Throws for an item that does not say its number. */
export function numbered(json: JsonValue): NumberedItem {
  const [body] = Object.values(json as Record<string, { metadata: Record<string, JsonObject> }>);
  const sequence = body?.metadata?.[EXTENSION]?.sequence;
  if (typeof sequence !== "string") throw new Error(`an item without a number: ${JSON.stringify(json)}`);
  const response = fromJson(StreamResponseSchema, json);
  const { metadata } = response.payload.value!;
  delete metadata![EXTENSION];
  if (Object.keys(metadata!).length === 0) delete response.payload.value!.metadata;
  return { sequence: Number(sequence), response };
}

/** The task with which a stream begins. */
export function taskOf({ response: { payload } }: NumberedItem): Task {
  if (payload.case !== "task") throw new Error(`a ${payload.case} came where a task was expected`);
  return payload.value;
}

/** What a client makes of a task by an update of it. */
export function follow(task: Task, { response: { payload } }: NumberedItem): void {
  if (payload.case === "statusUpdate") applyStatus(task, payload.value);
  else if (payload.case === "artifactUpdate") applyArtifact(task, payload.value);
  else throw new Error(`a ${payload.case} came where an update was expected`);
}
