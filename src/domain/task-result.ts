/** What came of a message, in a form in which two agents' answers can be compared. Pure. */
import { type JsonValue, toJson } from "@bufbuild/protobuf";
import { type Message, type Part, PartSchema, type Task, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { canonicalDigest } from "./canonical-json.ts";
import { stateName } from "./task-state.ts";

/** A task, or the bare Message with which an agent answered. */
export type TaskResult = { readonly message: Message } | { readonly task: Task };

/**
 * Digest of a result: SHA-256 over canonical JSON (RFC 8785) of the state, the parts of each artifact, and those of the last
 * message. Ids, names and times are an agent's own and count for nothing, nor does it where a text was cut into chunks. A bare
 * Message is as good as a task that was completed with that message. Throws RangeError for parts that are no JSON.
 */
export function resultDigest(result: TaskResult): string {
  const isTask = "task" in result;
  const last = isTask ? result.task.status?.message : result.message;
  const value: JsonValue = {
    state: stateName(isTask ? (result.task.status?.state ?? TaskState.UNSPECIFIED) : TaskState.COMPLETED),
    artifacts: isTask ? result.task.artifacts.map(({ parts }) => wholeParts(parts)) : [],
    message: wholeParts(last?.parts ?? []),
  };
  return canonicalDigest(value).toString("hex");
}

/** Parts as JSON. Texts that follow each other, and say nothing else of themselves, are one text. */
function wholeParts(parts: readonly Part[]): JsonValue[] {
  const whole: JsonValue[] = [];
  let text: { text: string } | undefined;
  for (const part of parts) {
    const { content, metadata, filename, mediaType } = part;
    const isPlain = content.case === "text" && !metadata && filename === "" && mediaType === "";
    if (isPlain && text) {
      text.text += content.value;
      continue;
    }
    text = isPlain ? { text: content.value } : undefined;
    whole.push(text ?? toJson(PartSchema, part));
  }
  return whole;
}
