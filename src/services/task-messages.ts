/** Messages that are brought to the agent of a task while the task runs, beside what its agent is listened to for. */
import type { Message } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { type Delivery, stateOf } from "../domain/task-log.ts";
import { isTerminal } from "../domain/task-state.ts";
import { AgentCallError } from "./agent-port.ts";
import type { TaskLog } from "./late-log.ts";
import type { TaskDelivery } from "./task-delivery.ts";
import type { TaskReporter } from "./task-reporter.ts";
import { LeaseLostError, type TaskWriter } from "./task-writer.ts";

export interface MessagesDeps {
  readonly log: TaskLog;
  readonly writer: TaskWriter;
  readonly delivery: TaskDelivery;
  readonly reporter: TaskReporter;
  /** Resolves when the agent has named the task, or no longer will. */
  readonly named: Promise<void>;
  /** Aborted when the agent is no longer listened to. */
  readonly ends: AbortSignal;
  /** The failure of a call to the agent as clients may see it. */
  asCallError(error: unknown): AgentCallError;
}

export class TaskMessages {
  /** How many were sent, and how many of them have reached the agent. */
  sent = 0;
  delivered = 0;
  readonly #deps: MessagesDeps;
  readonly #underWay = new Set<Promise<void>>();

  constructor(deps: MessagesDeps) {
    this.#deps = deps;
  }

  get pending(): number {
    return this.#underWay.size;
  }

  add(message: Message, delivery: Delivery): Promise<void> {
    this.sent += 1;
    const work = this.#deliver(message, delivery).finally(() => this.#underWay.delete(work));
    this.#underWay.add(work);
    return work;
  }

  /** Resolves when none of those that are on their way now is any more. */
  async settled(): Promise<void> {
    await Promise.allSettled(this.#underWay);
  }

  async #deliver(message: Message, delivery: Delivery): Promise<void> {
    const { log, writer, reporter, ends } = this.#deps;
    try {
      // Without its name the agent would take the message for the first of another task.
      if (writer.image.header.upstreamTaskId === undefined) await this.#deps.named;
      // Who has the task now, if another has taken it, reads the message in its log.
      if (isTerminal(stateOf(writer.image)) || writer.image.header.upstreamTaskId === undefined) return;
      // What the message causes comes over the stream that is open: its own answer would say it twice.
      await this.#deps.delivery.sendAndReturn(message, delivery);
      this.delivered += 1;
    } catch (error) {
      if (ends.aborted || error instanceof LeaseLostError) return;
      // One message that cannot be told is no reason to end the task.
      if (!(error instanceof AgentCallError)) log.error({ err: error }, "a message could not be delivered");
      const why =
        error instanceof AgentCallError ? this.#deps.asCallError(error).message : "the router met an internal error.";
      await reporter.remark(`The message could not be delivered: ${why}`).catch((failure: unknown) => {
        if (ends.aborted || failure instanceof LeaseLostError) return;
        log.error({ err: failure }, "an undelivered message could not be noted");
      });
    }
  }
}
