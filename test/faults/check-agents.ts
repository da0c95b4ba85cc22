/** What agents were told, against what the log says that they were told. */
import { Role } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { EngineState } from "../../src/domain/task-state.ts";
import type { JournalEntry } from "./agent/journal.ts";
import type { Evidence, LogRow, StoredLog, Trouble } from "./evidence.ts";

/** How long after its end an agent may hear that a task is not wanted any more, in milliseconds. */
const TELLING_MS = 15_000;

/** The clients' messages in a log, the first of which began the task. */
function messagesIn({ rows }: StoredLog): string[] {
  return rows.flatMap(({ kind, body: { payload } }) =>
    kind === "message" && payload.case === "message" && payload.value.role === Role.USER ? payload.value.messageId : [],
  );
}

/**
 * A first message reached the agent once if its work may not be repeated, else no more often than there were attempts; and
 * a further one at most once.
 */
export function checkDeliveries(
  log: StoredLog,
  safe: boolean,
  deliveries: ReadonlyMap<string, readonly JournalEntry[]>,
): string[] {
  const attempts = Math.max(...log.rows.map(({ attempt }) => attempt));
  return messagesIn(log).flatMap((messageId, i) => {
    const got = deliveries.get(messageId) ?? [];
    const most = i === 0 && safe ? attempts : 1;
    const faults: string[] = [];
    if (got.length > most)
      faults.push(`delivery: the agent got message ${i + 1} ${got.length} times, in ${attempts} attempts`);
    if (i > 0 && got.some(({ taskId }) => taskId === ""))
      faults.push(`delivery: message ${i + 1} came to the agent as the first of another task`);
    return faults;
  });
}

/** Whether the agent goes on with what has ended without it. */
function isLeftBehind(log: StoredLog, entries: readonly JournalEntry[]): boolean {
  if (log.state !== EngineState.CANCELED && log.state !== EngineState.FAILED) return false;
  const mine = new Set(messagesIn(log));
  const begun = entries.filter(({ kind, messageId }) => kind === "began" && mine.has(messageId ?? ""));
  const over = new Set(entries.filter(({ kind }) => kind === "ended" || kind === "canceled").map((e) => e.taskId));
  return begun.some(({ taskId }) => !over.has(taskId));
}

/** What ended without its agent was canceled there, unless the replica, the agent or the database was in trouble. */
function checkLeftBehind(log: StoredLog, agent: string, troubles: readonly Trouble[]): string[] {
  const names = new Set([...log.rows.map(({ writtenBy }) => `replica:${writtenBy}`), `agent:${agent}`, "database"]);
  const from = log.rows[0]!.at;
  const until = log.rows.at(-1)!.at + TELLING_MS;
  if (troubles.some((t) => names.has(t.who) && t.from <= until && t.until >= from)) return [];
  return [`left behind: the agent goes on with what has ended (${log.rows.at(-1)?.cause})`];
}

/** The tasks that their agents go on with although they have ended, for whatever reason. */
export function leftBehind({ tasks, agents, journals }: Evidence): StoredLog[] {
  const entriesOf = new Map(journals.map(({ process, entries }) => [process, entries]));
  const entriesFor = new Map(agents.map(({ agentId, process }) => [agentId, entriesOf.get(process) ?? []]));
  return tasks.filter((log) => isLeftBehind(log, entriesFor.get(log.header.agentId) ?? []));
}

/** All that agents were told. */
export function checkAgents(evidence: Evidence): string[] {
  const { tasks, agents, journals, troubles } = evidence;
  const got = journals.flatMap(({ entries }) => entries).filter(({ kind }) => kind === "got");
  const deliveries = Map.groupBy(got, ({ messageId = "" }) => messageId);
  const stored = new Set(tasks.flatMap(messagesIn));
  const unknown = [...deliveries.keys()].filter((messageId) => !stored.has(messageId));
  const faults = unknown.map((messageId) => `delivery: message ${messageId} reached an agent and is in no log`);
  const left = new Set(leftBehind(evidence));
  const known = new Map(agents.map((agent) => [agent.agentId, agent]));
  for (const log of tasks) {
    const agent = known.get(log.header.agentId);
    if (!agent || log.rows.length === 0) continue;
    const found = [
      ...checkDeliveries(log, agent.safe, deliveries),
      ...(left.has(log) ? checkLeftBehind(log, agent.process, troubles) : []),
    ];
    faults.push(...found.map((fault) => `${log.header.taskId}: ${fault}`));
  }
  return faults;
}

/** What the engine did, as its log tells it. */
export function countEngine(tasks: readonly StoredLog[]) {
  const rows = tasks.flatMap((log) => log.rows);
  const caused = (words: string) => rows.filter(({ cause }) => cause?.startsWith(words)).length;
  return {
    tasks: tasks.length,
    updates: rows.length,
    rescues: caused("rescued from"),
    claims: caused("claimed from"),
    retries: rows.filter(({ kind, state }) => kind === "transition" && state === EngineState.SCHEDULED).length,
    takeovers: tasks.reduce((sum, { rows }) => sum + takeovers(rows), 0),
  };
}

/** How often another replica than the one before wrote on. */
const takeovers = (rows: readonly LogRow[]): number =>
  rows.filter((row, i) => i > 0 && row.writtenBy !== rows[i - 1]!.writtenBy).length;
