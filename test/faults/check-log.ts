/** What must be true of each log by itself, whatever has happened to the replicas that wrote it. */
import type { TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { foldTask, stateBrought, stateOf, type TaskImage } from "../../src/domain/task-log.ts";
import {
  type EngineState,
  engineStateName,
  INITIAL_STATES,
  isInterrupted,
  isLeased,
  isTerminal,
  mayFollow,
  mayGo,
  TERMINAL_STATES,
} from "../../src/domain/task-state.ts";
import type { LogRow, StoredLog } from "./evidence.ts";

/** The task that a log makes, which must be whole: see `checkNumbers`. */
export const imageOf = ({ header, rows }: StoredLog, upTo = rows.length): TaskImage =>
  foldTask({ ...header }, rows.slice(0, upTo));

export function checkLog(log: StoredLog): string[] {
  const faults = checkNumbers(log);
  // Nothing can be said of a log that is not whole.
  if (faults.length > 0) return faults;
  return [...checkStates(log.rows), ...checkTokens(log), ...checkRow(log)];
}

/** Numbers from 1 without gaps. */
function checkNumbers({ rows, lastSeq }: StoredLog): string[] {
  const wrong = rows.find(({ seq }, i) => seq !== i + 1);
  if (wrong) return [`gap: row ${wrong.seq} does not follow ${rows.indexOf(wrong)}`];
  return rows.length === lastSeq ? [] : [`gap: the log ends at ${rows.length}, its task at ${lastSeq}`];
}

/** No step that the table does not have, neither of the engine nor of what clients see, and nothing after the end. */
function checkStates(rows: readonly LogRow[]): string[] {
  const faults: string[] = [];
  let state: EngineState | undefined;
  let seen: TaskState | undefined;
  for (const row of rows) {
    const next = stateBrought(row);
    if (state !== undefined && TERMINAL_STATES.some((end) => (end as number) === state))
      faults.push(`transition: row ${row.seq} follows the end, ${engineStateName(state)}`);
    const { payload } = row.body;
    const shown = payload.case === "statusUpdate" ? payload.value.status?.state : undefined;
    if (shown !== undefined && seen !== undefined && !mayFollow(seen, shown))
      faults.push(`transition: row ${row.seq} shows ${shown} after ${seen}`);
    seen = shown ?? seen;
    if (next === undefined) continue;
    const legal = state === undefined ? INITIAL_STATES.includes(next) : mayGo(state, next);
    const from = state === undefined ? "nothing" : engineStateName(state);
    if (!legal) faults.push(`transition: row ${row.seq} goes from ${from} to ${engineStateName(next)}`);
    state = next;
  }
  return faults;
}

/** One writer to a token, and tokens and attempts that never go down. */
function checkTokens({ rows, header }: StoredLog): string[] {
  const faults: string[] = [];
  const writers = new Map<number, string>();
  let last: LogRow | undefined;
  for (const row of rows) {
    const writer = writers.get(row.fence) ?? row.writtenBy;
    writers.set(row.fence, writer);
    if (writer !== row.writtenBy)
      faults.push(`owner: row ${row.seq} is of ${row.writtenBy}, under token ${row.fence} of ${writer}`);
    if (last && row.fence < last.fence) faults.push(`owner: token ${row.fence} in row ${row.seq} after ${last.fence}`);
    if (last && row.attempt < last.attempt)
      faults.push(`owner: attempt ${row.attempt} in row ${row.seq} after ${last.attempt}`);
    last = row;
  }
  if (last && (last.fence !== header.fence || last.attempt !== header.attempt))
    faults.push(`row: token ${header.fence}, attempt ${header.attempt}, the log says ${last.fence}, ${last.attempt}`);
  return faults;
}

/** The task's own row says what its log says. */
function checkRow(log: StoredLog): string[] {
  const faults: string[] = [];
  const image = imageOf(log);
  const { leaseOwner } = log.header;
  if (log.state !== image.state) faults.push(`row: state ${log.state}, the log says ${image.state}`);
  if (log.a2aState !== stateOf(image)) faults.push(`row: shows ${log.a2aState}, the log says ${stateOf(image)}`);
  if (leaseOwner !== undefined && leaseOwner !== log.rows.at(-1)?.writtenBy)
    faults.push(`row: ${leaseOwner} has it, and another wrote last`);
  if (isLeased(image.state) !== (leaseOwner !== undefined)) faults.push(`row: lease of ${leaseOwner ?? "nobody"}`);
  return faults;
}

/** Whether a task has ended, or waits for its client: what everything that was acknowledged must come to. */
export function hasComeToRest(log: StoredLog): boolean {
  const state = stateOf(imageOf(log));
  return isTerminal(state) || isInterrupted(state);
}
