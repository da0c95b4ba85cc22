/** What a run of the fault suite leaves behind: the log, and what clients and agents have seen. The checker reads it all. */
import type { StreamResponse, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import type { TaskHeader, TaskUpdate } from "../../src/domain/task-log.ts";
import type { Database, Row } from "../../src/store/database.ts";
import { decodeHeader, decodeUpdate } from "../../src/store/task-codec.ts";
import type { JournalEntry } from "./agent/journal.ts";

/** A row of the log with what the engine adds to it. */
export interface LogRow extends TaskUpdate {
  at: number;
  fence: number;
  attempt: number;
  writtenBy: string;
}

/** A task as the database has it. */
export interface StoredLog {
  header: TaskHeader;
  state: number;
  a2aState: number;
  lastSeq: number;
  rows: LogRow[];
}

/** What one connection of a watcher was told, in its order. */
export interface SeenStream {
  taskId: string;
  /** The number after which it was to go on, if it said one. */
  after?: number;
  items: { sequence: number; response: StreamResponse }[];
}

/** The states with which a client was answered outside of streams, in the order in which it asked. */
export interface SeenAnswers {
  taskId: string;
  states: TaskState[];
}

/** A message that a client sent, each try under an id of its own. */
export interface SentMessage {
  messageId: string;
  /** The task that it is known to belong to. */
  taskId?: string;
  /** Whether the router said that it has it. */
  acknowledged: boolean;
}

/** Something that was done to a process, and until when it may have been felt, in milliseconds since 1970. */
export interface Trouble {
  /** `replica:` and its id, `agent:` and its name, or `database`. */
  who: string;
  from: number;
  until: number;
}

/** An agent by its id in Signalbox. */
export interface KnownAgent {
  agentId: string;
  safe: boolean;
  process: string;
}

export interface Evidence {
  tasks: readonly StoredLog[];
  /** Tasks that have rows and are not there. */
  orphans: readonly string[];
  /** Tasks of which some client was told. */
  acknowledged: ReadonlySet<string>;
  streams: readonly SeenStream[];
  answers: readonly SeenAnswers[];
  messages: readonly SentMessage[];
  agents: readonly KnownAgent[];
  journals: readonly { process: string; entries: JournalEntry[] }[];
  troubles: readonly Trouble[];
  /** What nobody should ever see: errors of the server's own, and clients that waited in vain. */
  surprises: readonly string[];
}

const TASKS = { name: "fault-tasks", text: "select * from tasks order by created_at, task_id" };
const ROWS = { name: "fault-rows", text: "select * from task_updates order by task_id, seq" };

/** Reads every task and every row. */
export async function readLogs(db: Database): Promise<{ tasks: StoredLog[]; orphans: string[] }> {
  const tasks = (await db.query(TASKS, [])).map((row) => ({
    header: decodeHeader(row),
    state: row.state as number,
    a2aState: row.a2a_state as number,
    lastSeq: row.last_seq as number,
    rows: [] as LogRow[],
  }));
  const byId = new Map(tasks.map((task) => [task.header.taskId, task]));
  const orphans = new Set<string>();
  for (const row of await db.query(ROWS, [])) {
    const task = byId.get(row.task_id as string);
    if (task) task.rows.push(logRow(row));
    else orphans.add(row.task_id as string);
  }
  return { tasks, orphans: [...orphans] };
}

const logRow = (row: Row): LogRow => ({
  ...decodeUpdate(row),
  at: (row.created_at as Date).getTime(),
  fence: row.fence as number,
  attempt: row.attempt as number,
  writtenBy: row.written_by as string,
});
