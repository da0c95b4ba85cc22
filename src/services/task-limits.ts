/** The limits of time under which a replica carries a task. */
import type { Runtime } from "./runtime.ts";

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
