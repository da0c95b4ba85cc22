/**
 * Hears what an agent says of one task, and has it written down: from a stream, or by asking again and again. What breaks on
 * the way is healed: subscribe, then get, then patience, until the agent has been away for too long.
 */
import { Role, type StreamResponse, type Task } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { repeatsQuestion } from "../domain/agent-report.ts";
import { isAtRest, type TaskImage } from "../domain/task-log.ts";
import { isClaimable } from "../domain/task-state.ts";
import { AgentCallError, type AgentCallOptions, type AgentClient } from "./agent-port.ts";
import type { TaskLog } from "./late-log.ts";
import { backoffMs, type Runtime } from "./runtime.ts";
import type { TaskAttempts } from "./task-attempts.ts";
import type { TaskReporter } from "./task-reporter.ts";
import type { TaskWriter } from "./task-writer.ts";

/** Failures in a row before an agent that stays away can be given up, however long it has been away. */
const MIN_FAILURES = 3;
/** Bounds of the pause between two looks at a task whose agent sends no stream, in milliseconds. */
const POLL_MIN_MS = 50;
const POLL_MAX_MS = 5_000;
/** Shortest pause after a failure, in milliseconds. */
const RETRY_MIN_MS = 200;
/** Answers of an agent, or of what stands before it, that say no more than "not now". */
const NOT_NOW = new Set(["UNAVAILABLE", "RESOURCE_EXHAUSTED", "HTTP_429", "HTTP_502", "HTTP_503", "HTTP_504"]);

export interface FollowerDeps {
  runtime: Runtime;
  log: TaskLog;
  /** Longest silence of an agent, in milliseconds. */
  agentTimeoutMs: number;
  /** How long an agent may be out of reach in the middle of a task, in milliseconds. */
  agentAwayMs: number;
  attempts(): TaskAttempts;
  /** The failure of a call to the agent as clients may see it; rethrows what is none, and the end of the run. */
  asCallError(error: unknown): AgentCallError;
  /** What a short call to the agent is made with. */
  control(): AgentCallOptions;
  /** How many messages were sent beside the run, and how many of them have arrived. */
  told(): { sent: number; arrived: number };
  /** The agent was looked for, and can be had again; or cannot, or what it says is no A2A. */
  onAnswered(): void;
  onUnanswered(failure: AgentCallError): void;
}

export interface TaskFollower {
  /** Has written down what a stream says, until the task rests. `answers`: which message it answers; a subscription none. */
  consume(stream: AsyncIterable<StreamResponse>, answers?: "first" | "further"): Promise<void>;
  /** Follows the task until it rests. */
  follow(): Promise<void>;
  /** Has written down how the task stands at its agent. */
  look(upstreamTaskId: string): Promise<void>;
  /**
   * Whether the agent still waits with the question that a message was to answer. The task then waits again, and says why
   * in the same breath: whoever waits for the answer to the message reads that, and not the old question.
   */
  wasNotHeard(failure: AgentCallError): Promise<boolean>;
}

/** `ends` ends the listening. */
export const createTaskFollower = (
  deps: FollowerDeps,
  writer: TaskWriter,
  client: AgentClient,
  reporter: TaskReporter,
  ends: AbortSignal,
): TaskFollower => new Follower(deps, writer, client, reporter, ends);

class Follower implements TaskFollower {
  readonly #deps: FollowerDeps;
  readonly #writer: TaskWriter;
  readonly #client: AgentClient;
  readonly #reporter: TaskReporter;
  readonly #ends: AbortSignal;

  constructor(deps: FollowerDeps, writer: TaskWriter, client: AgentClient, reporter: TaskReporter, ends: AbortSignal) {
    this.#deps = deps;
    this.#writer = writer;
    this.#client = client;
    this.#reporter = reporter;
    this.#ends = ends;
  }

  async consume(stream: AsyncIterable<StreamResponse>, answers?: "first" | "further"): Promise<void> {
    const asked = this.#ask();
    let opening = true;
    try {
      for await (const answer of stream) {
        const isBehind = (image: TaskImage) =>
          answers === "further" || (answers === undefined && asked.isBehind(image));
        const isStale = (image: TaskImage) => isBehind(image) && repeatsQuestion(image, answer);
        const stale = opening && isStale(this.#writer.image);
        const isFirst = opening && answers === "first";
        if (!stale) await this.#reporter.report(answer, isFirst, opening ? isStale : undefined);
        opening = false;
        // A task that was canceled before its agent named it is followed until it does, or says that there is none.
        const { header, state } = this.#writer.image;
        const named = header.upstreamTaskId !== undefined || answer.payload.case === "message" || isClaimable(state);
        if (!stale && this.#isAtRest && named) break;
      }
    } catch (error) {
      // What the agent has said counts, whatever broke then.
      await this.#reporter.settled();
      throw error;
    }
    await this.#reporter.settled();
  }

  async follow(): Promise<void> {
    const { runtime, log, agentAwayMs } = this.#deps;
    let failures = 0;
    let awaySince = runtime.elapsedMs();
    let quiet = 0;
    while (!this.#isAtRest) {
      this.#ends.throwIfAborted();
      const { header, seq: before } = this.#writer.image;
      const { upstreamTaskId } = header;
      if (upstreamTaskId === undefined) {
        const silence = "The agent ended its answer without having said anything.";
        const failure = new AgentCallError("invalid", silence);
        this.#deps.onUnanswered(failure);
        return this.#deps.attempts().refused(failure);
      }
      try {
        if (this.#client.streaming) await this.#resubscribe(upstreamTaskId);
        if (!this.#isAtRest) await this.look(upstreamTaskId);
        if (failures > 0) this.#deps.onAnswered();
        failures = 0;
      } catch (error) {
        const failure = this.#deps.asCallError(error);
        this.#deps.onUnanswered(failure);
        if (failure.reason === "TASK_NOT_FOUND") return this.#deps.attempts().failed(forgotten(failure));
        const final = failure.kind === "refused" && !NOT_NOW.has(failure.reason ?? "");
        if (final || failure.kind === "invalid") return this.#deps.attempts().refused(failure);
        if (failures++ === 0) awaySince = runtime.elapsedMs();
        const awayMs = runtime.elapsedMs() - awaySince;
        if (failures >= MIN_FAILURES && awayMs >= agentAwayMs) return this.#deps.attempts().failed(failure);
        log.info({ err: failure, failures }, "the agent does not answer; trying again");
      }
      if (this.#isAtRest) return;
      quiet = this.#writer.image.seq === before ? quiet + 1 : 0;
      const pauseMs =
        failures > 0
          ? backoffMs(failures, RETRY_MIN_MS, POLL_MAX_MS, runtime.random)
          : backoffMs(quiet, POLL_MIN_MS, POLL_MAX_MS, runtime.random);
      await runtime.wait(pauseMs, this.#ends);
    }
  }

  async look(upstreamTaskId: string): Promise<void> {
    const asked = this.#ask();
    const task = await this.#client.get(upstreamTaskId, this.#deps.control());
    const isStale = (image: TaskImage) => asked.isBehind(image) && repeatsQuestion(image, snapshot(task));
    await this.#reporter.reportTask(task, { isStale });
  }

  async wasNotHeard(failure: AgentCallError): Promise<boolean> {
    const { upstreamTaskId = "" } = this.#writer.image.header;
    let task: Task;
    try {
      task = await this.#client.get(upstreamTaskId, this.#deps.control());
    } catch (error) {
      this.#deps.log.info({ err: this.#deps.asCallError(error) }, "the agent does not answer for its task");
      return false;
    }
    if (!task.status || !repeatsQuestion(this.#writer.image, snapshot(task))) return false;
    const text =
      failure.kind === "refused"
        ? `The agent refused the message: ${failure.message}`
        : `The agent may not have heard the message, and still waits for input: ${failure.message}`;
    await this.#reporter.set(task.status.state, text, "a message met trouble");
    return true;
  }

  get #isAtRest(): boolean {
    return isAtRest(this.#writer.image);
  }

  /**
   * From the moment in which the agent is asked how the task stands: whether what it says may be older than a message that was on
   * its way then, or has come since. That is told by the image on which it is written: messages are stored meanwhile.
   */
  #ask(): { isBehind(image: TaskImage): boolean } {
    const { sent, arrived } = this.#deps.told();
    const heard = clientMessages(this.#writer.image);
    return {
      isBehind: (image) => arrived < sent || this.#deps.told().sent > sent || clientMessages(image) > heard,
    };
  }

  /** Agents refuse to subscribe to what has ended, and some to subscribe at all: a look tells the rest. */
  async #resubscribe(upstreamTaskId: string): Promise<void> {
    const { log, agentTimeoutMs } = this.#deps;
    try {
      await this.consume(this.#client.subscribe(upstreamTaskId, { signal: this.#ends, timeoutMs: agentTimeoutMs }));
    } catch (error) {
      const failure = this.#deps.asCallError(error);
      if (failure.kind === "invalid") throw failure;
      log.debug({ err: failure }, "no stream for the task; looking at it instead");
    }
  }
}

const clientMessages = ({ task }: TaskImage): number => task.history.filter(({ role }) => role === Role.USER).length;

const snapshot = (task: Task): StreamResponse => ({
  $typeName: "lf.a2a.v1.StreamResponse",
  payload: { case: "task", value: task },
});

/** Nobody asked the agent for a task by name but the router: what is refused is not what the client sent. */
const forgotten = (cause: AgentCallError) =>
  new AgentCallError("refused", "The agent no longer knows this task.", { reason: "TASK_NOT_FOUND", cause });
