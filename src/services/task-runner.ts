import { type Message, type StreamResponse, type Task, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { ownText, repeatsQuestion } from "../domain/agent-report.ts";
import { type Delivery, stateOf } from "../domain/task-log.ts";
import { EngineState, isClaimable, isTerminal } from "../domain/task-state.ts";
import type { TaskStore } from "../store/task-store.ts";
import type { AbortGroup } from "./abort-group.ts";
import { AgentCallError, type AgentClient } from "./agent-port.ts";
import type { TaskLog } from "./late-log.ts";
import type { Runtime } from "./runtime.ts";
import { type AttemptRules, createTaskAttempts, type TaskAttempts } from "./task-attempts.ts";
import { createTaskCancel } from "./task-cancel.ts";
import { createTaskDelivery } from "./task-delivery.ts";
import { createTaskFollower } from "./task-follower.ts";
import { armTimeLimit, TimeLimitError } from "./task-limits.ts";
import { createTaskReporter } from "./task-reporter.ts";
import { LeaseLostError, type TaskWriter } from "./task-writer.ts";

/** Longest wait for the answer to a get or a cancel, in milliseconds. */
const CONTROL_TIMEOUT_MS = 30_000;

/** How far the clocks of the database and of this process may be apart before the reason that is given is the wrong one. */
const CLOCK_SKEW_MS = 1_000;

export interface RunnerDeps {
  store: TaskStore;
  runtime: Runtime;
  log: TaskLog;
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
  /** How many messages are on their way beside the run. */
  readonly pendingMessages: number;
  /** Reads what another replica may have written, and stops when the task is no longer this one's to carry. */
  heed(): Promise<void>;
  /** Lets go of the agent's client. */
  release(): void;
}

/** The time in which runners may work: until the process stops, or is declared dead. Their tasks are not touched then. */
export interface Life {
  /** Ends their writes. */
  readonly signal: AbortSignal;
  /** Ends their listening. */
  readonly runners: AbortGroup;
}

export function createTaskRunner(deps: RunnerDeps, writer: TaskWriter, client: AgentClient, life: Life): TaskRunner {
  const { runtime, log } = deps;
  const { signal } = life;
  /** Ends the listening to the agent. */
  const stop = new AbortController();
  life.runners.add(stop);
  /** Resolves when the agent has named the task, or no longer will. */
  const named = Promise.withResolvers<void>();
  /** Messages that are on their way beside the run, and how many have arrived. */
  const adding = new Set<Promise<void>>();
  let added = 0;
  let sent = 0;
  const ends = stop.signal;
  // What the log must hear, it hears even when the agent is no longer listened to.
  const reporter = createTaskReporter({ store: deps.store, runtime, log, onNamed }, writer, signal);
  // Most tasks need neither.
  let madeAttempts: TaskAttempts | undefined;
  const attempts = (): TaskAttempts => {
    madeAttempts ??= createTaskAttempts({ runtime, log, rules: deps.attempts }, writer, reporter, signal);
    return madeAttempts;
  };
  const follower = createTaskFollower(
    {
      runtime,
      log,
      agentTimeoutMs: deps.agentTimeoutMs,
      agentAwayMs: deps.agentAwayMs,
      attempts,
      asCallError,
      control,
      told: () => ({ sent, arrived: sent - adding.size }),
    },
    writer,
    client,
    reporter,
    ends,
  );
  const { consume, follow, look } = follower;
  const deliver = createTaskDelivery(deps, writer, client, ends);
  const state = () => stateOf(writer.image);
  function control(until: AbortSignal = ends) {
    return { signal: until, timeoutMs: Math.min(CONTROL_TIMEOUT_MS, deps.agentTimeoutMs) };
  }

  /**
   * A task that ended, or was taken over, before its agent named it: what the agent has begun nobody will follow, so it is
   * canceled there.
   */
  async function onNamed(upstreamTaskId: string, late: boolean): Promise<void> {
    named.resolve();
    if (!late) return;
    // A replica that was declared dead writes no more, but it alone knows what to cancel.
    const until = signal.aborted ? AbortSignal.timeout(CONTROL_TIMEOUT_MS) : signal;
    try {
      // Nor does it know what became of its last write: another may follow the task by this very name.
      if (signal.aborted) await writer.refresh(until).catch(exceptLostLease);
      if (writer.image.header.upstreamTaskId === upstreamTaskId) return;
      await client.cancel(upstreamTaskId, control(until));
    } catch (error) {
      log.info({ err: error }, "the agent could not be told that its work is not wanted");
    }
    stop.abort();
  }

  // --- telling the agent

  async function run(message: Message, delivery: Delivery): Promise<void> {
    const first = writer.image.header.upstreamTaskId === undefined;
    try {
      if (client.streaming) await consume(await deliver.stream(message, delivery), first ? "first" : "further");
      else await reporter.report(await deliver[first ? "sendAndReturn" : "send"](message, delivery), first);
    } catch (error) {
      const failure = asCallError(error);
      const begun = writer.image.header.upstreamTaskId !== undefined;
      if (!begun) return attempts().notBegun(failure);
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
    // Those that are still on their way are looked after when they have arrived: an agent may keep them for long.
    for (let seen = 0; added > seen && !isTerminal(state()) && !isClaimable(writer.image.state); ) {
      seen = added;
      await resume();
    }
  }

  async function adopt(how: "claimed" | "rescued"): Promise<void> {
    const { header, state: engineState } = writer.image;
    const { deadlineAt } = header;
    const leftMs = deadlineAt ? deadlineAt.getTime() - runtime.now().getTime() : Number.POSITIVE_INFINITY;
    if (leftMs <= 0) throw new TimeLimitError("deadline");
    // It was claimed by the database's clock, which may be a little ahead of ours.
    if (engineState === EngineState.INPUT_REQUIRED)
      throw new TimeLimitError(leftMs < CLOCK_SKEW_MS ? "deadline" : "input");
    if (header.upstreamTaskId !== undefined) return resume().then(carryOn);
    const [message] = writer.image.task.history;
    if (how === "claimed" && message) return run(message, header.delivery);
    return attempts().ownerDied();
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
      // Who has the task now, if another has taken it, reads the message in its log.
      if (isTerminal(state()) || writer.image.header.upstreamTaskId === undefined) return;
      // What the message causes comes over the stream that is open: its own answer would say it twice.
      await deliver.sendAndReturn(message, delivery);
      added += 1;
    } catch (error) {
      if (ends.aborted || error instanceof LeaseLostError) return;
      // One message that cannot be told is no reason to end the task.
      if (!(error instanceof AgentCallError)) log.error({ err: error }, "a message could not be delivered");
      const why = error instanceof AgentCallError ? asCallError(error).message : "the router met an internal error.";
      await reporter.remark(`The message could not be delivered: ${why}`).catch((failure: unknown) => {
        if (ends.aborted || failure instanceof LeaseLostError) return;
        log.error({ err: failure }, "an undelivered message could not be noted");
      });
    }
  }

  // --- ending it

  /** A limit of time has passed: the agent is told, and if it has not ended the task itself by then, the attempt has failed. */
  async function expire(limit: TimeLimitError): Promise<void> {
    log.info({ limit: limit.limit }, "a time limit has passed");
    const { upstreamTaskId } = writer.image.header;
    if (upstreamTaskId !== undefined) {
      try {
        const task = await client.cancel(upstreamTaskId, control(signal)).catch((error: unknown) => {
          // An agent also refuses because it is done.
          if (error instanceof AgentCallError && error.kind === "refused")
            return client.get(upstreamTaskId, control(signal));
          throw error;
        });
        if (task.status && isTerminal(task.status.state) && task.status.state !== TaskState.CANCELED)
          await reporter.reportTask(task);
      } catch (error) {
        if (error instanceof LeaseLostError) throw error;
        log.info({ err: error }, "the agent could not be told that the time is up");
      }
    }
    if (isTerminal(state())) return;
    if (limit.limit === "attempt") return attempts().failed(new AgentCallError("timeout", limit.message));
    await reporter.set(TaskState.FAILED, limit.message, `time limit: ${limit.limit}`);
  }

  /** Whether it is known already that the task is another's. */
  let known = false;

  async function heed(): Promise<void> {
    try {
      await writer.refresh(signal);
      // Who ended it has told the agent, if the agent had named it.
      if (isTerminal(state()) && writer.image.header.upstreamTaskId !== undefined) stop.abort();
    } catch (error) {
      if (!(error instanceof LeaseLostError)) throw error;
      if (!known) log.info("another replica has taken the task over");
      known = true;
      if (writer.image.header.upstreamTaskId !== undefined) stop.abort(error);
    }
  }

  return {
    writer,
    named: named.promise,
    get pendingMessages() {
      return adding.size;
    },
    run: (message, delivery) => settle(() => run(message, delivery)),
    resume: () => settle(() => resume().then(carryOn)),
    adopt: (how) => settle(() => adopt(how)),
    addMessage(message, delivery) {
      sent += 1;
      const work = addMessage(message, delivery).finally(() => adding.delete(work));
      adding.add(work);
      return work;
    },
    async cancel(callSignal) {
      const cancel = createTaskCancel(
        { log, runtime, look, asCallError: asAgentError, control },
        writer,
        client,
        reporter,
      );
      await cancel(AbortSignal.any([callSignal, signal]));
      if (isTerminal(state()) && writer.image.header.upstreamTaskId !== undefined) stop.abort();
    },
    heed,
    release() {
      client.release();
      // Messages that are still on their way end with the life that they were sent in.
      if (adding.size === 0) life.runners.delete(stop);
      else void Promise.allSettled(adding).then(() => life.runners.delete(stop));
    },
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
    if (signal.aborted || stop.signal.aborted) return;
    if (error instanceof LeaseLostError)
      return log.info("a write was refused: another replica has taken the task over");
    log.error({ err: error }, "the task could not be carried on");
    const text = "The router met an internal error while carrying the task.";
    await reporter.set(TaskState.FAILED, text, `internal: ${String(error)}`).catch((failure: unknown) => {
      log.error({ err: failure }, "the task's failure could not be stored");
    });
  }

  function asCallError(error: unknown): AgentCallError {
    ends.throwIfAborted();
    return asAgentError(error);
  }

  function asAgentError(error: unknown): AgentCallError {
    if (!(error instanceof AgentCallError)) throw error;
    // Clients may see it, and agents name their tasks in it.
    error.message = ownText(writer.image.header, error.message);
    return error;
  }
}

function exceptLostLease(error: unknown): void {
  if (!(error instanceof LeaseLostError)) throw error;
}
