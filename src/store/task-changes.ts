/** What the rows that are added to a task's log change in the task's own row. Pure. */
import { TaskSchema, TaskState, type TaskStatus } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { type NewUpdate, stateBrought } from "../domain/task-log.ts";
import { EngineState, isClaimable, mayGo } from "../domain/task-state.ts";
import { written } from "./task-codec.ts";

export interface Changes {
  /** The states that the updates bring, in their order. */
  states: EngineState[];
  status?: TaskStatus;
  metadata?: Uint8Array;
}

/** The columns of the task's row that follow from the rows of its log. */
export function changedBy(updates: readonly NewUpdate[]): Changes {
  const changed: Changes = { states: [] };
  for (const update of updates) {
    const { payload } = update.body;
    const state = stateBrought(update);
    if (state !== undefined) changed.states.push(state);
    if (payload.case === "statusUpdate" && payload.value.status) changed.status = payload.value.status;
    else if (update.kind === "reply")
      changed.status = { $typeName: "lf.a2a.v1.TaskStatus", state: TaskState.COMPLETED };
    else if (payload.case === "task") changed.metadata = written(TaskSchema, payload.value);
  }
  return changed;
}

const ANY_STATE = -1;
/** A state that no task has. */
export const NO_STATE = 0;

/**
 * The states, as bits of a number, that a task may be in to take these in turn. The database looks at the step from what it
 * has to the last one: this is for those between.
 */
export function statesBefore(states: readonly EngineState[]): number {
  const [first] = states;
  if (first === undefined || states.length === 1) return ANY_STATE;
  if (!states.every((state, i) => i === 0 || mayGo(states[i - 1]!, state))) return NO_STATE;
  return Object.values(EngineState).reduce((bits, from) => (mayGo(from, first) ? bits | (1 << from) : bits), NO_STATE);
}

/** Who waits for a replica waits from now on, if not told otherwise. */
export const wakeByDefault = (state: EngineState | undefined): number | null =>
  state !== undefined && isClaimable(state) ? 0 : null;
