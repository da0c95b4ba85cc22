/** One run of a task at its agent: brings the message there, and follows what it causes to the task's next rest. */
import type { Message } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { type Delivery, stateOf } from "../domain/task-log.ts";
import type { TaskResult } from "../domain/task-result.ts";
import { EngineState, isClaimable, isTerminal } from "../domain/task-state.ts";
import type { AgentCallError, AgentClient } from "./agent-port.ts";
import type { TaskLog } from "./late-log.ts";
import type { Runtime } from "./runtime.ts";
import { NotAskedError } from "./stand-in.ts";
import type { TaskAttempts } from "./task-attempts.ts";
import type { TaskDelivery } from "./task-delivery.ts";
import type { TaskFollower } from "./task-follower.ts";
import { TimeLimitError } from "./task-limits.ts";
import type { TaskReporter } from "./task-reporter.ts";
import type { TaskWriter } from "./task-writer.ts";

/** How far the clocks of the database and of this process may be apart before the reason that is given is the wrong one. */
const CLOCK_SKEW_MS = 1_000;

export interface RunDeps {
  readonly runtime: Runtime;
  readonly log: TaskLog;
  readonly writer: TaskWriter;
  readonly reporter: TaskReporter;
  readonly delivery: TaskDelivery;
  /** How many messages that were sent beside the run have reached the agent. */
  readonly deliveredMessages: number;
  attempts(): TaskAttempts;
  /** Told that a task's first message is brought to its agent: another one may be asked as well when this one is slow. */
  hedge(message: Message, delivery: Delivery): void;
  /** The failure of a call to the agent as clients may see it; rethrows what is none, and the end of the run. */
  asCallError(error: unknown): AgentCallError;
  /** The agent could not be had, or what it says is no A2A. */
  onUnanswered(failure: AgentCallError): void;
}

export class TaskRun {
  readonly #deps: RunDeps;
  readonly #client: AgentClient;
  readonly #follower: TaskFollower;

  constructor(deps: RunDeps, client: AgentClient, follower: TaskFollower) {
    this.#deps = deps;
    this.#client = client;
    this.#follower = follower;
  }

  /** Brings a message to the agent, the first one or one that continues an interrupted task. */
  async begin(message: Message, delivery: Delivery): Promise<void> {
    const deps = this.#deps;
    const first = this.#upstreamTaskId === undefined;
    if (first) deps.hedge(message, delivery);
    try {
      if (this.#client.streaming) {
        await this.#follower.consume(await deps.delivery.stream(message, delivery), first ? "first" : "further");
      } else {
        await deps.reporter.report(await deps.delivery[first ? "sendAndReturn" : "send"](message, delivery), first);
        await deps.reporter.settled();
      }
    } catch (error) {
      if (error instanceof NotAskedError) return;
      const failure = deps.asCallError(error);
      const unheard = this.#upstreamTaskId === undefined;
      // What breaks in the middle of a task is mostly healed: whether the agent is there shows when it is looked for.
      if (unheard || failure.kind === "invalid") deps.onUnanswered(failure);
      if (unheard) return deps.attempts().notBegun(failure);
      if (failure.kind === "invalid") return deps.attempts().refused(failure);
      deps.log.info({ err: failure }, "the message met trouble; looking what became of it");
      if (!first && (await this.#follower.wasNotHeard(failure))) return;
    }
    await this.#carryOn();
  }

  /** Looks how the task stands at its agent, and goes on from there. */
  async resume(): Promise<void> {
    await this.#look();
    await this.#carryOn();
  }

  /** Goes on where another replica has left off, or where nobody has begun. */
  async adopt(how: "claimed" | "rescued"): Promise<void> {
    const { header, state, task } = this.#deps.writer.image;
    const { deadlineAt } = header;
    const leftMs = deadlineAt ? deadlineAt.getTime() - this.#deps.runtime.now().getTime() : Number.POSITIVE_INFINITY;
    if (leftMs <= 0) throw new TimeLimitError("deadline");
    // It was claimed by the database's clock, which may be a little ahead of ours.
    if (state === EngineState.INPUT_REQUIRED) throw new TimeLimitError(leftMs < CLOCK_SKEW_MS ? "deadline" : "input");
    if (header.upstreamTaskId !== undefined) return this.resume();
    const [message] = task.history;
    if (how === "claimed" && message) return this.begin(message, header.delivery);
    return this.#deps.attempts().ownerDied();
  }

  /** Goes on from what the agent has done already. */
  async take(answer: TaskResult): Promise<void> {
    const { reporter } = this.#deps;
    try {
      if ("message" in answer) await reporter.reportReply(answer.message);
      else await reporter.reportTask(answer.task);
    } catch (error) {
      return this.#deps.attempts().refused(this.#deps.asCallError(error));
    }
    await this.#carryOn();
  }

  /** Follows the task to its rest, and looks again when a message reached the agent while it came to rest. */
  async #carryOn(): Promise<void> {
    const deps = this.#deps;
    await this.#follower.follow();
    // Those that are still on their way are looked after when they have arrived: an agent may keep them for long.
    const mayGoOn = () => !isTerminal(stateOf(deps.writer.image)) && !isClaimable(deps.writer.image.state);
    for (let seen = 0; deps.deliveredMessages > seen && mayGoOn(); ) {
      seen = deps.deliveredMessages;
      await this.#look();
    }
  }

  async #look(): Promise<void> {
    const upstreamTaskId = this.#upstreamTaskId;
    if (upstreamTaskId !== undefined && !isTerminal(stateOf(this.#deps.writer.image))) {
      await this.#follower.look(upstreamTaskId).catch((error: unknown) => {
        this.#deps.log.info({ err: this.#deps.asCallError(error) }, "the agent does not answer for its task");
      });
    }
    await this.#follower.follow();
  }

  get #upstreamTaskId(): string | undefined {
    return this.#deps.writer.image.header.upstreamTaskId;
  }
}
