/**
 * What an agent reports, made into updates of our log: its ids become ours, and a report that says nothing new makes no
 * update. A broken stream can therefore be healed with a snapshot at any moment. Pure.
 */
import { create, equals } from "@bufbuild/protobuf";
import type { Timestamp } from "@bufbuild/protobuf/wkt";
import {
  type Artifact,
  type Message,
  MessageSchema,
  Role,
  type StreamResponse,
  StreamResponseSchema,
  type Task,
  type TaskArtifactUpdateEvent,
  TaskArtifactUpdateEventSchema,
  TaskSchema,
  type TaskState,
  type TaskStatus,
  type TaskStatusUpdateEvent,
  TaskStatusUpdateEventSchema,
} from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { holdsArtifact, type NewUpdate, stateOf, type TaskHeader, type TaskImage } from "./task-log.ts";
import { isInterrupted, isTerminal, stateAfterReport } from "./task-state.ts";

type Ids = Pick<TaskHeader, "taskId" | "contextId">;

/** Maps ids of an agent's tasks to ours; an id that we do not know is left out of what clients see. */
export type UpstreamIds = ReadonlyMap<string, string>;

/** A status of our own making, such as a failure that the agent could not tell. */
export function statusUpdate(
  ids: Ids,
  status: { state: TaskState; message?: Message; timestamp: Timestamp },
  cause?: string,
): NewUpdate {
  const value = create(TaskStatusUpdateEventSchema, { taskId: ids.taskId, contextId: ids.contextId, status });
  return { kind: "status", body: response("statusUpdate", value), ...(cause !== undefined && { cause }) };
}

/** A message of a client, as it enters the history. */
export function messageUpdate(message: Message): NewUpdate {
  return { kind: "message", body: response("message", message) };
}

/** The bare Message with which an agent answered. Its task id is inside the agent; the context is ours. */
export function replyUpdate(ids: Ids, message: Message, known: UpstreamIds): NewUpdate {
  return { kind: "reply", body: response("message", { ...ownMessage(ids, message, known), taskId: "" }) };
}

/** A message as the text of a status. */
export function agentText(ids: Ids, messageId: string, text: string): Message {
  return create(MessageSchema, {
    messageId,
    taskId: ids.taskId,
    contextId: ids.contextId,
    role: Role.AGENT,
    parts: [{ content: { case: "text", value: text } }],
  });
}

/** The updates that bring an image to what a snapshot of the agent's task says. Empty when it says nothing new. */
export function updatesFromSnapshot(image: TaskImage, upstream: Task, known: UpstreamIds, now: Timestamp): NewUpdate[] {
  const { header } = image;
  if (isTerminal(stateOf(image))) return [];
  const updates: NewUpdate[] = [];
  const seen = new Set(image.task.history.map((message) => message.messageId));
  if (image.task.status?.message) seen.add(image.task.status.message.messageId);
  if (upstream.status?.message) seen.add(upstream.status.message.messageId);
  for (const message of upstream.history) {
    if (message.role !== Role.AGENT || seen.has(message.messageId)) continue;
    updates.push(messageUpdate(ownMessage(header, message, known)));
  }
  for (const artifact of upstream.artifacts) {
    if (!holdsArtifact(image, artifact))
      updates.push(artifactUpdate(header, { artifact, append: false, lastChunk: true }));
  }
  if (upstream.metadata && !equalStructs(upstream.metadata, image.task.metadata)) {
    updates.push({ kind: "metadata", body: response("task", create(TaskSchema, { metadata: upstream.metadata })) });
  }
  const status = upstream.status && newStatus(image, upstream.status, known, now);
  if (status) updates.push(statusEvent(header, { status }));
  return updates;
}

/** The update that a status event of the agent makes, or none when it may not follow what is known. */
export function updatesFromStatus(
  image: TaskImage,
  event: TaskStatusUpdateEvent,
  known: UpstreamIds,
  now: Timestamp,
): NewUpdate[] {
  const status = event.status && newStatus(image, event.status, known, now);
  if (!status) return [];
  return [statusEvent(image.header, { status, ...(event.metadata && { metadata: event.metadata }) })];
}

/** The update that an artifact event of the agent makes. */
export function updatesFromArtifact(image: TaskImage, event: TaskArtifactUpdateEvent): NewUpdate[] {
  if (isTerminal(stateOf(image)) || !event.artifact) return [];
  const { artifact, append, lastChunk, metadata } = event;
  return [artifactUpdate(image.header, { artifact, append, lastChunk, ...(metadata && { metadata }) })];
}

/**
 * Whether a report shows the task as it stood before the client's answer. Agents may begin the stream that answers a
 * message with the task as they have it (section 3.1.2), which then still waits for that very message.
 */
export function repeatsQuestion(image: TaskImage, { payload }: StreamResponse): boolean {
  if (payload.case !== "task" || !payload.value.status || !isInterrupted(payload.value.status.state)) return false;
  const question = payload.value.status.message;
  return !question || image.task.history.some(({ messageId }) => messageId === question.messageId);
}

/** A message with our ids in place of the agent's. Everything else stays as it was said. */
export function ownMessage(ids: Ids, message: Message, known: UpstreamIds): Message {
  const referenceTaskIds = message.referenceTaskIds.flatMap((id) => known.get(id) ?? []);
  return { ...message, taskId: ids.taskId, contextId: ids.contextId, referenceTaskIds };
}

/** What an agent says of a failure, with our ids where it names its own. */
export function ownText({ taskId, contextId, upstreamTaskId, upstreamContextId }: TaskHeader, text: string): string {
  const named = upstreamTaskId ? text.replaceAll(upstreamTaskId, taskId) : text;
  return upstreamContextId ? named.replaceAll(upstreamContextId, contextId) : named;
}

/** Ids of the agent's other tasks that a report mentions. */
export function mentionedTaskIds(report: StreamResponse): string[] {
  const { payload } = report;
  if (payload.case === "message") return payload.value.referenceTaskIds;
  if (payload.case === "statusUpdate") return payload.value.status?.message?.referenceTaskIds ?? [];
  if (payload.case !== "task") return [];
  const { history, status } = payload.value;
  return [...history.flatMap((m) => m.referenceTaskIds), ...(status?.message?.referenceTaskIds ?? [])];
}

function newStatus(
  image: TaskImage,
  reported: TaskStatus,
  known: UpstreamIds,
  timestamp: Timestamp,
): { state: TaskState; message?: Message; timestamp: Timestamp } | undefined {
  const state = stateAfterReport(stateOf(image), reported.state);
  if (state === undefined) return undefined;
  const message = reported.message && ownMessage(image.header, reported.message, known);
  const current = image.task.status;
  const says = message && !(current?.message && equals(MessageSchema, current.message, message));
  if (state === current?.state && !says) return undefined;
  return { state, timestamp, ...(message && { message }) };
}

function statusEvent(
  ids: Ids,
  init: { status: { state: TaskState; message?: Message; timestamp: Timestamp }; metadata?: Struct },
): NewUpdate {
  const value = create(TaskStatusUpdateEventSchema, { taskId: ids.taskId, contextId: ids.contextId, ...init });
  return { kind: "status", body: response("statusUpdate", value) };
}

function artifactUpdate(
  ids: Ids,
  init: { artifact: Artifact; append: boolean; lastChunk: boolean; metadata?: Struct },
): NewUpdate {
  const value = create(TaskArtifactUpdateEventSchema, { taskId: ids.taskId, contextId: ids.contextId, ...init });
  return { kind: "artifact", body: response("artifactUpdate", value) };
}

type Struct = NonNullable<Task["metadata"]>;

function equalStructs(a: Struct, b: Struct | undefined): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

function response<K extends "message" | "statusUpdate" | "artifactUpdate" | "task">(
  kind: K,
  value: Extract<StreamResponse["payload"], { case: K }>["value"],
): StreamResponse {
  return create(StreamResponseSchema, { payload: { case: kind, value } as StreamResponse["payload"] });
}
