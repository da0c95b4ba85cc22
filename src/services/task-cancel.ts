/** Ends a task at its client's wish. Whatever else happens at the same moment, the log knows one outcome. */
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { StreamResponseSchema, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { statusUpdate } from "../domain/agent-report.ts";
import { taskNotCancelable } from "../domain/errors.ts";
import { type NewUpdate, stateOf, type TaskImage } from "../domain/task-log.ts";
import { type EngineState, isTerminal, stateName } from "../domain/task-state.ts";
import type { AgentCallError, AgentCallOptions, AgentClient } from "./agent-port.ts";
import type { TaskLog } from "./late-log.ts";
import type { Runtime } from "./runtime.ts";
import type { ByPrincipal } from "./task-append.ts";
import type { TaskReporter } from "./task-reporter.ts";
import { LeaseLostError, type TaskWriter } from "./task-writer.ts";

/** Why a task ends CANCELED, for operators, and what its client reads when nobody could be told. */
export const CANCELED_BY_CLIENT = "canceled by its client";
export const AGENT_LEFT = "The agent has left; it could not be told.";

const asked = (state: EngineState): NewUpdate => ({
  kind: "transition",
  body: create(StreamResponseSchema),
  state,
  cause: "its client asks to cancel it",
});

interface CancelDeps {
  runtime: Runtime;
  log: TaskLog;
  /** Whom the client leads to. A task that is another agent's by now is not canceled there. */
  agentId: string;
  /** Has written down how the task stands at its agent. */
  look(upstreamTaskId: string): Promise<void>;
  /** The failure of a call to the agent as clients may see it; rethrows what is none. */
  asCallError(error: unknown): AgentCallError;
  /** What a short call to the agent is made with. */
  control(signal: AbortSignal): AgentCallOptions;
}

/** Returns a function that cancels in the name of a principal, and throws TaskNotCancelable when the agent, or the task's state, forbids it. */
export function createTaskCancel(
  { log, runtime, agentId, look, asCallError, control }: CancelDeps,
  writer: TaskWriter,
  client: AgentClient,
  reporter: TaskReporter,
): (signal: AbortSignal, by: ByPrincipal) => Promise<void> {
  const state = () => stateOf(writer.image);

  function checkAgent({ header }: TaskImage): void {
    if (header.agentId !== agentId) throw new LeaseLostError(header.taskId);
  }

  async function cancelAtAgent(
    { taskId, upstreamTaskId, by }: { taskId: string; upstreamTaskId: string; by: ByPrincipal },
    signal: AbortSignal,
  ): Promise<void> {
    try {
      const task = await client.cancel(upstreamTaskId, control(signal));
      // A snapshot beside a running stream would repeat chunks that are still on their way; a final one cannot. One that
      // is not final is for who follows the task.
      // It counts whoever has the task by now: one of several cancels must come through.
      if (task.status && isTerminal(task.status.state)) await reporter.reportTask(task, { options: { take: true } });
    } catch (error) {
      signal.throwIfAborted();
      // Another cancel, or the agent's own end of the task, was faster.
      if (isTerminal(state())) return;
      const failure = asCallError(error);
      if (failure.kind !== "refused" || failure.reason === "TASK_NOT_FOUND") {
        const text = "The agent could not be told of the cancellation.";
        return reporter.set(TaskState.CANCELED, text, CANCELED_BY_CLIENT, { take: true, by });
      }
      await look(upstreamTaskId).catch((e: unknown) => {
        log.info({ err: e }, "no look at the task after a refused cancel");
      });
      // Its words have had no verdict.
      const why = writer.holdsBack ? "its agent refused." : failure.message;
      if (!isTerminal(state())) throw taskNotCancelable(taskId, why);
    }
  }

  return async (signal, by) => {
    const { taskId, upstreamTaskId } = writer.image.header;
    if (isTerminal(state())) throw taskNotCancelable(taskId, `it is ${stateName(state())} already.`);
    let name = upstreamTaskId;
    if (name === undefined) {
      // The outcome is decided here; the agent is told as soon as it names the task. It may have done so in this very moment.
      const timestamp = timestampFromDate(runtime.now());
      await writer.append(
        (image) => {
          checkAgent(image);
          const { header } = image;
          name = header.upstreamTaskId;
          if (name !== undefined) return [];
          return [statusUpdate(header, { state: TaskState.CANCELED, timestamp }, CANCELED_BY_CLIENT)];
        },
        { take: true, by },
        signal,
      );
    }
    if (name !== undefined && !isTerminal(state())) {
      // So that it can be told from an agent that cancels by itself, and is known of when the agent refuses.
      const noted = (image: TaskImage) => {
        checkAgent(image);
        return [asked(image.state)];
      };
      await writer.append(noted, { hidden: "either", by }, signal);
      await cancelAtAgent({ taskId, upstreamTaskId: name, by }, signal);
    }
    if (isTerminal(state()) && state() !== TaskState.CANCELED) {
      throw taskNotCancelable(taskId, `it is ${stateName(state())} already.`);
    }
  };
}
