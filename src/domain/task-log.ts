/**
 * The update log of a task, and the Task that follows from it. Everything that happened to a task is one row of the log;
 * a Task, at any moment, is the fold of its rows up to that moment. Pure: no clock, no I/O.
 */
import { equals } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import {
  type Artifact,
  ArtifactSchema,
  type Message,
  MessageSchema,
  type StreamResponse,
  type Task,
  type TaskArtifactUpdateEvent,
  TaskState,
  type TaskStatusUpdateEvent,
} from "../../gen/lf/a2a/v1/a2a_pb.ts";
import type { BudgetHold, TaskParent } from "./budget/hold.ts";
import type { Priority } from "./priority.ts";
import { EngineState, engineState, isLeased } from "./task-state.ts";

/**
 * What a row of the log is.
 * - `message`: a message that entered the history; watchers do not see it as an update.
 * - `status`, `artifact`: an update as watchers see it.
 * - `reply`: the bare Message with which an agent answered instead of a task.
 * - `metadata`: the task's metadata were replaced; the body is a Task that holds nothing else.
 * - `transition`: the engine did something that clients do not see; the body is empty.
 */
export type UpdateKind = "message" | "status" | "artifact" | "reply" | "metadata" | "transition";

/** An update that has no number yet. */
export interface NewUpdate {
  kind: UpdateKind;
  body: StreamResponse;
  /** The engine's state that it brings, where the body does not tell: on the first row, and on a `transition`. */
  state?: EngineState;
  /**
   * Who or what caused it and why, for operators; no part of what A2A clients get. One line, which TaskService shows. Lines
   * after it, as the raw text of an agent's rubbish, stay in the database.
   */
  cause?: string;
}

/** A row of the log. Numbers begin at 1 and have no gaps. */
export interface TaskUpdate extends NewUpdate {
  seq: number;
}

/** What the first message of a task is delivered with, whenever and by whatever replica that happens. */
export interface Delivery {
  acceptedOutputModes?: readonly string[];
  /** Metadata of the client's request, sent on untouched. */
  metadata?: Record<string, unknown>;
  /** Extension URIs that the client named. */
  extensions?: readonly string[];
  /** The tasks that the message refers to and its sender may see: of others the agent is not told by its own names. Left out: none. */
  references?: readonly string[];
  /** W3C trace context of the request. */
  traceparent?: string;
}

export { PRIORITIES, type Priority } from "./priority.ts";

/** Who had a task before it went to another agent, and what its client asked for. */
export interface TaskOrigin {
  /** All of them, the first one first. None where the first agent has it for something else than was asked for. */
  agentIds: readonly string[];
  /** The capability that it was given to by its client; undefined when it was given to the first agent itself. Never so without earlier agents. */
  capabilityId: string | undefined;
}

/** What is known of a task besides its log. */
export interface TaskHeader {
  workspaceId: string;
  taskId: string;
  contextId: string;
  /** The principal that it belongs to; undefined for one of before principals were known, which is anonymous's. */
  owner: string | undefined;
  /** Who has it now. */
  agentId: string;
  /** The capability for which its agent has it; undefined when it was given to the agent itself. */
  capabilityId: string | undefined;
  /** Undefined as long as the task is with its first agent for what its client asked for. */
  origin?: TaskOrigin | undefined;
  createdAt: Date;
  /** Whether a client may have seen the task's id. Until then it is hidden from Get and List. */
  disclosed: boolean;
  /** Whether push notification configs exist. */
  hasPush: boolean;
  /** The agent's own ids, once they are known. They never leave the router. */
  upstreamTaskId: string | undefined;
  upstreamContextId: string | undefined;
  priority: Priority;
  /** The fencing token. Every write names it; who takes the task over makes it greater. */
  fence: number;
  /** The replica that has the task; undefined while it waits, for a replica or for its client, and when it has ended. */
  leaseOwner: string | undefined;
  /** How many times its first message was, or is about to be, brought to the agent. */
  attempt: number;
  /** When the task fails if it has not ended. */
  deadlineAt: Date | undefined;
  /** What it holds of budgets until it ends; left out, nothing. */
  holds?: readonly BudgetHold[] | undefined;
  /** The task on whose behalf it was sent. */
  parent?: TaskParent | undefined;
  delivery: Delivery;
}

/** A task as it stands at `seq`. */
export interface TaskImage {
  header: TaskHeader;
  seq: number;
  state: EngineState;
  /** With our ids, its whole history and all artifacts. */
  task: Task;
  /** The bare Message that ended it, if one did. */
  reply: Message | undefined;
}

/** Every agent that has had a task, the first one first. */
export const agentsOf = ({ origin, agentId }: TaskHeader): string[] => [...(origin?.agentIds ?? []), agentId];

/** The capability that its client gave a task to; undefined when it was given to an agent itself. */
export const givenCapabilityId = ({ origin, capabilityId }: TaskHeader): string | undefined =>
  origin ? origin.capabilityId : capabilityId;

/**
 * The capability for which its agent has a task: where it was given to it by a fallback chain that names it alone, the one that
 * its client gave the task to.
 */
export const heldForCapabilityId = ({ origin, capabilityId }: TaskHeader): string | undefined =>
  capabilityId ?? origin?.capabilityId;

/** The image of a task of which nothing but its creation is known. */
export function newImage(header: TaskHeader): TaskImage {
  const task: Task = {
    $typeName: "lf.a2a.v1.Task",
    id: header.taskId,
    contextId: header.contextId,
    status: {
      $typeName: "lf.a2a.v1.TaskStatus",
      state: TaskState.SUBMITTED,
      timestamp: timestampFromDate(header.createdAt),
    },
    artifacts: [],
    history: [],
  };
  return { header, seq: 0, state: EngineState.QUEUED, task, reply: undefined };
}

/** The image that follows from the log's rows, which must be in order and begin at 1. */
export function foldTask(header: TaskHeader, updates: Iterable<TaskUpdate>): TaskImage {
  const image = newImage(header);
  for (const update of updates) applyUpdate(image, update);
  return image;
}

/** An image that moves on by itself. Nothing that either changes in place is the other's too. */
export function copyImage(image: TaskImage): TaskImage {
  const { task } = image;
  const artifacts = task.artifacts.map((artifact) => ({ ...artifact, parts: [...artifact.parts] }));
  return { ...image, header: { ...image.header }, task: { ...task, history: [...task.history], artifacts } };
}

/** Carries an image on by one row. Changes it in place. */
export function applyUpdate(image: TaskImage, update: TaskUpdate): void {
  if (update.seq !== image.seq + 1) {
    throw new Error(`update ${update.seq} does not follow ${image.seq} of task ${image.header.taskId}`);
  }
  image.seq = update.seq;
  image.state = stateBrought(update) ?? image.state;
  const { task } = image;
  const payload = update.body.payload;
  switch (payload.case) {
    case "message":
      if (update.kind === "reply") {
        image.reply = payload.value;
        task.status = {
          $typeName: "lf.a2a.v1.TaskStatus",
          state: TaskState.COMPLETED,
          timestamp: task.status?.timestamp,
        };
      } else {
        task.history.push(payload.value);
      }
      return;
    case "statusUpdate":
      applyStatus(task, payload.value);
      return;
    case "artifactUpdate":
      applyArtifact(task, payload.value);
      return;
    case "task":
      if (payload.value.metadata) task.metadata = payload.value.metadata;
      return;
  }
}

/** The engine's state that an update brings, if it brings one. */
export function stateBrought({ kind, body: { payload }, state }: NewUpdate): EngineState | undefined {
  if (state !== undefined) return state;
  if (kind === "reply") return EngineState.COMPLETED;
  const status = payload.case === "statusUpdate" ? payload.value.status : undefined;
  return status && engineState(status.state);
}

/** Gives a task its next status. A status message that is superseded becomes history: nothing an agent said is lost. */
export function applyStatus(task: Task, { status }: TaskStatusUpdateEvent): void {
  const spoken = task.status?.message;
  // An agent may say again what it said before, such as the question that it still waits with.
  const heard =
    spoken && task.history.some((m) => m.messageId === spoken.messageId && equals(MessageSchema, m, spoken));
  if (spoken && !heard) task.history.push(spoken);
  if (status) task.status = status;
}

/** Adds an artifact to a task, replaces it, or adds a chunk to it (section 4.2.2). */
export function applyArtifact(task: Task, { artifact, append }: TaskArtifactUpdateEvent): void {
  if (!artifact) return;
  const places = placesIn(task.artifacts);
  const place = places.get(artifact.artifactId);
  const known = place === undefined ? undefined : task.artifacts[place];
  if (known && append) {
    // The specification's rule: a chunk adds parts; what else it carries replaces what was there.
    for (const part of artifact.parts) known.parts.push(part);
    if (artifact.name) known.name = artifact.name;
    if (artifact.description) known.description = artifact.description;
    if (artifact.extensions.length > 0) known.extensions = artifact.extensions;
    if (artifact.metadata) known.metadata = { ...known.metadata, ...artifact.metadata };
    return;
  }
  // A copy, because chunks are added to it in place and the update itself is shared.
  const owned = { ...artifact, parts: [...artifact.parts] };
  if (place === undefined) places.set(artifact.artifactId, task.artifacts.push(owned) - 1);
  else task.artifacts[place] = owned;
}

/** Where each artifact of a list stands: a task may have tens of thousands, and each is looked for. */
const placesOfArtifacts = new WeakMap<readonly Artifact[], Map<string, number>>();

function placesIn(artifacts: readonly Artifact[]): Map<string, number> {
  const known = placesOfArtifacts.get(artifacts);
  if (known?.size === artifacts.length) return known;
  const places = new Map(artifacts.map(({ artifactId }, place) => [artifactId, place]));
  placesOfArtifacts.set(artifacts, places);
  return places;
}

export interface TaskView {
  /** Unset: all. 0: none, and the field is absent. N: the N latest, in order (section 3.2.4). */
  historyLength?: number | undefined;
  /** Unset: true. */
  includeArtifacts?: boolean;
}

/** The Task as a client asked to see it. Shares what it shows with the image: encode it before the image moves on. */
export function viewTask(image: TaskImage, view: TaskView = {}): Task {
  const { task } = image;
  const { historyLength, includeArtifacts = true } = view;
  const history =
    historyLength === undefined ? [...task.history] : historyLength <= 0 ? [] : task.history.slice(-historyLength);
  return { ...task, history, artifacts: includeArtifacts ? [...task.artifacts] : [] };
}

/** The state of an image's task, as clients see it. */
export const stateOf = (image: TaskImage): TaskState => image.task.status?.state ?? TaskState.SUBMITTED;

/** Whether nothing is to be done for a task at the moment: it has ended, waits for its client, or is not due. */
export const isAtRest = ({ state }: TaskImage): boolean => !isLeased(state);

/** Whether the image already holds exactly this artifact. */
export function holdsArtifact({ task: { artifacts } }: TaskImage, artifact: Artifact): boolean {
  const known = artifacts[placesIn(artifacts).get(artifact.artifactId) ?? -1];
  return known !== undefined && equals(ArtifactSchema, known, artifact);
}
