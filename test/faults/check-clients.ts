/** What clients were told, against what the log says. */
import { equals } from "@bufbuild/protobuf";
import { type StreamResponse, StreamResponseSchema, TaskSchema, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { stateOf } from "../../src/domain/task-log.ts";
import { isTerminal, stateName } from "../../src/domain/task-state.ts";
import { hasComeToRest, imageOf } from "./check-log.ts";
import type { Evidence, LogRow, SeenAnswers, SeenStream, SentMessage, StoredLog } from "./evidence.ts";

/** Nothing that was acknowledged is lost. */
export function checkAcknowledged(log: StoredLog | undefined): string[] {
  if (!log) return ["lost: it was acknowledged, and is not stored"];
  return hasComeToRest(log) ? [] : [`lost: acknowledged, and still ${stateName(stateOf(imageOf(log)))}`];
}

/** A message that was acknowledged is in the log, once. */
export function checkMessage(message: SentMessage, log: StoredLog): string[] {
  const count = log.rows.filter(
    ({ kind, body: { payload } }) =>
      kind === "message" && payload.case === "message" && payload.value.messageId === message.messageId,
  ).length;
  if (count > 1) return [`message ${message.messageId} is in the log ${count} times`];
  return message.acknowledged && count === 0 ? [`lost: message ${message.messageId} was acknowledged`] : [];
}

/** A watcher saw the task as it stood at a number, and then what followed it, without a gap and in its order. */
export function checkStream({ after, items }: SeenStream, log: StoredLog): string[] {
  const [first, ...rest] = items;
  if (!first) return [];
  const { payload } = first.response;
  if (payload.case === "message")
    return checkItems(
      items,
      log.rows.filter(({ kind }) => kind === "reply"),
    );
  if (payload.case !== "task") return [`watcher: begins with ${payload.case}`];
  if (after !== undefined && first.sequence !== after) return [`watcher: begins at ${first.sequence}, not at ${after}`];
  if (first.sequence > log.rows.length) return [`watcher: begins at ${first.sequence}, beyond the log`];
  const faults = equals(TaskSchema, payload.value, imageOf(log, first.sequence).task)
    ? []
    : [`watcher: the task at ${first.sequence} is not what the log says`];
  const visible = ({ kind, seq }: LogRow) => seq > first.sequence && (kind === "status" || kind === "artifact");
  return [...faults, ...checkItems(rest, log.rows.filter(visible))];
}

/** Items are a beginning of the rows that were to be seen. */
function checkItems(items: SeenStream["items"], rows: readonly LogRow[]): string[] {
  for (const [i, { sequence, response }] of items.entries()) {
    const row = rows[i];
    if (row?.seq !== sequence) return [`watcher: saw ${sequence} where ${row?.seq ?? "nothing"} was to come`];
    if (!equals(StreamResponseSchema, response, row.body)) return [`watcher: saw another ${sequence} than is stored`];
  }
  return [];
}

/** The one outcome is the same for everybody, and what one client saw never goes back. */
export function checkStates(answers: readonly SeenAnswers[], streams: readonly SeenStream[], log: StoredLog): string[] {
  const outcome = stateOf(imageOf(log));
  const faults: string[] = [];
  const seen = [
    ...answers.map(({ states }) => states),
    ...streams.map(({ items }) => items.flatMap(({ response }) => stateIn(response) ?? [])),
  ];
  for (const states of seen) {
    for (const [i, state] of states.entries()) {
      if (isTerminal(state) && state !== outcome)
        faults.push(`outcome: a client saw ${stateName(state)}, stored is ${stateName(outcome)}`);
      const before = states[i - 1];
      if (before !== undefined && goesBack(before, state))
        faults.push(`back: a client saw ${stateName(state)} after ${stateName(before)}`);
    }
  }
  return faults;
}

const goesBack = (before: TaskState, after: TaskState): boolean =>
  (isTerminal(before) && after !== before) || (after === TaskState.SUBMITTED && before !== TaskState.SUBMITTED);

function stateIn({ payload }: StreamResponse): TaskState | undefined {
  return payload.case === "task" || payload.case === "statusUpdate" ? payload.value.status?.state : undefined;
}

/** Everything that clients were told, by task. */
export function checkClients({ tasks, acknowledged, messages, streams, answers }: Evidence): string[] {
  const logs = new Map(tasks.map((log) => [log.header.taskId, log]));
  const of = <T extends { taskId?: string }>(items: readonly T[]) => Map.groupBy(items, ({ taskId }) => taskId ?? "");
  const [messagesOf, streamsOf, answersOf] = [of(messages), of(streams), of(answers)];
  return [...acknowledged].flatMap((taskId) => {
    const log = logs.get(taskId);
    const faults = checkAcknowledged(log);
    if (log) {
      const watched = streamsOf.get(taskId) ?? [];
      for (const message of messagesOf.get(taskId) ?? []) faults.push(...checkMessage(message, log));
      for (const stream of watched) faults.push(...checkStream(stream, log));
      faults.push(...checkStates(answersOf.get(taskId) ?? [], watched, log));
    }
    return faults.map((fault) => `${taskId}: ${fault}`);
  });
}
