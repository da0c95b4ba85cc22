/**
 * The states of a task and the ways between them (A2A specification, section 4.1.3). The one place that says what may
 * follow what: a terminal state is final, and what clients see never goes back to SUBMITTED.
 */
import { TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";

const { SUBMITTED, WORKING, COMPLETED, FAILED, CANCELED, INPUT_REQUIRED, REJECTED, AUTH_REQUIRED } = TaskState;

const AFTER_SUBMITTED: readonly TaskState[] = [
  WORKING,
  INPUT_REQUIRED,
  AUTH_REQUIRED,
  COMPLETED,
  FAILED,
  CANCELED,
  REJECTED,
];

/** From a state to those that may follow it. A state may follow itself: it then carries a new message. */
const TRANSITIONS: ReadonlyMap<TaskState, readonly TaskState[]> = new Map([
  [SUBMITTED, [SUBMITTED, ...AFTER_SUBMITTED]],
  [WORKING, AFTER_SUBMITTED],
  [INPUT_REQUIRED, AFTER_SUBMITTED],
  [AUTH_REQUIRED, AFTER_SUBMITTED],
  [COMPLETED, []],
  [FAILED, []],
  [CANCELED, []],
  [REJECTED, []],
]);

/** The states from which nothing follows. */
export const TERMINAL_STATES: readonly TaskState[] = [COMPLETED, FAILED, CANCELED, REJECTED];

export const isTerminal = (state: TaskState): boolean => TERMINAL_STATES.includes(state);

/** The states in which the task waits for its client (section 3.2.2). */
export const isInterrupted = (state: TaskState): boolean => state === INPUT_REQUIRED || state === AUTH_REQUIRED;

export const mayFollow = (from: TaskState, to: TaskState): boolean => TRANSITIONS.get(from)?.includes(to) ?? false;

/**
 * The state to record when an agent reports `reported` for a task in `from`, or undefined when the report says nothing
 * that may follow. An agent that says SUBMITTED of a task that has begun is read as WORKING.
 */
export function stateAfterReport(from: TaskState, reported: TaskState): TaskState | undefined {
  const to = reported === SUBMITTED && from !== SUBMITTED ? WORKING : reported;
  return mayFollow(from, to) ? to : undefined;
}

/** The state as people write it: `INPUT_REQUIRED`. */
export const stateName = (state: TaskState): string => TaskStateNames.get(state) ?? `STATE_${state}`;

const TaskStateNames: ReadonlyMap<TaskState, string> = new Map(
  Object.entries(TaskState).map(([name, value]) => [value as TaskState, name]),
);
