/**
 * Carries one task through its agent: delivers messages, has written down what the agent reports, and heals what breaks on
 * the way (subscribe, then get, then patience) before it gives an attempt up. It only ever writes to the log; who waits for
 * the task reads it there.
 */
import { create } from "@bufbuild/protobuf";
import type { Logger } from "pino";
import { type Message, MessageSchema, type StreamResponse, type Task, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { ownText, repeatsQuestion } from "../domain/agent-report.ts";
import { type Delivery, stateOf } from "../domain/task-log.ts";
import { EngineState, isLeased, isTerminal } from "../domain/task-state.ts";
import type { TaskStore } from "../store/task-store.ts";
import { AgentCallError, type AgentClient, type AgentSendOptions } from "./agent-port.ts";
import { backoffMs, type Runtime } from "./runtime.ts";
import { type AttemptRules, createTaskAttempts } from "./task-attempts.ts";
import { createTaskCancel } from "./task-cancel.ts";
import { armTimeLimit, TimeLimitError } from "./task-limits.ts";
import { createTaskReporter } from "./task-reporter.ts";
import { LeaseLostError, type TaskWriter, whenDatabaseAnswers } from "./task-writer.ts";

/** Failures in a row before an agent that stays away can be given up, however long it has been away. */
const MIN_FAILURES = 3;
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
  /** How long an agent may be out of reach in the middle of a task, in milliseconds. */
  agentAwayMs: number;
  /** Longest time with one attempt, in milliseconds. */
  attemptTimeoutMs: number;
  attempts: AttemptRules;
}

export interface TaskRunner {
  readonly writer: TaskWriter;
  /** Delivers the first message, or one that continues an interrupted task, and follows the task to its next rest. */
  run(message: Message, delivery: Delivery): Promise<void>;
  /** Looks how the task stands at its agent, whatever is known of it, and follows it from there to its next rest. */
  resume(): Promise<void>;
  /**
   * Takes up a task that this replica has just taken: `claimed`, because it was due, or waited too long for its client;
   * `rescued`, because the replica that had it is gone, and nobody knows how far it came.
   */
  adopt(how: "claimed" | "rescued"): Promise<void>;
  /**
   * Delivers a message to a task that is running, as soon as its agent has named it: what the message causes arrives where
   * the task is already followed.
   */
  addMessage(message: Message, delivery: Delivery): Promise<void>;
  /** Ends the task if its agent agrees. Throws TaskNotCancelable when it does not. */
  cancel(signal: AbortSignal): Promise<void>;
  /** Resolves when the agent has named the task, or no longer will. */
  readonly named: Promise<void>;
  /** Reads what another replica may have written, and stops when the task is no longer this one's to carry. */
  heed(): Promise<void>;
  /** Lets go of the agent's client. */
  release(): void;
}

/** `signal` ends the runner without touching the task: the process stops, or was declared dead. */
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
  /** Messages that are on their way beside the run, and how many have arrived. */
  const adding = new Set<Promise<void>>();
  let added = 0;
  const ends = AbortSignal.any([signal, stop.signal]);
  // What the log must hear, it hears even when the agent is no longer listened to.
  const reporter = createTaskReporter({ ...deps, onNamed }, writer, signal);
  const attempts = createTaskAttempts({ ...deps, rules: deps.attempts }, writer, reporter, signal);
  const cancelTask = createTaskCancel({ log, runtime, look, asCallError, control }, writer, client, reporter);
  const state = () => stateOf(writer.image);
  const atRest = () => isTerminal(state()) || !isLeased(writer.image.state);
  function control(until: AbortSignal = ends) {
    return { signal: until, timeoutMs: Math.min(CONTROL_TIMEOUT_MS, deps.agentTimeoutMs) };
  }

  /**
   * A task that ended, or was taken over, before its agent named it: what the agent has begun nobody will follow, so it is
   * canceled there.
   */
  async function onNamed(upstreamTaskId: string, late: boolean): Promise<void> {
    named.resolve();
    if (!late || writer.image.header.upstreamTaskId === upstreamTaskId) return;
    await client.cancel(upstreamTaskId, control(signal)).catch((error: unknown) => {
      log.info({ err: error }, "the agent could not be told that its work is not wanted");
    });
    stop.abort();
  }

  // --- telling the agent

  /** The message as the client sent it, with the agent's own ids in place of ours. */
  async function upstreamMessage(message: Message): Promise<Message> {
    const { workspaceId, agentId, upstreamTaskId, upstreamContextId } = writer.image.header;
    const { referenceTaskIds } = message;
    const references = await whenDatabaseAnswers(runtime, ends, () =>
      deps.store.mapTaskIds(workspaceId, agentId, referenceTaskIds, "to-upstream"),
    );
    return create(MessageSchema, {
      ...message,
      taskId: upstreamTaskId ?? "",
      contextId: upstreamContextId ?? "",
      referenceTaskIds: referenceTaskIds.map((id) => references.get(id) ?? id),
    });
  }

  const sending = (delivery: Delivery): AgentSendOptions => ({
    ...delivery,
    signal: ends,
    timeoutMs: deps.agentTimeoutMs,
    ...deadline(),
  });
  const deadline = () => {
    const { deadlineAt } = writer.image.header;
    return deadlineAt ? { deadlineAt } : {};
  };
  /**
   * Without a stream, the agent is asked to name a new task at once: what is known by name can be canceled, continued and
   * taken up after a crash, where a call that blocks until the end could not. A message that answers a question blocks:
   * an agent that returned at once would show the task as it stood, with the question.
   */
  const returning = (delivery: Delivery): AgentSendOptions => ({ ...sending(delivery), returnImmediately: true });

  async function run(message: Message, delivery: Delivery): Promise<void> {
    const first = writer.image.header.upstreamTaskId === undefined;
    try {
      const upstream = await upstreamMessage(message);
      if (client.streaming) await consume(client.sendStream(upstream, sending(delivery)), first ? "first" : "further");
      else await reporter.report(await client.send(upstream, (first ? returning : sending)(delivery)), first);
    } catch (error) {
      const failure = asCallError(error);
      const begun = writer.image.header.upstreamTaskId !== undefined;
      if (!begun) return attempts.notBegun(failure);
      if (failure.kind === "invalid") return reporter.failFor(failure);
      log.info({ err: failure }, "the message met trouble; looking what became of it");
      if (!first && (await wasNotHeard(failure))) return;
    }
    await carryOn();
  }

  /**
   * Whether the agent still waits with the question that a message was to answer. The task then waits again, and says why
   * in the same breath: whoever waits for the answer to the message reads that, and not the old question.
   */
  async function wasNotHeard(failure: AgentCallError): Promise<boolean> {
    const { upstreamTaskId = "" } = writer.image.header;
    let task: Task;
    try {
      task = await client.get(upstreamTaskId, control(ends));
    } catch (error) {
      log.info({ err: asCallError(error) }, "the agent does not answer for its task");
      return false;
    }
    const report: StreamResponse = { $typeName: "lf.a2a.v1.StreamResponse", payload: { case: "task", value: task } };
    if (!task.status || !repeatsQuestion(writer.image, report)) return false;
    const text =
      failure.kind === "refused"
        ? `The agent refused the message: ${failure.message}`
        : `The agent may not have heard the message, and still waits for input: ${failure.message}`;
    await reporter.set(task.status.state, text, "a message met trouble");
    return true;
  }

  /** Follows the task to its rest, and looks again when a message reached the agent while it came to rest. */
  async function carryOn(): Promise<void> {
    await follow();
    for (let seen = 0; added > seen || adding.size > 0; ) {
      await Promise.allSettled(adding);
      if (isTerminal(state()) || !isLeased(writer.image.state)) return;
      seen = added;
      await resume();
    }
  }

  async function adopt(how: "claimed" | "rescued"): Promise<void> {
    const { header, state: engineState } = writer.image;
    const { deadlineAt } = header;
    if (deadlineAt && deadlineAt <= runtime.now()) throw new TimeLimitError("deadline");
    if (engineState === EngineState.INPUT_REQUIRED) throw new TimeLimitError("input");
    if (header.upstreamTaskId !== undefined) return resume().then(carryOn);
    const [message] = writer.image.task.history;
    if (how === "claimed" && message) return run(message, header.delivery);
    return attempts.ownerDied();
  }

  async function resume(): Promise<void> {
    const { upstreamTaskId } = writer.image.header;
    if (upstreamTaskId !== undefined && !isTerminal(state())) {
      await look(upstreamTaskId).catch((error: unknown) => {
        log.info({ err: asCallError(error) }, "the agent does not answer for its task");
      });
    }
    await follow();
  }

  async function addMessage(message: Message, delivery: Delivery): Promise<void> {
    try {
      // Without its name the agent would take the message for the first of another task.
      if (writer.image.header.upstreamTaskId === undefined) await named.promise;
      if (isTerminal(state())) return;
      // What the message causes comes over the stream that is open: its own answer would say it twice.
      await client.send(await upstreamMessage(message), returning(delivery));
      added += 1;
    } catch (error) {
      if (ends.aborted) return;
      // One message that cannot be told is no reason to end the task.
      if (!(error instanceof AgentCallError)) log.error({ err: error }, "a message could not be delivered");
      const why = error instanceof AgentCallError ? asCallError(error).message : "the router met an internal error.";
      await reporter.remark(`The message could not be delivered: ${why}`).catch((failure: unknown) => {
        if (!ends.aborted) log.error({ err: failure }, "an undelivered message could not be noted");
      });
    }
  }

  // --- following what it says

  /** Has written down what a stream says, until the task rests. `answers`: which message it answers; a subscription none. */
  async function consume(stream: AsyncIterable<StreamResponse>, answers?: "first" | "further"): Promise<void> {
    let opening = true;
    for await (const answer of stream) {
      const stale = opening && answers === "further" && repeatsQuestion(writer.image, answer);
      if (!stale) await reporter.report(answer, opening && answers === "first");
      opening = false;
      // A task that was canceled before its agent named it is followed until it does, or says that there is none.
      const told = writer.image.header.upstreamTaskId !== undefined || answer.payload.case === "message";
      if (!stale && atRest() && told) break;
    }
    await reporter.settled();
  }

  /** Follows the agent's task until it rests: by its stream where there is one, else by asking again and again. */
  async function follow(): Promise<void> {
    let failures = 0;
    let awaySince = runtime.now();
    let quiet = 0;
    while (!atRest()) {
      ends.throwIfAborted();
      const { upstreamTaskId } = writer.image.header;
      if (upstreamTaskId === undefined) {
        const silence = "The agent ended its answer without having said anything.";
        return reporter.failFor(new AgentCallError("invalid", silence));
      }
      const before = writer.image.seq;
      try {
        if (client.streaming) await resubscribe(upstreamTaskId);
        if (!atRest()) await look(upstreamTaskId);
        failures = 0;
      } catch (error) {
        const failure = asCallError(error);
        if (failure.reason === "TASK_NOT_FOUND") return attempts.failed(forgotten(failure));
        if (failure.kind === "invalid" || failure.kind === "refused") return reporter.failFor(failure);
        if (failures++ === 0) awaySince = runtime.now();
        const awayMs = runtime.now().getTime() - awaySince.getTime();
        if (failures >= MIN_FAILURES && awayMs >= deps.agentAwayMs) return attempts.failed(failure);
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
    await reporter.reportTask(await client.get(upstreamTaskId, control(ends)));
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

  // --- ending it

  /** A limit of time has passed: the agent is told, and if it has not ended the task itself by then, the attempt has failed. */
  async function expire(limit: TimeLimitError): Promise<void> {
    log.info({ limit: limit.limit }, "a time limit has passed");
    const { upstreamTaskId } = writer.image.header;
    if (upstreamTaskId !== undefined) {
      try {
        const task = await client.cancel(upstreamTaskId, control(signal));
        if (task.status && isTerminal(task.status.state) && task.status.state !== TaskState.CANCELED)
          await reporter.reportTask(task);
      } catch (error) {
        if (error instanceof LeaseLostError) throw error;
        log.info({ err: error }, "the agent could not be told that the time is up");
      }
    }
    if (isTerminal(state())) return;
    if (limit.limit === "attempt") return attempts.failed(new AgentCallError("timeout", limit.message));
    await reporter.set(TaskState.FAILED, limit.message, `time limit: ${limit.limit}`);
  }

  async function heed(): Promise<void> {
    try {
      await writer.refresh(signal);
      // Who ended it has told the agent, if the agent had named it.
      if (isTerminal(state()) && writer.image.header.upstreamTaskId !== undefined) stop.abort();
    } catch (error) {
      if (!(error instanceof LeaseLostError)) throw error;
      log.info("another replica has taken the task over");
      if (writer.image.header.upstreamTaskId !== undefined) stop.abort(error);
    }
  }

  return {
    writer,
    named: named.promise,
    run: (message, delivery) => settle(() => run(message, delivery)),
    resume: () => settle(() => resume().then(carryOn)),
    adopt: (how) => settle(() => adopt(how)),
    addMessage(message, delivery) {
      const work = addMessage(message, delivery).finally(() => adding.delete(work));
      adding.add(work);
      return work;
    },
    async cancel(callSignal) {
      await cancelTask(AbortSignal.any([callSignal, signal]));
      if (isTerminal(state()) && writer.image.header.upstreamTaskId !== undefined) stop.abort();
    },
    heed,
    release: () => client.release(),
  };

  /** Does a piece of work within the task's limits of time. A stop is no failure, and neither is a loss of the lease. */
  async function settle(work: () => Promise<void>): Promise<void> {
    const disarm = armTimeLimit(runtime, writer.image.header.deadlineAt, deps.attemptTimeoutMs, (limit) =>
      stop.abort(limit),
    );
    try {
      await work();
    } catch (error) {
      const limit = stop.signal.aborted ? stop.signal.reason : error;
      await (limit instanceof TimeLimitError ? expire(limit) : Promise.reject(error)).catch(fail);
    } finally {
      disarm();
      named.resolve();
    }
  }

  /** What nobody foresaw fails the task rather than leaving it behind. */
  async function fail(error: unknown): Promise<void> {
    if (signal.aborted || stop.signal.aborted || error instanceof LeaseLostError) return;
    log.error({ err: error }, "the task could not be carried on");
    const text = "The router met an internal error while carrying the task.";
    await reporter.set(TaskState.FAILED, text, `internal: ${String(error)}`).catch((failure: unknown) => {
      log.error({ err: failure }, "the task's failure could not be stored");
    });
  }

  function asCallError(error: unknown): AgentCallError {
    ends.throwIfAborted();
    if (!(error instanceof AgentCallError)) throw error;
    // Clients may see it, and agents name their tasks in it.
    error.message = ownText(writer.image.header, error.message);
    return error;
  }
}

/** Nobody asked the agent for a task by name but the router: what is refused is not what the client sent. */
const forgotten = (cause: AgentCallError) =>
  new AgentCallError("refused", "The agent no longer knows this task.", { reason: "TASK_NOT_FOUND", cause });
