/**
 * Items of streams as readers of A2A 0.3 know them: `kind`, ids and content at the top of the item. They are written beside
 * the keys of 1.0, none of which has the same name, so that readers of either find theirs. From ProtoJSON to JSON; pure.
 */
import type { JsonObject, JsonValue } from "@bufbuild/protobuf";

const STATES: Readonly<Record<string, string>> = {
  TASK_STATE_SUBMITTED: "submitted",
  TASK_STATE_WORKING: "working",
  TASK_STATE_COMPLETED: "completed",
  TASK_STATE_FAILED: "failed",
  TASK_STATE_CANCELED: "canceled",
  TASK_STATE_INPUT_REQUIRED: "input-required",
  TASK_STATE_REJECTED: "rejected",
  TASK_STATE_AUTH_REQUIRED: "auth-required",
};

/** After these a stream of 0.3 says no more: the task has ended, or its client is to answer. */
const FINAL: ReadonlySet<string> = new Set(["completed", "failed", "canceled", "rejected", "input-required"]);

/** How those who translate between the versions mark data that were no object, and so were put into one. */
const WRAPPED_DATA = "data_part_compat";

/** The ProtoJSON of a StreamResponse with the keys of 0.3 after its own, which stay as they are. */
export function withOldKeys(item: JsonValue): JsonValue {
  const { statusUpdate, artifactUpdate, task, message } = item as { [name: string]: JsonObject | undefined };
  const old =
    (statusUpdate && oldStatusUpdate(statusUpdate)) ??
    (artifactUpdate && oldArtifactUpdate(artifactUpdate)) ??
    (task && oldTask(task)) ??
    (message && oldMessage(message));
  return { ...(item as JsonObject), ...old };
}

function oldStatusUpdate({ taskId, contextId, status, metadata }: JsonObject): JsonObject {
  const told = oldStatus(status as JsonObject);
  const final = FINAL.has(told.state as string);
  return known({ kind: "status-update", taskId, contextId, status: told, final, metadata });
}

const oldArtifactUpdate = (update: JsonObject): JsonObject =>
  known({
    kind: "artifact-update",
    taskId: update.taskId,
    contextId: update.contextId,
    artifact: oldArtifact(update.artifact as JsonObject),
    append: update.append ?? false,
    lastChunk: update.lastChunk ?? false,
    metadata: update.metadata,
  });

const oldTask = (task: JsonObject): JsonObject =>
  known({
    kind: "task",
    id: task.id,
    contextId: task.contextId,
    status: oldStatus(task.status as JsonObject),
    artifacts: (task.artifacts as JsonObject[] | undefined)?.map(oldArtifact),
    history: (task.history as JsonObject[] | undefined)?.map(oldMessage),
    metadata: task.metadata,
  });

const oldStatus = ({ state, message, timestamp }: JsonObject): JsonObject =>
  known({
    state: STATES[state as string] ?? "unknown",
    message: message && oldMessage(message as JsonObject),
    timestamp,
  });

const oldMessage = (message: JsonObject): JsonObject => ({
  ...message,
  kind: "message",
  role: message.role === "ROLE_AGENT" ? "agent" : "user",
  parts: oldParts(message),
});

const oldArtifact = (artifact: JsonObject): JsonObject => ({ ...artifact, parts: oldParts(artifact) });

const oldParts = ({ parts }: JsonObject): JsonObject[] => ((parts ?? []) as JsonObject[]).map(oldPart);

function oldPart({ text, raw, url, data, metadata, filename: name, mediaType: mimeType }: JsonObject): JsonObject {
  if (text !== undefined) return known({ kind: "text", text, metadata });
  if (raw !== undefined || url !== undefined) {
    return known({ kind: "file", file: known({ bytes: raw, uri: url, mimeType, name }), metadata });
  }
  if (typeof data === "object" && data !== null && !Array.isArray(data)) return known({ kind: "data", data, metadata });
  return {
    kind: "data",
    data: { value: data ?? null },
    metadata: { ...(metadata as JsonObject | undefined), [WRAPPED_DATA]: true },
  };
}

/** Without the keys that have no value: 0.3 leaves them out. */
const known = (object: { [name: string]: JsonValue | undefined }): JsonObject =>
  Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as JsonObject;
