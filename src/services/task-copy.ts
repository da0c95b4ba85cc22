/**
 * A copy of a task's first message at an agent that does not have the task. What comes of it is in no log; whoever made the
 * copy decides what it is good for.
 */
import type { Message, StreamResponse, Task, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { idViolations } from "../domain/message-rules.ts";
import type { Delivery, TaskHeader } from "../domain/task-log.ts";
import type { TaskResult } from "../domain/task-result.ts";
import { isInterrupted, isTerminal } from "../domain/task-state.ts";
import { AgentCallError, type AgentClient } from "./agent-port.ts";
import type { TaskLog } from "./late-log.ts";
import { backoffMs } from "./runtime.ts";
import { type DeliveryDeps, TaskDelivery } from "./task-delivery.ts";

/** Bounds of the pause between two looks at a copy whose agent sends no stream, in milliseconds. */
const POLL_MIN_MS = 50;
const POLL_MAX_MS = 5_000;
/** Longest wait for the answer to a get or a cancel, in milliseconds, and to a cancel when the server stops. */
const CONTROL_TIMEOUT_MS = 30_000;
const LAST_WORDS_MS = 1_000;

export class TaskCopy {
  readonly #deps: DeliveryDeps;
  readonly #client: AgentClient;
  readonly #delivery: TaskDelivery;
  readonly #signal: AbortSignal;
  #name: string | undefined;
  #hasEnded = false;

  /**
   * `header` is the task's, with the copy's agent and that agent's id of the context. The client is the copy's to release,
   * and `signal` ends its calls.
   */
  constructor(deps: DeliveryDeps, header: TaskHeader, client: AgentClient, signal: AbortSignal) {
    this.#deps = deps;
    this.#client = client;
    this.#signal = signal;
    const image = { header: { ...header, upstreamTaskId: undefined } };
    this.#delivery = new TaskDelivery(deps, { image }, client, signal);
  }

  /**
   * Sends the message, and waits until the copy rests: until it has ended, or asks something. Throws AgentCallError, and the
   * reason of the signal.
   */
  async answer(message: Message, delivery: Delivery): Promise<TaskResult> {
    const answer = this.#client.streaming
      ? await this.#hear(await this.#delivery.stream(message, delivery))
      : this.#reply(await this.#delivery.sendAndReturn(message, delivery));
    return answer ?? { task: await this.#look() };
  }

  /**
   * Lets go of it. Work that the agent has named and not ended is canceled there. `life` ends with the server; then there is
   * a second left to tell the agent. Never throws.
   */
  async end(life: AbortSignal, log: TaskLog): Promise<void> {
    if (this.#name !== undefined && !this.#hasEnded) {
      const signal = life.aborted ? AbortSignal.timeout(LAST_WORDS_MS) : life;
      try {
        await this.#client.cancel(this.#name, { signal, timeoutMs: CONTROL_TIMEOUT_MS });
      } catch (error) {
        log.info({ err: error }, "the agent of a copy could not be told that its work is not wanted");
      }
    }
    this.#client.release();
  }

  /** Listens to a stream until it ends, or the copy rests. Undefined: the copy has a name to be looked at by. */
  async #hear(stream: AsyncIterable<StreamResponse>): Promise<TaskResult | undefined> {
    for await (const item of stream) {
      const { payload } = item;
      if (payload.case === "message" && this.#name === undefined) return this.#reply(item);
      if (payload.case === "task") this.#identify(payload.value.id);
      else if (payload.case === "statusUpdate" || payload.case === "artifactUpdate")
        this.#identify(payload.value.taskId);
      if ((payload.case === "task" || payload.case === "statusUpdate") && this.#rests(payload.value.status?.state))
        break;
    }
    return undefined;
  }

  #reply({ payload }: StreamResponse): TaskResult | undefined {
    if (payload.case === "message") {
      this.#hasEnded = true;
      return { message: payload.value };
    }
    if (payload.case !== "task")
      throw new AgentCallError("invalid", "The agent answered with neither a task nor a message.");
    this.#identify(payload.value.id);
    return undefined;
  }

  /** The copy as a whole, once it rests. */
  async #look(): Promise<Task> {
    const { runtime, agentTimeoutMs } = this.#deps;
    const signal = this.#signal;
    const timeoutMs = Math.min(CONTROL_TIMEOUT_MS, agentTimeoutMs);
    if (this.#name === undefined) throw new AgentCallError("invalid", "The agent ended its answer without a task.");
    for (let looks = 0; ; looks++) {
      const task = await this.#client.get(this.#name, { signal, timeoutMs });
      if (this.#rests(task.status?.state)) return task;
      await runtime.wait(backoffMs(looks, POLL_MIN_MS, POLL_MAX_MS, runtime.random), signal);
    }
  }

  #identify(taskId: string): void {
    if (taskId === this.#name) return;
    if (this.#name !== undefined || idViolations("id", taskId).length > 0)
      throw new AgentCallError("invalid", "The agent reported on a task that is not the one it was asked about.");
    this.#name = taskId;
  }

  #rests(state: TaskState | undefined): boolean {
    if (state === undefined) return false;
    this.#hasEnded = isTerminal(state);
    return this.#hasEnded || isInterrupted(state);
  }
}
