/**
 * The states of a task and the ways between them. The one place that says what may follow what: the database holds a copy
 * and refuses the rest (a test compares the two), and docs/task-lifecycle.md shows it as a picture.
 *
 * The engine has ten states. Clients see the eight of A2A (specification, section 4.1.3): SCHEDULED, QUEUED and ASSIGNED
 * are SUBMITTED to them, until the task has once been more than that. What they see never goes back to SUBMITTED: a task
 * that waits for another attempt after it was WORKING stays WORKING in their eyes.
 */
import { TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";

/** Where a task is in the engine. Numbers are stored: those of A2A's own states are A2A's. */
export const EngineState = {
  /** Waits for a replica that has room for it. */
  QUEUED: 1,
  /** The agent works on it. */
  WORKING: 2,
  COMPLETED: 3,
  FAILED: 4,
  CANCELED: 5,
  /** Waits for its client's next message, or before its first attempt for its approval; no replica holds it. */
  INPUT_REQUIRED: 6,
  REJECTED: 7,
  /** Waits for its client to authenticate out of band; its replica listens on. */
  AUTH_REQUIRED: 8,
  /** A replica has it and brings it to its agent, which has not taken it up yet. */
  ASSIGNED: 9,
  /** Not yet due: it waits for its time, or to be tried again. */
  SCHEDULED: 10,
} as const;

export type EngineState = (typeof EngineState)[keyof typeof EngineState];

const { QUEUED, WORKING, COMPLETED, FAILED, CANCELED, INPUT_REQUIRED, REJECTED, AUTH_REQUIRED, ASSIGNED, SCHEDULED } =
  EngineState;

const ENDS: readonly EngineState[] = [COMPLETED, FAILED, CANCELED, REJECTED];
/** What an agent may make of a task that it has. */
const AGENT_SAYS: readonly EngineState[] = [WORKING, INPUT_REQUIRED, AUTH_REQUIRED, ...ENDS];

/** The states in which a task may be stored first. */
export const INITIAL_STATES: readonly EngineState[] = [ASSIGNED, QUEUED, SCHEDULED];

/**
 * From a state to those that may follow it. A state that may follow itself carries something new: a message, an owner.
 * From INPUT_REQUIRED nothing leads to another attempt, because the agent has done its part and asks; but what waited for its
 * approval goes on to the first one.
 */
export const TRANSITIONS: ReadonlyMap<EngineState, readonly EngineState[]> = new Map([
  [SCHEDULED, [SCHEDULED, QUEUED, ASSIGNED, FAILED, CANCELED, REJECTED]],
  [QUEUED, [QUEUED, SCHEDULED, ASSIGNED, INPUT_REQUIRED, FAILED, CANCELED, REJECTED]],
  [ASSIGNED, [ASSIGNED, QUEUED, SCHEDULED, ...AGENT_SAYS]],
  [WORKING, [QUEUED, SCHEDULED, ...AGENT_SAYS]],
  [INPUT_REQUIRED, [QUEUED, ...AGENT_SAYS]],
  [AUTH_REQUIRED, [QUEUED, SCHEDULED, ...AGENT_SAYS]],
  [COMPLETED, []],
  [FAILED, []],
  [CANCELED, []],
  [REJECTED, []],
]);

/** Whether the engine's table has this way. */
export const mayGo = (from: EngineState, to: EngineState): boolean => TRANSITIONS.get(from)?.includes(to) ?? false;

/** Whether nothing follows from a state. */
export const isFinal = (state: EngineState): boolean => TRANSITIONS.get(state)?.length === 0;

/** Whether a replica holds a task in this state by a lease; in all others nobody does. */
export const isLeased = (state: EngineState): boolean =>
  state === ASSIGNED || state === WORKING || state === AUTH_REQUIRED;

/** Whether a task in this state waits to be claimed by a replica, now or when it is due. */
export const isClaimable = (state: EngineState): boolean => state === QUEUED || state === SCHEDULED;

/** The engine's state as people write it: `ASSIGNED`. */
export const engineStateName = (state: EngineState): string => EngineStateNames.get(state) ?? `STATE_${state}`;

/** Whether a number is that of a state. */
export const isEngineState = (state: number): state is EngineState => EngineStateNames.has(state as EngineState);

const EngineStateNames: ReadonlyMap<EngineState, string> = new Map(
  Object.entries(EngineState).map(([name, value]) => [value, name]),
);

// --- as clients see it

/** The states from which nothing follows. */
export const TERMINAL_STATES: readonly TaskState[] = [
  TaskState.COMPLETED,
  TaskState.FAILED,
  TaskState.CANCELED,
  TaskState.REJECTED,
];

export const isTerminal = (state: TaskState): boolean => TERMINAL_STATES.includes(state);

/** The states in which the task waits for its client (section 3.2.2). */
export const isInterrupted = (state: TaskState): boolean =>
  state === TaskState.INPUT_REQUIRED || state === TaskState.AUTH_REQUIRED;

/** The engine's state that an A2A state of an agent's report stands for. SUBMITTED: the agent has it, and has not begun. */
export function engineState(state: TaskState): EngineState {
  if (state === TaskState.SUBMITTED) return ASSIGNED;
  if (!EngineStateNames.has(state as EngineState)) throw new RangeError(`a task has no state ${state}`);
  return state as EngineState;
}

/** Whether clients may see `to` after `from`: the engine's table, with what they must not see taken away. */
export function mayFollow(from: TaskState, to: TaskState): boolean {
  if (!isKnown(from) || !isKnown(to)) return false;
  if (to === TaskState.SUBMITTED) return from === TaskState.SUBMITTED;
  return mayGo(engineState(from), engineState(to));
}

const isKnown = (state: TaskState): boolean => state !== TaskState.UNSPECIFIED && TaskStateNames.has(state);

/**
 * The state to record when an agent reports `reported` for a task in `from`, or undefined when the report says nothing
 * that may follow. An agent that says SUBMITTED of a task that has begun is read as WORKING.
 */
export function stateAfterReport(from: TaskState, reported: TaskState): TaskState | undefined {
  const to = reported === TaskState.SUBMITTED && from !== TaskState.SUBMITTED ? TaskState.WORKING : reported;
  return mayFollow(from, to) ? to : undefined;
}

/** The state as people write it: `INPUT_REQUIRED`. */
export const stateName = (state: TaskState): string => TaskStateNames.get(state) ?? `STATE_${state}`;

const TaskStateNames: ReadonlyMap<TaskState, string> = new Map(
  Object.entries(TaskState).map(([name, value]) => [value as TaskState, name]),
);
