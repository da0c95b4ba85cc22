/** Writes down what an agent reports of one task, whatever it is, and the failure of the task when that is what it is. */
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import {
  type Message,
  type StreamResponse,
  type Task,
  type TaskArtifactUpdateEvent,
  TaskState,
} from "../../gen/lf/a2a/v1/a2a_pb.ts";
import {
  agentText,
  mentionedTaskIds,
  messageUpdate,
  ownMessage,
  replyUpdate,
  statusUpdate,
  type UpstreamIds,
  updatesFromArtifact,
  updatesFromSnapshot,
  updatesFromStatus,
} from "../domain/agent-report.ts";
import { idViolations } from "../domain/message-rules.ts";
import type { NewUpdate, TaskImage } from "../domain/task-log.ts";
import type { TaskStore } from "../store/task-store.ts";
import { AgentCallError } from "./agent-port.ts";
import type { TaskLog } from "./late-log.ts";
import type { Runtime } from "./runtime.ts";
import { type AppendOptions, LeaseLostError, type TaskWriter, whenDatabaseAnswers } from "./task-writer.ts";

/** Begins the `cause` of a failure whose raw answer the log keeps. */
export const INVALID_ANSWER = "INVALID_AGENT_RESPONSE";

const NO_IDS: UpstreamIds = new Map();
/** Chunks that are held at most while they are being stored, in bytes. */
const MAX_HELD_BYTES = 1024 * 1024;
/** What a chunk and a part of it cost besides what they say. */
const CHUNK_BYTES = 1536;
const PART_BYTES = 256;

export interface ReporterDeps {
  store: TaskStore;
  runtime: Runtime;
  log: TaskLog;
  /**
   * Told the id that the agent gives the task, when it first does; `late` says that the task had ended by then, or was
   * another replica's.
   */
  onNamed: (upstreamTaskId: string, late: boolean) => Promise<void> | void;
}

export interface TaskReporter {
  /** `first` says that the report answers the task's first message. Throws AgentCallError for what is no report of it. */
  report(answer: StreamResponse, first: boolean): Promise<void>;
  /** Resolves when everything that was reported is stored. */
  settled(): Promise<void>;
  /** The agent's task as a whole. `options` of the append, where it is to be one of a kind. */
  reportTask(task: Task, options?: AppendOptions): Promise<void>;
  /** Something to be added to the history, in the agent's name. */
  remark(text: string): Promise<void>;
  /** Sets a status of our own making. `hidden`: for who has not seen the task, it stays unseen. */
  set(state: TaskState, text: string, cause: string, options?: AppendOptions): Promise<void>;
  /** Gives the task up: the agent's answer cannot be had, or is none. */
  failFor(error: AgentCallError): Promise<void>;
}

/** `signal` ends what waits for the database. */
export function createTaskReporter(deps: ReporterDeps, writer: TaskWriter, signal: AbortSignal): TaskReporter {
  const { runtime, store } = deps;
  const now = () => timestampFromDate(runtime.now());
  /** The chunks that are being stored, how heavy they are, and how the storing of one failed. */
  let chunks: Promise<void> = Promise.resolve();
  let heldBytes = 0;
  let failure: { error: unknown } | undefined;

  async function knownIds(report: StreamResponse): Promise<UpstreamIds> {
    const { workspaceId, agentId } = writer.image.header;
    const mentioned = mentionedTaskIds(report);
    if (mentioned.length === 0) return NO_IDS;
    return whenDatabaseAnswers(runtime, signal, () =>
      store.mapTaskIds(workspaceId, agentId, mentioned, "from-upstream"),
    );
  }

  async function write(make: (image: TaskImage) => readonly NewUpdate[], options: AppendOptions = {}): Promise<void> {
    const { upstreamTaskId } = options;
    if (upstreamTaskId === undefined || writer.image.header.upstreamTaskId !== undefined) {
      await writer.append(make, options, signal);
      return;
    }
    try {
      const outcome = await writer.append(make, options, signal);
      await deps.onNamed(upstreamTaskId, outcome === "ended");
    } catch (error) {
      if (error instanceof LeaseLostError) await deps.onNamed(upstreamTaskId, true);
      throw error;
    }
  }

  /** A chunk is stored beside what the agent says next; more than is held at most is waited for. */
  async function writeChunk(event: TaskArtifactUpdateEvent, ids: AppendOptions): Promise<void> {
    const make = (image: TaskImage) => updatesFromArtifact(image, event);
    if (writer.image.header.upstreamTaskId === undefined) return write(make, ids);
    const bytes = weightOf(event);
    heldBytes += bytes;
    chunks = write(make, { ...ids, gather: "chunk" }).then(
      () => {
        heldBytes -= bytes;
      },
      (error: unknown) => {
        heldBytes -= bytes;
        failure ??= { error };
      },
    );
    if (heldBytes > MAX_HELD_BYTES) await settled();
  }

  /** Appends go one after another, so the last chunk is stored after all others. */
  async function settled(): Promise<void> {
    await chunks;
    if (!failure) return;
    const { error } = failure;
    failure = undefined;
    throw error;
  }

  /** The ids of a report, which must be of this task, and such that they can be stored. */
  function identify(taskId: string, contextId: string) {
    const { upstreamTaskId } = writer.image.header;
    const [fault] = [...idViolations("id", taskId), ...idViolations("contextId", contextId)];
    if (fault) {
      throw new AgentCallError(
        "invalid",
        `The agent's task has an ${fault.field} that is none: ${fault.description}.`,
        {
          raw: `${taskId}\n${contextId}`,
        },
      );
    }
    if (upstreamTaskId !== undefined && taskId !== upstreamTaskId) {
      throw new AgentCallError("invalid", "The agent reported on a task that is not the one it was asked about.", {
        raw: `task id "${taskId}" instead of "${upstreamTaskId}"`,
      });
    }
    return { upstreamTaskId: taskId, ...(contextId !== "" && { upstreamContextId: contextId }) };
  }

  /** A bare Message ends the task: as itself while nobody has seen the task, else as the message of COMPLETED. */
  async function reply(message: Message, known: UpstreamIds): Promise<void> {
    const ids = message.contextId === "" ? {} : { upstreamContextId: message.contextId };
    const bare = (image: TaskImage) => [replyUpdate(image.header, message, known)];
    if ((await writer.append(bare, { ...ids, hidden: true }, signal)) !== "disclosed") return;
    await writer.append(
      ({ header }) => {
        const status = { state: TaskState.COMPLETED, timestamp: now(), message: ownMessage(header, message, known) };
        return [statusUpdate(header, status, "the agent answered with a message")];
      },
      ids,
      signal,
    );
  }

  async function report(answer: StreamResponse, first: boolean, options: AppendOptions = {}): Promise<void> {
    const { payload } = answer;
    if (failure) await settled();
    const known = await knownIds(answer);
    switch (payload.case) {
      case "task": {
        const task = payload.value;
        const ids = identify(task.id, task.contextId);
        return write((image) => updatesFromSnapshot(image, task, known, now()), { ...ids, ...options });
      }
      case "statusUpdate": {
        const ids = identify(payload.value.taskId, payload.value.contextId);
        const gather = writer.image.header.upstreamTaskId === undefined ? {} : ({ gather: "last" } as const);
        return write((image) => updatesFromStatus(image, payload.value, known, now()), { ...ids, ...gather });
      }
      case "artifactUpdate": {
        const ids = identify(payload.value.taskId, payload.value.contextId);
        return writeChunk(payload.value, ids);
      }
      case "message":
        if (first) return reply(payload.value, known);
        return write((image) => [messageUpdate(ownMessage(image.header, payload.value, known))]);
      default:
        throw new AgentCallError("invalid", "The agent sent an update that holds nothing.");
    }
  }

  async function set(state: TaskState, text: string, cause: string, options: AppendOptions = {}): Promise<void> {
    const update = ({ header }: TaskImage) => {
      const message = agentText(header, runtime.newId(), text);
      return [statusUpdate(header, { state, timestamp: now(), message }, cause)];
    };
    if (options.hidden === true && (await writer.append(update, options, signal)) !== "disclosed") return;
    await writer.append(update, { ...options, hidden: false }, signal);
  }

  return {
    report,
    settled,
    reportTask: (task, options) =>
      report({ $typeName: "lf.a2a.v1.StreamResponse", payload: { case: "task", value: task } }, false, options),
    remark: (text) => write(({ header }) => [messageUpdate(agentText(header, runtime.newId(), text))]),
    set,
    async failFor(error) {
      deps.log.warn({ err: error, kind: error.kind, reason: error.reason }, "the agent failed the task");
      if (error.kind !== "invalid") return set(TaskState.FAILED, error.message, `${error.kind}: ${error.message}`);
      const raw = error.raw === undefined ? "" : `\n${error.raw}`;
      return set(TaskState.FAILED, error.message, `${INVALID_ANSWER}: ${error.message}${raw}`, { hidden: true });
    },
  };
}

/** About how many bytes of memory a chunk holds. */
function weightOf({ artifact, metadata }: TaskArtifactUpdateEvent): number {
  let bytes = CHUNK_BYTES + sizeOf(metadata) + sizeOf(artifact?.metadata);
  for (const { content, metadata: ofPart } of artifact?.parts ?? []) {
    bytes += PART_BYTES + sizeOf(ofPart);
    bytes += content.case === "data" ? MAX_HELD_BYTES : (content.value?.length ?? 0);
  }
  return bytes;
}

const sizeOf = (struct: object | undefined): number => (struct ? JSON.stringify(struct).length : 0);
