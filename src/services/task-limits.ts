/** The limits of time under which a replica carries a task, and what follows when one has passed. */
import { TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { timeLimitCause } from "../domain/cause.ts";
import { stateOf } from "../domain/task-log.ts";
import { isTerminal } from "../domain/task-state.ts";
import { AgentCallError, type AgentCallOptions, type AgentClient } from "./agent-port.ts";
import type { TaskLog } from "./late-log.ts";
import type { Runtime } from "./runtime.ts";
import type { TaskAttempts } from "./task-attempts.ts";
import type { TaskReporter } from "./task-reporter.ts";
import { LeaseLostError, type TaskWriter } from "./task-writer.ts";

/**
 * - `deadline`: the task's own deadline has passed.
 * - `attempt`: this replica has been at it for as long as one attempt may last.
 * - `input`: the task has waited for its client as long as it may.
 */
export type TimeLimit = "deadline" | "attempt" | "input";

const MESSAGES: Record<TimeLimit, string> = {
  deadline: "The task's deadline passed before its agent finished.",
  attempt: "The agent took longer than one attempt may last.",
  input: "The task waited for input for too long.",
};

export class TimeLimitError extends Error {
  readonly limit: TimeLimit;

  constructor(limit: TimeLimit) {
    super(MESSAGES[limit]);
    this.name = "TimeLimitError";
    this.limit = limit;
  }
}

/** Node's longest timer, 24.8 days: a limit beyond it is looked at again. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** Calls `onLimit` once, with whichever limit comes first, until the returned function is called. */
export function armTimeLimit(
  runtime: Runtime,
  deadlineAt: Date | undefined,
  attemptTimeoutMs: number,
  onLimit: (error: TimeLimitError) => void,
): () => void {
  const attemptEnds = runtime.now().getTime() + attemptTimeoutMs;
  const deadline = deadlineAt?.getTime() ?? Number.POSITIVE_INFINITY;
  const limit = deadline <= attemptEnds ? "deadline" : "attempt";
  const ends = Math.min(deadline, attemptEnds);
  let timer: NodeJS.Timeout;
  const wait = () => {
    const leftMs = ends - runtime.now().getTime();
    if (leftMs <= 0) onLimit(new TimeLimitError(limit));
    else timer = setTimeout(wait, Math.min(leftMs, LONGEST_TIMER_MS));
  };
  wait();
  return () => clearTimeout(timer);
}

export interface LimitDeps {
  readonly log: TaskLog;
  attempts(): TaskAttempts;
  /** What the agent is called with when it is no longer listened to. */
  lastWords(): AgentCallOptions;
}

/** A limit has passed: the agent is told, and if it has not ended the task itself by then, the attempt has failed. */
export async function endAtLimit(
  { limit, message }: TimeLimitError,
  deps: LimitDeps,
  writer: TaskWriter,
  client: AgentClient,
  reporter: TaskReporter,
): Promise<void> {
  deps.log.info({ limit }, "a time limit has passed");
  const { upstreamTaskId } = writer.image.header;
  if (upstreamTaskId !== undefined) {
    try {
      const task = await client.cancel(upstreamTaskId, deps.lastWords()).catch((error: unknown) => {
        // An agent also refuses because it is done.
        if (error instanceof AgentCallError && error.kind === "refused")
          return client.get(upstreamTaskId, deps.lastWords());
        throw error;
      });
      if (task.status && isTerminal(task.status.state) && task.status.state !== TaskState.CANCELED)
        await reporter.reportTask(task, { options: {} });
    } catch (error) {
      if (error instanceof LeaseLostError) throw error;
      deps.log.info({ err: error }, "the agent could not be told that the time is up");
    }
  }
  if (isTerminal(stateOf(writer.image))) return;
  if (limit === "attempt") return deps.attempts().failed(new AgentCallError("timeout", message));
  await reporter.set(TaskState.FAILED, message, timeLimitCause(limit));
}
