/**
 * Causes of rows in the logs of tasks that are read again, by whoever wants to know what became of a task: whether its agent was at
 * fault, whether it was asked at all. Each is written and known here alone. Rows of the log stay as they are: what is said otherwise
 * from now on must still be known as it was said. Pure.
 */

/** What is known of a call that failed. */
interface FailedCall {
  readonly kind: "unreachable" | "broken" | "timeout" | "refused" | "invalid";
  /** What the agent gave as the reason of an error of its own. */
  readonly reason?: string | undefined;
  readonly message: string;
}

/** Begins the `cause` of a failure whose raw answer the log keeps. */
export const INVALID_ANSWER = "INVALID_AGENT_RESPONSE";
/** Begins the `cause` of a failure whose data the log keeps: they break the output schema of the capability. */
export const OUTPUT_SCHEMA = "OUTPUT_SCHEMA";
export const REPORTED_BY_AGENT = "reported by the agent";
/** Begins the cause of a refusal that says that the message is wrong. */
const AS_SENT = "refused as sent";

/** Errors by which an agent says that the fault is the client's. */
const CLIENTS_FAULTS = new Set([
  "CONTENT_TYPE_NOT_SUPPORTED",
  "EXTENSION_SUPPORT_REQUIRED",
  "HTTP_400",
  "HTTP_413",
  "HTTP_415",
  "HTTP_422",
  "INVALID_ARGUMENT",
  "INVALID_PARAMS",
  "JSON_RPC_-32602",
]);

/** The cause of a failure, in one line. */
export function failureCause({ kind, reason = "", message }: FailedCall): string {
  if (kind === "invalid") return `${INVALID_ANSWER}: ${message}`;
  return `${kind === "refused" && CLIENTS_FAULTS.has(reason) ? AS_SENT : kind}: ${message}`;
}

const BY_AGENT = new RegExp(
  `^(?:${REPORTED_BY_AGENT}$|(?:unreachable|broken|timeout|refused|${INVALID_ANSWER}|${OUTPUT_SCHEMA}): )`,
);

/** Whether a cause says that the agent is to blame. */
export const isAgentsFault = (cause: string): boolean => BY_AGENT.test(cause);

/** The cause of the row by which a task leaves an agent that failed it for another. `why` may hold anything. */
export const movedCause = (attempt: number, why: string, { from, to }: { from: string; to: string }): string =>
  attemptFailed(attempt, why, `the next one is with agent ${to} instead of ${from}`);

export const attemptFailed = (attempt: number, why: string, next: string): string =>
  `attempt ${attempt} failed: ${why.replace(/\s+/g, " ")}; ${next}`;

/**
 * The agent that a task has left, by the cause of its move; undefined where it was not to blame. What an agent says of itself
 * cannot pass for another: it is never at the end.
 */
export function movedFrom(cause: string): string | undefined {
  const match = /^attempt \d+ failed: (.*); the next one is with agent [a-z0-9-]+ instead of ([a-z0-9-]+)$/.exec(cause);
  return match && !match[1]!.startsWith(`${AS_SENT}: `) ? match[2] : undefined;
}

/** The cause of a completion that is the result of an earlier task, or of an equal one: no agent was asked. */
export const givenAgainCause = (taskId: string): string => `the result of task ${taskId}`;

export const isGivenAgain = (cause: string): boolean => cause.startsWith(givenAgainCause(""));

/** The cause of a failure because a time limit has passed. */
export const timeLimitCause = (limit: string): string => `time limit: ${limit}`;

/** The cause of the row by which a task goes from a slow agent to one that has done it meanwhile. */
export const overtakenCause = ({ from, to }: { from: string; to: string }): string =>
  `agent ${to} was faster than ${from}`;

/** Matches it in SQL, by LIKE. */
export const OVERTAKEN_PATTERN = overtakenCause({ from: "%", to: "%" });
