/**
 * Carries one task through its agent: delivers messages, writes down what the agent reports, and heals what breaks on the
 * way (subscribe, then get, then patience) before it gives a task up. It only ever writes to the log; who waits for the
 * task reads it there.
 */
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { Logger } from "pino";
import { type Message, MessageSchema, type StreamResponse, type Task, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import {
  agentText,
  mentionedTaskIds,
  messageUpdate,
  ownMessage,
  ownText,
  repeatsQuestion,
  replyUpdate,
  statusUpdate,
  type UpstreamIds,
  updatesFromArtifact,
  updatesFromSnapshot,
  updatesFromStatus,
} from "../domain/agent-report.ts";
import { taskNotCancelable } from "../domain/errors.ts";
import { type NewUpdate, stateOf, type TaskImage } from "../domain/task-log.ts";
import { isTerminal, stateName } from "../domain/task-state.ts";
import type { TaskStore } from "../store/task-store.ts";
import { AgentCallError, type AgentClient, type AgentSendOptions } from "./agent-port.ts";
import { backoffMs, type Runtime } from "./runtime.ts";
import type { TaskWriter } from "./task-writer.ts";

/** Begins the `cause` of a failure whose raw answer the log keeps. */
export const INVALID_ANSWER = "INVALID_AGENT_RESPONSE";

/** Failures in a row after which a task is given up while its agent's answers stay away. */
const MAX_FAILURES = 6;
/** Bounds of the pause between two looks at a task whose agent sends no stream, in milliseconds. */
const POLL_MIN_MS = 50;
const POLL_MAX_MS = 5_000;
/** Shortest pause after a failure, in milliseconds. */
const RETRY_MIN_MS = 200;
/** Longest wait for the answer to a get or a cancel, in milliseconds. */
const CONTROL_TIMEOUT_MS = 30_000;

export interface RunnerDeps {
  store: TaskStore;
  runtime: Runtime;
  log: Logger;
  /** Longest silence of an agent, in milliseconds. */
  agentTimeoutMs: number;
}

/** What a message is delivered with. */
export type Delivery = Pick<AgentSendOptions, "acceptedOutputModes" | "metadata" | "extensions" | "traceparent">;

export interface TaskRunner {
  readonly writer: TaskWriter;
  /** Delivers the first message, or one that continues an interrupted task, and follows the task to its next rest. */
  run(message: Message, delivery: Delivery): Promise<void>;
  /** Follows a task that an earlier process delivered. */
  resume(): Promise<void>;
  /**
   * Delivers a message to a task that is running, as soon as its agent has named it: what the message causes arrives where
   * the task is already followed.
   */
  addMessage(message: Message, delivery: Delivery): Promise<void>;
  /** Ends the task if its agent agrees. Throws TaskNotCancelable when it does not. */
  cancel(signal: AbortSignal): Promise<void>;
}

/** `signal` ends the runner without touching the task: the process stops. */
export function createTaskRunner(
  deps: RunnerDeps,
  writer: TaskWriter,
  client: AgentClient,
  signal: AbortSignal,
): TaskRunner {
  const { runtime, log } = deps;
  const stop = new AbortController();
  /** Resolves when the agent has named the task, or no longer will. */
  const named = Promise.withResolvers<void>();
  const ends = AbortSignal.any([signal, stop.signal]);
  const now = () => timestampFromDate(runtime.now());
  const state = () => stateOf(writer.image);
  const atRest = () => isTerminal(state()) || state() === TaskState.INPUT_REQUIRED;
  const control = (s: AbortSignal) => ({ signal: s, timeoutMs: Math.min(CONTROL_TIMEOUT_MS, deps.agentTimeoutMs) });

  // --- what the agent is told

  /** The message as the client sent it, with the agent's own ids in place of ours. */
  async function upstreamMessage(message: Message): Promise<Message> {
    const { workspaceId, agentId, upstreamTaskId, upstreamContextId } = writer.image.header;
    const references = await deps.store.mapTaskIds(workspaceId, agentId, message.referenceTaskIds, "to-upstream");
    return create(MessageSchema, {
      ...message,
      taskId: upstreamTaskId ?? "",
      contextId: upstreamContextId ?? "",
      referenceTaskIds: message.referenceTaskIds.map((id) => references.get(id) ?? id),
    });
  }

  const sending = (delivery: Delivery): AgentSendOptions => ({
    ...delivery,
    signal: ends,
    timeoutMs: deps.agentTimeoutMs,
  });
  /**
   * Without a stream, the agent is asked to name its task at once: what is known by name can be canceled, continued and
   * taken up after a crash, where a call that blocks until the end could not.
   */
  const returning = (delivery: Delivery): AgentSendOptions => ({ ...sending(delivery), returnImmediately: true });

  // --- what the agent reports

  async function knownIds(report: StreamResponse): Promise<UpstreamIds> {
    const { workspaceId, agentId } = writer.image.header;
    return deps.store.mapTaskIds(workspaceId, agentId, mentionedTaskIds(report), "from-upstream");
  }

  /** Appends what a report says. A task that was canceled before its agent told an id is canceled there now. */
  async function write(
    make: (image: TaskImage) => readonly NewUpdate[],
    ids: { upstreamTaskId?: string; upstreamContextId?: string } = {},
  ): Promise<void> {
    const outcome = await writer.append(make, ids, ends);
    if (writer.image.header.upstreamTaskId !== undefined) named.resolve();
    if (outcome !== "ended" || writer.image.header.upstreamTaskId !== undefined) return;
    if (ids.upstreamTaskId !== undefined && state() === TaskState.CANCELED) {
      await client.cancel(ids.upstreamTaskId, control(ends)).catch((error: unknown) => {
        log.info({ err: error }, "the agent could not be told that the task was canceled");
      });
      stop.abort();
    }
  }

  function identify(taskId: string, contextId: string) {
    const { upstreamTaskId } = writer.image.header;
    if (upstreamTaskId !== undefined && taskId !== upstreamTaskId) {
      throw new AgentCallError("invalid", "The agent reported on a task that is not the one it was asked about.", {
        raw: `task id "${taskId}" instead of "${upstreamTaskId}"`,
      });
    }
    return { upstreamTaskId: taskId, ...(contextId !== "" && { upstreamContextId: contextId }) };
  }

  async function reportTask(task: Task, known: UpstreamIds): Promise<void> {
    await write((image) => updatesFromSnapshot(image, task, known, now()), identify(task.id, task.contextId));
  }

  /** Writes down one report, whatever it is. `first` says that it answers the task's first message. */
  async function report(answer: StreamResponse, first: boolean): Promise<void> {
    const { payload } = answer;
    const known = await knownIds(answer);
    switch (payload.case) {
      case "task":
        return reportTask(payload.value, known);
      case "statusUpdate":
        return write(
          (image) => updatesFromStatus(image, payload.value, known, now()),
          identify(payload.value.taskId, payload.value.contextId),
        );
      case "artifactUpdate":
        return write(
          (image) => updatesFromArtifact(image, payload.value),
          identify(payload.value.taskId, payload.value.contextId),
        );
      case "message":
        return first ? reportReply(payload.value, known) : write((image) => [remark(image, payload.value, known)]);
      default:
        throw new AgentCallError("invalid", "The agent sent an update that holds nothing.");
    }
  }

  const remark = (image: TaskImage, message: Message, known: UpstreamIds) =>
    messageUpdate(ownMessage(image.header, message, known));

  /** A bare Message ends the task: as itself while nobody has seen the task, else as the message of COMPLETED. */
  async function reportReply(message: Message, known: UpstreamIds): Promise<void> {
    const ids = message.contextId === "" ? {} : { upstreamContextId: message.contextId };
    const reply = (image: TaskImage) => [replyUpdate(image.header, message, known)];
    if ((await writer.append(reply, { ...ids, hidden: true }, ends)) !== "disclosed") return;
    await writer.append(
      ({ header }) => {
        const status = { state: TaskState.COMPLETED, timestamp: now(), message: ownMessage(header, message, known) };
        return [statusUpdate(header, status, "the agent answered with a message")];
      },
      ids,
      ends,
    );
  }

  /** Writes down what a stream says, until the task rests. `answers` tells which message it answers; a subscription none. */
  async function consume(stream: AsyncIterable<StreamResponse>, answers?: "first" | "further"): Promise<void> {
    let opening = true;
    for await (const answer of stream) {
      const stale = opening && answers === "further" && repeatsQuestion(writer.image, answer);
      if (!stale) await report(answer, opening && answers === "first");
      opening = false;
      // A task that was canceled before its agent named it is followed until it does.
      if (!stale && atRest() && writer.image.header.upstreamTaskId !== undefined) return;
    }
  }

  // --- when something goes wrong

  async function fail(text: string, cause: string, options: { hidden?: boolean } = {}): Promise<void> {
    const failed = ({ header }: TaskImage) => {
      const message = agentText(header, runtime.newId(), text);
      return [statusUpdate(header, { state: TaskState.FAILED, timestamp: now(), message }, cause)];
    };
    if (options.hidden && (await writer.append(failed, { hidden: true }, ends)) !== "disclosed") return;
    await writer.append(failed, {}, ends);
  }

  /** Gives the task up: the agent's answer cannot be had, or is none. */
  async function failFor(error: AgentCallError): Promise<void> {
    log.warn({ err: error, kind: error.kind, reason: error.reason }, "the agent failed the task");
    if (error.kind !== "invalid") return fail(error.message, `${error.kind}: ${error.message}`);
    const raw = error.raw === undefined ? "" : `\n${error.raw}`;
    return fail(error.message, `${INVALID_ANSWER}: ${error.message}${raw}`, { hidden: true });
  }

  /** Follows the agent's task until it rests: by its stream where there is one, else by asking again and again. */
  async function follow(): Promise<void> {
    let failures = 0;
    let quiet = 0;
    while (!atRest()) {
      ends.throwIfAborted();
      const { upstreamTaskId } = writer.image.header;
      if (upstreamTaskId === undefined) {
        return failFor(new AgentCallError("invalid", "The agent ended its answer without having said anything."));
      }
      const before = writer.image.seq;
      try {
        if (client.streaming) await resubscribe(upstreamTaskId);
        if (!atRest()) await look(upstreamTaskId);
        failures = 0;
      } catch (error) {
        const failure = asCallError(error);
        const hopeless = failure.kind === "invalid" || failure.kind === "refused";
        if (hopeless || ++failures >= MAX_FAILURES) return failFor(failure);
        log.info({ err: failure, failures }, "the agent does not answer; trying again");
      }
      if (atRest()) return;
      quiet = writer.image.seq === before ? quiet + 1 : 0;
      const pauseMs =
        failures > 0
          ? backoffMs(failures, RETRY_MIN_MS, POLL_MAX_MS, runtime.random)
          : backoffMs(quiet, POLL_MIN_MS, POLL_MAX_MS, runtime.random);
      await runtime.wait(pauseMs, ends);
    }
  }

  async function look(upstreamTaskId: string): Promise<void> {
    const task = await client.get(upstreamTaskId, control(ends));
    const known = await knownIds({ $typeName: "lf.a2a.v1.StreamResponse", payload: { case: "task", value: task } });
    await reportTask(task, known);
  }

  /** Agents refuse to subscribe to what has ended, and some to subscribe at all: a look tells the rest. */
  async function resubscribe(upstreamTaskId: string): Promise<void> {
    try {
      await consume(client.subscribe(upstreamTaskId, { signal: ends, timeoutMs: deps.agentTimeoutMs }));
    } catch (error) {
      const failure = asCallError(error);
      if (failure.kind === "invalid") throw failure;
      log.debug({ err: failure }, "no stream for the task; looking at it instead");
    }
  }

  /** Delivers a message and writes down the answer. `first`: it is the task's first. */
  async function deliver(message: Message, delivery: Delivery, first: boolean): Promise<void> {
    const upstream = await upstreamMessage(message);
    if (client.streaming) await consume(client.sendStream(upstream, sending(delivery)), first ? "first" : "further");
    else await report(await client.send(upstream, returning(delivery)), first);
  }

  async function run(message: Message, delivery: Delivery): Promise<void> {
    const first = writer.image.header.upstreamTaskId === undefined;
    try {
      await deliver(message, delivery, first);
    } catch (error) {
      const failure = asCallError(error);
      const begun = writer.image.header.upstreamTaskId !== undefined;
      if (!begun || failure.kind === "invalid") return failFor(failure);
      if (failure.kind === "refused" && !first) return refuse(failure);
      log.info({ err: failure }, "the agent's stream broke; healing it");
    }
    await follow();
  }

  async function addMessage(message: Message, delivery: Delivery): Promise<void> {
    // Without its name the agent would take the message for the first of another task.
    if (writer.image.header.upstreamTaskId === undefined) await named.promise;
    if (isTerminal(state())) return;
    try {
      // What the message causes comes over the stream that is open: its own answer would say it twice.
      await client.send(await upstreamMessage(message), returning(delivery));
    } catch (error) {
      const text = `The message could not be delivered: ${asCallError(error).message}`;
      await write((image) => [messageUpdate(agentText(image.header, runtime.newId(), text))]);
    }
  }

  /** The agent refused a message to a task it has: the task stands as it stands there, and says why. */
  async function refuse(failure: AgentCallError): Promise<void> {
    await follow();
    if (isTerminal(state())) return;
    await writer.append(
      (image) => {
        const text = agentText(image.header, runtime.newId(), `The agent refused the message: ${failure.message}`);
        const status = { state: stateOf(image), timestamp: now(), message: text };
        return [statusUpdate(image.header, status, "the agent refused a message")];
      },
      {},
      ends,
    );
  }

  // --- cancel

  async function cancel(callSignal: AbortSignal): Promise<void> {
    const { taskId, upstreamTaskId } = writer.image.header;
    if (isTerminal(state())) throw taskNotCancelable(taskId, `it is ${stateName(state())} already.`);
    const canceled = (text: string | undefined) => (image: TaskImage) => {
      const message = text === undefined ? undefined : agentText(image.header, runtime.newId(), text);
      const status = { state: TaskState.CANCELED, timestamp: now(), ...(message && { message }) };
      return [statusUpdate(image.header, status, "canceled by its client")];
    };
    if (upstreamTaskId === undefined) {
      // The agent has told no id yet. The outcome is decided here; `write` tells the agent when it names the task.
      await writer.append(canceled(undefined), {}, callSignal);
    } else {
      try {
        const task = await client.cancel(upstreamTaskId, control(AbortSignal.any([callSignal, ends])));
        // A snapshot beside a running stream would repeat chunks that are still on their way; a final one cannot.
        if (task.status && isTerminal(task.status.state)) await reportTask(task, new Map());
      } catch (error) {
        callSignal.throwIfAborted();
        const failure = asCallError(error);
        if (failure.kind === "refused") {
          await look(upstreamTaskId).catch((e: unknown) =>
            log.info({ err: e }, "no look at the task after a refused cancel"),
          );
          if (state() !== TaskState.CANCELED) throw taskNotCancelable(taskId, failure.message);
        } else {
          await writer.append(canceled("The agent could not be told of the cancellation."), {}, callSignal);
        }
      }
    }
    if (isTerminal(state())) {
      if (upstreamTaskId !== undefined) stop.abort();
      if (state() !== TaskState.CANCELED) throw taskNotCancelable(taskId, `it is ${stateName(state())} already.`);
    }
  }

  return {
    writer,
    run: (message, delivery) => settle(run(message, delivery)).finally(named.resolve),
    resume: () => settle(follow()).finally(named.resolve),
    addMessage: (message, delivery) => settle(addMessage(message, delivery)),
    cancel,
  };

  /** Ends a run: a stop is no failure, and what nobody foresaw fails the task rather than leaving it behind. */
  async function settle(work: Promise<void>): Promise<void> {
    try {
      await work;
    } catch (error) {
      if (ends.aborted) return;
      log.error({ err: error }, "the task could not be carried on");
      await fail("The router met an internal error while carrying the task.", `internal: ${String(error)}`).catch(
        (failure: unknown) => log.error({ err: failure }, "the task's failure could not be stored"),
      );
    }
  }

  function asCallError(error: unknown): AgentCallError {
    ends.throwIfAborted();
    if (!(error instanceof AgentCallError)) throw error;
    // Clients may see it, and agents name their tasks in it.
    error.message = ownText(writer.image.header, error.message);
    return error;
  }
}
