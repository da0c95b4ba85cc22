import type { JsonObject } from "@bufbuild/protobuf";
import { type Message, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { ownText } from "../domain/agent-report.ts";
import { mayDelegate } from "../domain/delegation-extension.ts";
import { type Delivery, stateOf } from "../domain/task-log.ts";
import type { TaskResult } from "../domain/task-result.ts";
import { isTerminal } from "../domain/task-state.ts";
import type { AgentHome } from "../store/agent-repository.ts";
import type { TaskStore } from "../store/task-store.ts";
import { AgentCallError, type AgentCallOptions, type AgentClient, type AgentEndpoint } from "./agent-port.ts";
import type { TaskLog } from "./late-log.ts";
import type { Life, RunnerDeps, RunnerInit } from "./runner-deps.ts";
import type { Runtime } from "./runtime.ts";
import type { ByPrincipal } from "./task-append.ts";
import { createTaskAttempts, type TaskAttempts } from "./task-attempts.ts";
import { createTaskCancel } from "./task-cancel.ts";
import { TaskDelivery } from "./task-delivery.ts";
import { createTaskFollower, type FollowerDeps, type TaskFollower } from "./task-follower.ts";
import type { TaskHedge } from "./task-hedge.ts";
import { armTimeLimit, endAtLimit, type LimitDeps, TimeLimitError } from "./task-limits.ts";
import { type MessagesDeps, TaskMessages } from "./task-messages.ts";
import { createTaskReporter, type ReporterDeps, type TaskReporter } from "./task-reporter.ts";
import { type RunDeps, TaskRun } from "./task-run.ts";
import { LeaseLostError, type TaskWriter } from "./task-writer.ts";
import { createUnwantedWork, type UnwantedWork } from "./unwanted-work.ts";

/** Longest wait for the answer to a get or a cancel, in milliseconds. */
const CONTROL_TIMEOUT_MS = 30_000;

/** Carries one task for this replica: brings messages to its agent, and has written down what the agent says of it. */
export class TaskRunner implements ReporterDeps, FollowerDeps, LimitDeps, MessagesDeps, RunDeps {
  readonly writer: TaskWriter;
  readonly store: TaskStore;
  readonly runtime: Runtime;
  readonly log: TaskLog;
  readonly outputSchema: JsonObject | undefined;
  readonly agentTimeoutMs: number;
  readonly agentAwayMs: number;
  readonly delegates: boolean;
  readonly reporter: TaskReporter;
  readonly delivery: TaskDelivery;
  readonly #deps: RunnerDeps;
  readonly #client: AgentClient;
  readonly #life: Life;
  readonly #agent: AgentEndpoint;
  /** Ends the listening to the agent. */
  readonly #stop = new AbortController();
  readonly #follower: TaskFollower;
  readonly #run: TaskRun;
  readonly #unwanted: UnwantedWork;
  #attempts: TaskAttempts | undefined;
  #hedge: TaskHedge | undefined;
  #naming: PromiseWithResolvers<void> | undefined;
  #isNamed = false;
  /** Those that were sent beside the run. */
  #messages: TaskMessages | undefined;
  /** How the storing of what the agent said failed while the agent was listened to. */
  #unstored: { error: unknown } | undefined;
  /** Whether its client has asked to cancel the task. */
  #isToBeCanceled = false;
  /** Whether it is known already that the task is another's. */
  #knowsLoss = false;
  /** Whether the task has ended, and its agent works on. */
  #isBrokenOff = false;
  /** Whether a second agent was faster than this one's. */
  hasGivenWay = false;

  constructor(deps: RunnerDeps, { writer, agent, client, log, life }: RunnerInit) {
    this.#deps = deps;
    this.writer = writer;
    this.store = deps.store;
    this.runtime = deps.runtime;
    this.log = log;
    this.outputSchema = agent.outputSchema;
    this.agentTimeoutMs = deps.agentTimeoutMs;
    this.agentAwayMs = deps.agentAwayMs;
    this.delegates = mayDelegate(agent.card);
    this.#client = client;
    this.#agent = agent;
    this.#life = life;
    life.runners.add(this.#stop);
    // What the log must hear, it hears even when the agent is no longer listened to.
    this.reporter = createTaskReporter(this, writer, life.signal);
    this.delivery = new TaskDelivery(this, writer, client, this.ends);
    this.#follower = createTaskFollower(this, writer, client, this.reporter, this.ends);
    this.#unwanted = createUnwantedWork(this, agent.agentId, client, life.signal);
    this.#run = new TaskRun(this, client, this.#follower);
  }

  /** Delivers the first message, or one that continues an interrupted task, and follows the task to its next rest. */
  run(message: Message, delivery: Delivery): Promise<void> {
    return this.#settle(() => this.#run.begin(message, delivery));
  }

  /** Looks how the task stands at its agent, whatever is known of it, and follows it from there to its next rest. */
  resume(): Promise<void> {
    return this.#settle(() => this.#run.resume());
  }

  /**
   * Takes up a task that this replica has just taken: `claimed`, because it was due, or waited too long for its client;
   * `rescued`, because the replica that had it is gone, and nobody knows how far it came.
   */
  adopt(how: "claimed" | "rescued"): Promise<void> {
    return this.#settle(() => this.#run.adopt(how));
  }

  /**
   * Delivers a message to a task that is running, as soon as its agent has named it: what the message causes arrives where
   * the task is already followed.
   */
  addMessage(message: Message, delivery: Delivery): Promise<void> {
    this.#messages ??= new TaskMessages(this);
    return this.#messages.add(message, delivery);
  }

  /** Ends the task, as a principal wants, if its agent agrees. Throws TaskNotCancelable when it does not. */
  async cancel(signal: AbortSignal, by: ByPrincipal): Promise<void> {
    this.#isToBeCanceled = true;
    const cancel = createTaskCancel(
      {
        log: this.log,
        runtime: this.runtime,
        agentId: this.#agent.agentId,
        look: (upstreamTaskId) => this.#follower.look(upstreamTaskId),
        asCallError: (error) => this.#asAgentError(error),
        control: (until) => this.control(until),
      },
      this.writer,
      this.#client,
      this.reporter,
    );
    await cancel(AbortSignal.any([signal, this.#life.signal]), by);
    if (isTerminal(this.#state) && this.#owesNothing) this.#stop.abort();
  }

  /** Reads what another replica may have written, and stops when the task is no longer this one's to carry. */
  async heed(): Promise<void> {
    try {
      await this.writer.refresh(this.#life.signal);
      // Who ended it has told the agent, if the agent had named it.
      if (isTerminal(this.#state) && this.#owesNothing) this.#stop.abort();
    } catch (error) {
      if (!(error instanceof LeaseLostError)) throw error;
      if (!this.#knowsLoss) this.log.info("another replica has taken the task over");
      this.#knowsLoss = true;
      if (this.#owesNothing) this.#stop.abort(error);
    }
  }

  /** Takes up a task that its agent has done already, when another was slow: this is what came of it. */
  take(answer: TaskResult): Promise<void> {
    return this.#settle(() => this.#run.take(answer));
  }

  /** Stops, because another agent was faster and has the task now: what this one's has begun is not wanted. */
  giveWay(): void {
    this.hasGivenWay = true;
    this.#stop.abort(new GivenWayError());
  }

  /** Stops, because what the agent says must not leave and has ended the task: it is told to stop, too. */
  breakOff(): void {
    this.#isBrokenOff = true;
    this.#stop.abort();
  }

  /** Stops a task that somebody answers in its agent's place: from here on the agent is not asked. */
  letGo(): void {
    this.#stop.abort();
  }

  /** Resolves when the agent has named the task, or no longer will. */
  get named(): Promise<void> {
    if (this.#isNamed) return Promise.resolve();
    this.#naming ??= Promise.withResolvers();
    return this.#naming.promise;
  }

  /** Whether somebody has answered in the agent's place. */
  get isStoodIn(): boolean {
    return this.#client.standsIn === true;
  }

  /** How many messages are on their way beside the run. */
  get pendingMessages(): number {
    return this.#messages?.pending ?? 0;
  }

  /** How many of those have reached the agent. */
  get deliveredMessages(): number {
    return this.#messages?.delivered ?? 0;
  }

  /** Lets go of the agent's client. */
  release(): void {
    this.#client.release();
    const leave = () => this.#life.runners.delete(this.#stop);
    // Messages that are still on their way end with the life that they were sent in.
    if (this.pendingMessages === 0) leave();
    else void this.#messages?.settled().then(leave);
  }

  // --- what its parts ask

  get ends(): AbortSignal {
    return this.#stop.signal;
  }

  attempts(): TaskAttempts {
    const { runtime, log, writer } = this;
    if (this.#attempts) return this.#attempts;
    const { store, nextAgent, attempts } = this.#deps;
    const rules = { ...attempts, safeToRepeat: this.#agent.safeToRepeat };
    const isHedged = async () => (await this.#hedge?.settled()) === true;
    const deps = { runtime, log, rules, store, nextAgent, isWanted: () => !this.#isToBeCanceled, isHedged };
    this.#attempts = createTaskAttempts(deps, writer, this.reporter, this.#life.signal);
    return this.#attempts;
  }

  /** Asks a second agent when this one is slow, where that is wanted. */
  hedge(message: Message, delivery: Delivery): void {
    if (this.#agent.safeToRepeat) this.#hedge = this.#deps.hedging?.begin(this, message, delivery);
  }

  control(signal: AbortSignal = this.ends): AgentCallOptions {
    return { signal, timeoutMs: Math.min(CONTROL_TIMEOUT_MS, this.agentTimeoutMs) };
  }

  lastWords(): AgentCallOptions {
    return this.control(this.#life.signal);
  }

  told(): { sent: number; arrived: number } {
    const sent = this.#messages?.sent ?? 0;
    return { sent, arrived: sent - this.pendingMessages };
  }

  async onNamed(upstreamTaskId: string, late: boolean): Promise<void> {
    this.#nameKnown();
    this.onAnswered();
    if (late && (await this.#unwanted.namedLate(upstreamTaskId))) this.#stop.abort();
  }

  async onAgentFailed(why: string): Promise<boolean> {
    return (this.#deps.nextAgent ?? this.#hedge) !== undefined && this.attempts().failedByAgent(why);
  }

  /** The agent can be had. */
  onAnswered(): void {
    if (this.isStoodIn) return;
    this.#deps.loads.answered(this.home);
  }

  /** It cannot, or what it says is no A2A. */
  onUnanswered(failure: AgentCallError): void {
    if (this.isStoodIn) return;
    this.#deps.loads.failedCall(this.home, failure);
  }

  /** Nobody waits for what is held: the run ends with how its storing failed. */
  onFailure(error: unknown): void {
    this.#unstored ??= { error };
    this.#stop.abort(error);
  }

  /** The failure of a call to the agent as clients may see it; rethrows what is none, and the end of the run. */
  asCallError(error: unknown): AgentCallError {
    this.ends.throwIfAborted();
    return this.#asAgentError(error);
  }

  // --- ending it

  /** Does a piece of work within the task's limits of time. A stop is no failure, and neither is a loss of the lease. */
  async #settle(work: () => Promise<void>): Promise<void> {
    const stop = this.#stop;
    const { deadlineAt } = this.writer.image.header;
    const disarm = armTimeLimit(this.runtime, deadlineAt, this.#deps.attemptTimeoutMs, (limit) => stop.abort(limit));
    try {
      await work();
    } catch (error) {
      const reason = stop.signal.aborted ? stop.signal.reason : error;
      const isLimit = reason instanceof TimeLimitError;
      await this.#end(isLimit ? reason : error);
      if (this.hasGivenWay || (this.#unwanted.isWithAnother && !isLimit)) await this.#unwanted.stop(this.#ownName);
    } finally {
      disarm();
      this.#hedge?.end();
      this.#nameKnown();
    }
    if (this.#isBrokenOff) await this.#unwanted.stop(this.#ownName);
  }

  async #end(error: unknown): Promise<void> {
    try {
      if (!(error instanceof TimeLimitError)) throw error;
      await endAtLimit(error, this, this.writer, this.#client, this.reporter);
    } catch (failure) {
      await this.#fail(failure);
    }
  }

  /** What nobody foresaw fails the task rather than leaving it behind. */
  async #fail(error: unknown): Promise<void> {
    if (this.#life.signal.aborted || (this.ends.aborted && this.#unstored?.error !== error)) return;
    if (error instanceof LeaseLostError)
      return this.log.info("a write was refused: another replica has taken the task over");
    this.log.error({ err: error }, "the task could not be carried on");
    const text = "The router met an internal error while carrying the task.";
    await this.reporter.set(TaskState.FAILED, text, `internal: ${String(error)}`).catch((failure: unknown) => {
      this.log.error({ err: failure }, "the task's failure could not be stored");
    });
  }

  #asAgentError(error: unknown): AgentCallError {
    if (!(error instanceof AgentCallError)) throw error;
    // Clients may see it, and agents name their tasks in it.
    error.message = ownText(this.writer.image.header, error.message);
    return error;
  }

  // --- how the task stands

  get #state(): TaskState {
    return stateOf(this.writer.image);
  }

  /** Whom it tells of, by where the agent is registered: the task may be with another agent by now. */
  get home(): AgentHome {
    const { agentId, home } = this.#agent;
    return home ?? { workspaceId: this.writer.image.header.workspaceId, agentId };
  }

  /** Whether there is nothing to wait for that the agent would have to be told: it is named, or was never begun. */
  get #owesNothing(): boolean {
    return this.#upstreamTaskId !== undefined || this.isStoodIn;
  }

  get #upstreamTaskId(): string | undefined {
    return this.writer.image.header.upstreamTaskId;
  }

  /** What this agent calls the task, though it may be with another by now. */
  get #ownName(): string | undefined {
    return this.reporter.name ?? (this.#unwanted.isWithAnother ? undefined : this.#upstreamTaskId);
  }

  #nameKnown(): void {
    this.#isNamed = true;
    this.#naming?.resolve();
  }
}

/** Another agent was faster. */
class GivenWayError extends Error {
  constructor() {
    super("another agent was faster");
    this.name = "GivenWayError";
  }
}
