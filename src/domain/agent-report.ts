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
  type Task,
  type TaskArtifactUpdateEvent,
  TaskSchema,
  TaskState,
  type TaskStatus,
  type TaskStatusUpdateEvent,
} from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { cachedFrom } from "./cached-result.ts";
import { givenAgainCause, REPORTED_BY_AGENT } from "./cause.ts";
import { holdsArtifact, type NewUpdate, stateOf, type TaskHeader, type TaskImage } from "./task-log.ts";
import { EngineState, isInterrupted, isTerminal, stateAfterReport } from "./task-state.ts";

/** A status as we write it. */
export interface StatusInit {
  state: TaskState;
  message?: Message;
  timestamp: Timestamp;
}

type Ids = Pick<TaskHeader, "taskId" | "contextId">;

/** Maps ids of an agent's tasks to ours; an id that we do not know is left out of what clients see. */
export type UpstreamIds = ReadonlyMap<string, string>;

/** A status of our own making, such as a failure that the agent could not tell. */
export function statusUpdate(ids: Ids, status: StatusInit, cause?: string): NewUpdate {
  const update: NewUpdate = { kind: "status", body: response(statusEvent(ids, taskStatus(status), undefined)) };
  if (cause !== undefined) update.cause = cause;
  return update;
}

/** A message of a client, as it enters the history. */
export function messageUpdate(message: Message): NewUpdate {
  return { kind: "message", body: response({ case: "message", value: message }) };
}

/** The bare Message with which an agent answered. Its task id is inside the agent; the context is ours. */
export function replyUpdate(ids: Ids, message: Message, known: UpstreamIds): NewUpdate {
  return {
    kind: "reply",
    body: response({ case: "message", value: { ...ownMessage(ids, message, known), taskId: "" } }),
  };
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
  const messages = missedMessages(image, upstream, known, now);
  const updates = messages.updates;
  const status = upstream.status && newStatus(messages.status, header, upstream.status, known, now);
  // What the cache gives is called as our task is; an agent may have its results from a cache of its own.
  const from = upstream.id === header.taskId ? cachedFrom(upstream.metadata) : "";
  const news = status
    ? reportedStatus(header, status, undefined, causeOf(from))
    : takenUp(image, upstream.status?.state);
  // That it works comes before what it has made by now, as in a stream; that it rests, after it.
  const works = upstream.status?.state === TaskState.WORKING;
  if (news && works) updates.push(news);
  const ended = isTerminal(upstream.status?.state ?? TaskState.UNSPECIFIED);
  for (const artifact of upstream.artifacts) {
    // Whether an artifact is whole, a snapshot of a running task does not tell.
    if (!holdsArtifact(image, artifact)) updates.push(artifactUpdate(header, artifact, false, ended, undefined));
  }
  if (upstream.metadata && !equalStructs(upstream.metadata, image.task.metadata)) {
    const value = create(TaskSchema, { metadata: upstream.metadata });
    updates.push({ kind: "metadata", body: response({ case: "task", value }) });
  }
  if (news && !works) updates.push(news);
  return updates;
}

/** In a further attempt, that the agent works is no news to clients, who have seen an earlier one work; the engine notes it. */
function takenUp({ state }: TaskImage, reported: TaskState | undefined): NewUpdate | undefined {
  if (state !== EngineState.ASSIGNED || reported !== TaskState.WORKING) return undefined;
  const body = response({ case: undefined });
  return { kind: "transition", body, state: EngineState.WORKING, cause: REPORTED_BY_AGENT };
}

/**
 * The agent's messages that the image has not heard, and the status that the image has after them. A status message enters
 * the history when the next status comes, so what the agent said after it is written as statuses too: the history keeps
 * the agent's order.
 */
function missedMessages(
  { task, header }: TaskImage,
  upstream: Task,
  known: UpstreamIds,
  timestamp: Timestamp,
): { updates: NewUpdate[]; status: TaskStatus | undefined } {
  const updates: NewUpdate[] = [];
  let { status } = task;
  if (upstream.history.length === 0) return { updates, status };
  const spoken = task.status?.message?.messageId;
  const heard = new Set(task.history.map(({ messageId }) => messageId));
  if (spoken !== undefined) heard.add(spoken);
  if (upstream.status?.message) heard.add(upstream.status.message.messageId);
  let afterSpoken = false;
  for (const message of upstream.history) {
    afterSpoken ||= message.messageId === spoken;
    if (message.role !== Role.AGENT || heard.has(message.messageId)) continue;
    const own = ownMessage(header, message, known);
    if (!afterSpoken) {
      updates.push(messageUpdate(own));
      continue;
    }
    status = taskStatus({ state: TaskState.WORKING, timestamp, message: own });
    updates.push(reportedStatus(header, status, undefined));
  }
  return { updates, status };
}

/** The update that a status event of the agent makes, or none when it may not follow what is known. */
export function updatesFromStatus(
  image: TaskImage,
  event: TaskStatusUpdateEvent,
  known: UpstreamIds,
  now: Timestamp,
): NewUpdate[] {
  const status = event.status && newStatus(image.task.status, image.header, event.status, known, now);
  const update = status ? reportedStatus(image.header, status, event.metadata) : takenUp(image, event.status?.state);
  return update ? [update] : [];
}

/** The update that an artifact event of the agent makes. */
export function updatesFromArtifact(image: TaskImage, event: TaskArtifactUpdateEvent): NewUpdate[] {
  if (isTerminal(stateOf(image)) || !event.artifact) return [];
  const { artifact, append, lastChunk, metadata } = event;
  return [artifactUpdate(image.header, artifact, append, lastChunk, metadata)];
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
  const { length } = message.referenceTaskIds;
  const referenceTaskIds = length === 0 ? [] : message.referenceTaskIds.flatMap((id) => known.get(id) ?? []);
  return { ...message, taskId: ids.taskId, contextId: ids.contextId, referenceTaskIds };
}

/** What an agent says of a failure, with our ids where it names its own. */
export function ownText({ taskId, contextId, upstreamTaskId, upstreamContextId }: TaskHeader, text: string): string {
  return replaceWord(replaceWord(text, upstreamTaskId, taskId), upstreamContextId, contextId);
}

/** Whole words only: an agent may call its task "a". */
function replaceWord(text: string, word: string | undefined, by: string): string {
  if (word === undefined || word.length < SHORTEST_ID) return text;
  return text.replaceAll(new RegExp(`(?<![\\w-])${RegExp.escape(word)}(?![\\w-])`, "g"), () => by);
}

/** What is shorter tells nothing, and is a word of some language. */
const SHORTEST_ID = 3;

/** Ids of the agent's other tasks that a report mentions. */
export function mentionedTaskIds(report: StreamResponse): string[] {
  const { payload } = report;
  if (payload.case === "message") return payload.value.referenceTaskIds;
  if (payload.case === "statusUpdate") return payload.value.status?.message?.referenceTaskIds ?? [];
  if (payload.case !== "task") return [];
  const { history, status } = payload.value;
  const inStatus = status?.message?.referenceTaskIds ?? [];
  return history.length === 0 ? inStatus : [...history.flatMap((m) => m.referenceTaskIds), ...inStatus];
}

/** What a reported status adds to the current one; undefined when it says nothing new, or what may not follow. */
function newStatus(
  current: TaskStatus | undefined,
  ids: Ids,
  reported: TaskStatus,
  known: UpstreamIds,
  timestamp: Timestamp,
): TaskStatus | undefined {
  const state = stateAfterReport(current?.state ?? TaskState.SUBMITTED, reported.state);
  if (state === undefined) return undefined;
  const message = reported.message && ownMessage(ids, reported.message, known);
  const says = message && !(current?.message && equals(MessageSchema, current.message, message));
  if (state === current?.state && !says) return undefined;
  return taskStatus({ state, timestamp, ...(message && { message }) });
}

// What every task comes by is written out as the literal that `create` would make: it is several times as fast.

function taskStatus({ state, timestamp, message }: StatusInit): TaskStatus {
  return { $typeName: "lf.a2a.v1.TaskStatus", state, message, timestamp };
}

function statusEvent({ taskId, contextId }: Ids, status: TaskStatus, metadata: Struct | undefined): Payload {
  return {
    case: "statusUpdate",
    value: { $typeName: "lf.a2a.v1.TaskStatusUpdateEvent", taskId, contextId, status, metadata },
  };
}

function reportedStatus(
  ids: Ids,
  status: TaskStatus,
  metadata: Struct | undefined,
  cause = REPORTED_BY_AGENT,
): NewUpdate {
  return { kind: "status", body: response(statusEvent(ids, status, metadata)), cause };
}

/** The cause of what is the result of another task; undefined where it is of none. */
export const causeOf = (cachedFrom: string): string | undefined =>
  cachedFrom === "" ? undefined : givenAgainCause(cachedFrom);

function artifactUpdate(
  { taskId, contextId }: Ids,
  artifact: Artifact,
  append: boolean,
  lastChunk: boolean,
  metadata: Struct | undefined,
): NewUpdate {
  return {
    kind: "artifact",
    body: response({
      case: "artifactUpdate",
      value: {
        $typeName: "lf.a2a.v1.TaskArtifactUpdateEvent",
        taskId,
        contextId,
        artifact,
        append,
        lastChunk,
        metadata,
      },
    }),
  };
}

function response(payload: Payload): StreamResponse {
  return { $typeName: "lf.a2a.v1.StreamResponse", payload };
}

type Payload = StreamResponse["payload"];
type Struct = NonNullable<Task["metadata"]>;

function equalStructs(a: Struct, b: Struct | undefined): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
