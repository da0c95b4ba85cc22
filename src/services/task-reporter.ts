/** Writes down what an agent reports of one task, whatever it is, and the failure of the task when that is what it is. */
import type { JsonObject } from "@bufbuild/protobuf";
import { type Timestamp, timestampFromDate } from "@bufbuild/protobuf/wkt";
import {
  type Message,
  Role,
  type StreamResponse,
  type Task,
  TaskState,
  type TaskStatus,
  type TaskStatusUpdateEvent,
} from "../../gen/lf/a2a/v1/a2a_pb.ts";
import {
  agentText,
  causeOf,
  mentionedTaskIds,
  messageUpdate,
  ownMessage,
  ownText,
  replyUpdate,
  statusUpdate,
  type UpstreamIds,
  updatesFromArtifact,
  updatesFromSnapshot,
  updatesFromStatus,
} from "../domain/agent-report.ts";
import { cachedFrom } from "../domain/cached-result.ts";
import { failureCause, OUTPUT_SCHEMA } from "../domain/cause.ts";
import { idViolations } from "../domain/message-rules.ts";
import { type Misfit, misfitOfMessage, misfitOfTask } from "../domain/output-check.ts";
import { type NewUpdate, stateBrought, type TaskHeader, type TaskImage } from "../domain/task-log.ts";
import { EngineState } from "../domain/task-state.ts";
import type { TaskStore } from "../store/task-store.ts";
import { AgentCallError } from "./agent-port.ts";
import { whenDatabaseAnswers } from "./database-away.ts";
import { HeldReports } from "./held-reports.ts";
import type { TaskLog } from "./late-log.ts";
import { weightOfChunk, weightOfStatus, weightOfTask } from "./report-weight.ts";
import type { Runtime } from "./runtime.ts";
import type { AppendOptions, MakeUpdates } from "./task-append.ts";
import { LeaseLostError, type TaskWriter } from "./task-writer.ts";

/** What is kept of an agent's reason for a failure that is not the end, in characters. */
const MAX_REASON = 512;

const NO_IDS: UpstreamIds = new Map();

export interface ReporterDeps {
  store: TaskStore;
  runtime: Runtime;
  log: TaskLog;
  /** JSON Schema that the data parts of the agent's answer must fit. */
  outputSchema?: JsonObject | undefined;
  /**
   * Told the id that the agent gives the task, when it first does; `late` says that the task had ended by then, or was
   * another replica's.
   */
  onNamed: (upstreamTaskId: string, late: boolean) => Promise<void> | void;
  /**
   * Asked when the agent says that it failed the task, with what it says of that. True: another agent has it next, and
   * nothing of this is written down.
   */
  onAgentFailed?: (why: string) => Promise<boolean>;
  /** Told that something could not be stored that nobody waited for. It is thrown to whoever reports next, or settles. */
  onFailure: (error: unknown) => void;
}

/** Whether a report is older than what has been written of the task since it was asked for. */
export type IsStale = (image: TaskImage) => boolean;

export interface TaskReporter {
  /**
   * `first` says that the report answers the task's first message. Resolves when more can be heard: what leaves the task at
   * work is stored beside what the agent says next, everything else by then. Throws AgentCallError for what is no report.
   * A task that is stale when it would be written is not.
   */
  report(answer: StreamResponse, first: boolean, isStale?: IsStale): Promise<void>;
  /** Resolves when everything that was reported is stored, and the agent that named a task too late has been told. */
  settled(): Promise<void>;
  /**
   * Stores what the agent's task says as a whole, unless it is stale when it would be written. `options` of the append, where it
   * is to be one of a kind: a failure is then the end of the task.
   */
  reportTask(task: Task, how?: { options?: AppendOptions; isStale?: IsStale }): Promise<void>;
  /** Stores a bare Message with which the agent answered the first one. */
  reportReply(message: Message): Promise<void>;
  /** What the agent calls the task, if it was told here first. */
  readonly name: string | undefined;
  /** Something to be added to the history, in the agent's name. */
  remark(text: string): Promise<void>;
  /** Sets a status of our own making. `hidden`: for who has not seen the task, it stays unseen. */
  set(state: TaskState, text: string, cause: string, options?: AppendOptions): Promise<void>;
  /** Gives the task up: the agent's answer cannot be had, or is none. */
  failFor(error: AgentCallError): Promise<void>;
}

/** `signal` ends what waits for the database. */
export const createTaskReporter = (deps: ReporterDeps, writer: TaskWriter, signal: AbortSignal): TaskReporter =>
  new Reporter(deps, writer, signal);

class Reporter implements TaskReporter {
  readonly #deps: ReporterDeps;
  readonly #writer: TaskWriter;
  readonly #signal: AbortSignal;
  /** Known here before it is stored. */
  name: string | undefined;
  /** What is being stored while the agent is heard on. */
  readonly #held: HeldReports;

  constructor(deps: ReporterDeps, writer: TaskWriter, signal: AbortSignal) {
    this.#deps = deps;
    this.#writer = writer;
    this.#signal = signal;
    this.#held = new HeldReports(deps);
  }

  async report(answer: StreamResponse, first: boolean, isStale?: IsStale): Promise<void> {
    if (this.#held.hasFailed) await this.settled();
    const mentioned = mentionedTaskIds(answer);
    const known = mentioned.length === 0 ? NO_IDS : await this.#knownIds(mentioned);
    const { payload } = answer;
    if (isFailure(payload) && (await this.#goesElsewhere(payload.value))) return;
    switch (payload.case) {
      case "task":
        return this.#hear(
          payload.value.status,
          weightOfTask(payload.value),
          this.#task(payload.value, known, { isStale }),
        );
      case "statusUpdate": {
        const event = payload.value;
        const make = (image: TaskImage) => this.#fitting(image, updatesFromStatus(image, event, known, this.#now()));
        const bytes = weightOfStatus(event);
        // What is to be looked at as a whole is written alone.
        const isJudged = this.#deps.outputSchema !== undefined && event.status?.state === TaskState.COMPLETED;
        const ids = this.#identify(event.taskId, event.contextId);
        const written = this.#write(make, isJudged ? ids : { ...ids, gather: "status" });
        return this.#hear(event.status, bytes, written);
      }
      case "artifactUpdate": {
        const event = payload.value;
        const make = (image: TaskImage) => updatesFromArtifact(image, event);
        const bytes = weightOfChunk(event);
        const written = this.#write(make, { ...this.#identify(event.taskId, event.contextId), gather: "chunk" });
        return this.#held.hold(bytes, written);
      }
      case "message": {
        const message = payload.value;
        if (first) return this.#reply(message, known);
        // Whoever it says it is: what comes from here is the agent's.
        const said = { ...message, role: Role.AGENT };
        return this.#write((image) => [messageUpdate(ownMessage(image.header, said, known))], { by: "agent" });
      }
      default:
        throw new AgentCallError("invalid", "The agent sent an update that holds nothing.");
    }
  }

  settled(): Promise<void> {
    return this.#held.settled();
  }

  async reportTask(
    task: Task,
    { options, isStale }: { options?: AppendOptions; isStale?: IsStale } = {},
  ): Promise<void> {
    if (this.#held.hasFailed) await this.settled();
    if (!options && task.status?.state === TaskState.FAILED && (await this.#goesElsewhere(task))) return;
    const mentioned = mentionedTaskIds({
      $typeName: "lf.a2a.v1.StreamResponse",
      payload: { case: "task", value: task },
    });
    const known = mentioned.length === 0 ? NO_IDS : await this.#knownIds(mentioned);
    await this.#task(task, known, { options: options ?? {}, isStale });
  }

  async reportReply(message: Message): Promise<void> {
    const { referenceTaskIds } = message;
    await this.#reply(message, referenceTaskIds.length === 0 ? NO_IDS : await this.#knownIds(referenceTaskIds));
  }

  remark(text: string): Promise<void> {
    return this.#write(({ header }) => [messageUpdate(this.#text(header, text))], {});
  }

  async set(state: TaskState, text: string, cause: string, options: AppendOptions = {}): Promise<void> {
    const update = ({ header }: TaskImage) => [
      statusUpdate(header, { state, timestamp: this.#now(), message: this.#text(header, text) }, cause),
    ];
    const hidden = options.hidden === true;
    if (hidden && (await this.#writer.append(update, options, this.#signal)) !== "disclosed") return;
    await this.#writer.append(update, { ...options, hidden: false }, this.#signal);
  }

  async failFor(error: AgentCallError): Promise<void> {
    this.#deps.log.warn({ err: error, kind: error.kind, reason: error.reason }, "the agent failed the task");
    const cause = failureCause(error);
    if (error.kind !== "invalid") return this.set(TaskState.FAILED, error.message, cause);
    const raw = error.raw === undefined ? "" : `\n${error.raw}`;
    return this.set(TaskState.FAILED, error.message, `${cause}${raw}`, { hidden: true });
  }

  // --- what is heard, and what is held meanwhile

  /** Whether another agent has the task next, which this one says it failed. */
  async #goesElsewhere({ contextId, status, ...event }: Task | TaskStatusUpdateEvent): Promise<boolean> {
    if (!this.#deps.onAgentFailed) return false;
    this.#identify("id" in event ? event.id : event.taskId, contextId);
    await this.settled();
    const texts = status?.message?.parts.flatMap(({ content }) => (content.case === "text" ? content.value : [])) ?? [];
    return this.#deps.onAgentFailed(ownText(this.#writer.image.header, texts.join(" ").slice(0, MAX_REASON)));
  }

  /** Holds what leaves the task at work, and waits for the storing of everything else. */
  async #hear(status: TaskStatus | undefined, bytes: number, written: Promise<void>): Promise<void> {
    if (isAtWork(status?.state)) return this.#held.hold(bytes, written);
    await written;
    await this.settled();
  }

  #task(task: Task, known: UpstreamIds, how: { options?: AppendOptions; isStale: IsStale | undefined }): Promise<void> {
    const { options, isStale } = how;
    const make = (image: TaskImage) =>
      isStale?.(image) ? [] : this.#fitting(image, updatesFromSnapshot(image, task, known, this.#now()));
    return this.#write(make, { ...this.#identify(task.id, task.contextId), ...(options ?? { gather: "task" }) });
  }

  /** A bare Message ends the task: as itself while nobody has seen the task, else as the message of COMPLETED. */
  async #reply(message: Message, known: UpstreamIds): Promise<void> {
    const { outputSchema } = this.#deps;
    const misfit = outputSchema && misfitOfMessage(outputSchema, message);
    if (misfit) return this.set(TaskState.FAILED, misfit.text, this.#causeOf(misfit));
    const ids: AppendOptions = {
      by: "agent",
      ...(message.contextId !== "" && { upstreamContextId: message.contextId }),
    };
    // The cache gives a message without a context.
    const cause = message.contextId === "" ? causeOf(cachedFrom(message.metadata)) : undefined;
    const bare = ({ header }: TaskImage) => [{ ...replyUpdate(header, message, known), ...(cause && { cause }) }];
    if ((await this.#writer.append(bare, { ...ids, hidden: true }, this.#signal)) !== "disclosed") return;
    const completed = ({ header }: TaskImage) => {
      const own = ownMessage(header, message, known);
      const status = { state: TaskState.COMPLETED, timestamp: this.#now(), message: own };
      return [statusUpdate(header, status, cause ?? "the agent answered with a message")];
    };
    await this.#writer.append(completed, ids, this.#signal);
  }

  /** Updates that would complete the task with what breaks the output schema fail it instead. */
  #fitting(image: TaskImage, updates: readonly NewUpdate[]): readonly NewUpdate[] {
    const { outputSchema } = this.#deps;
    const misfit = outputSchema && misfitOfTask(outputSchema, image, updates);
    if (!misfit) return updates;
    const { header } = image;
    const message = this.#text(header, misfit.text);
    const failed = { state: TaskState.FAILED, timestamp: this.#now(), message };
    const update = statusUpdate(header, failed, this.#causeOf(misfit));
    return updates.map((each) => (stateBrought(each) === EngineState.COMPLETED ? update : each));
  }

  #causeOf({ text, raw }: Misfit): string {
    this.#deps.log.warn({ reason: OUTPUT_SCHEMA, why: text }, "what the agent gives does not fit its output schema");
    return `${OUTPUT_SCHEMA}: ${text}\n${raw}`;
  }

  // --- writing

  async #write(make: MakeUpdates, options: AppendOptions): Promise<void> {
    const { upstreamTaskId } = options;
    if (upstreamTaskId === undefined || this.#upstreamTaskId !== undefined) {
      await this.#writer.append(make, options, this.#signal);
      return;
    }
    this.name = upstreamTaskId;
    try {
      const outcome = await this.#writer.append(make, options, this.#signal);
      await this.#deps.onNamed(upstreamTaskId, outcome === "ended");
    } catch (error) {
      if (error instanceof LeaseLostError) await this.#deps.onNamed(upstreamTaskId, true);
      throw error;
    }
  }

  get #upstreamTaskId(): string | undefined {
    return this.#writer.image.header.upstreamTaskId ?? this.name;
  }

  /** The ids of a report, which must be of this task, and such that they can be stored. */
  #identify(taskId: string, contextId: string): AppendOptions {
    const named = this.#upstreamTaskId;
    // What was looked at once need not be looked at again.
    if (taskId !== named || contextId !== this.#writer.image.header.upstreamContextId) {
      const [fault] = [...idViolations("id", taskId), ...idViolations("contextId", contextId)];
      if (fault) {
        const text = `The agent's task has an ${fault.field} that is none: ${fault.description}.`;
        throw new AgentCallError("invalid", text, { raw: `${taskId}\n${contextId}` });
      }
    }
    if (named !== undefined && taskId !== named) {
      throw new AgentCallError("invalid", "The agent reported on a task that is not the one it was asked about.", {
        raw: `task id "${taskId}" instead of "${named}"`,
      });
    }
    return { by: "agent", upstreamTaskId: taskId, ...(contextId !== "" && { upstreamContextId: contextId }) };
  }

  #knownIds(mentioned: readonly string[]): Promise<UpstreamIds> {
    const { workspaceId, agentId } = this.#writer.image.header;
    const { store, runtime } = this.#deps;
    return whenDatabaseAnswers(runtime, this.#signal, () =>
      store.mapTaskIds(workspaceId, agentId, mentioned, "from-upstream"),
    );
  }

  #text(header: TaskHeader, text: string): Message {
    return agentText(header, this.#deps.runtime.newId(), text);
  }

  #now(): Timestamp {
    return timestampFromDate(this.#deps.runtime.now());
  }
}

type Payload = StreamResponse["payload"];

function isFailure(payload: Payload): payload is Extract<Payload, { case: "task" | "statusUpdate" }> {
  return (
    (payload.case === "statusUpdate" || payload.case === "task") && payload.value.status?.state === TaskState.FAILED
  );
}

const isAtWork = (state: TaskState | undefined): boolean =>
  state === TaskState.WORKING || state === TaskState.SUBMITTED || state === undefined;
