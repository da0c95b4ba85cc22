/** Reads of the task tables. The hot one, a task with its log, serves all callers of a moment with one statement. */
import { fromBinary } from "@bufbuild/protobuf";
import { type Expression, type SqlBool, sql } from "kysely";
import { type Task, TaskSchema, type TaskState, type TaskStatus } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { MAX_ID_LENGTH } from "../domain/message-rules.ts";
import type { TaskHeader, TaskUpdate } from "../domain/task-log.ts";
import type { EngineState } from "../domain/task-state.ts";
import type { Database, Reader, Row } from "./database.ts";
import { decodeHeader, decodeStatus, decodeUpdate } from "./task-codec.ts";
import { GIVEN_CAPABILITY } from "./task-sql.ts";

export interface TaskKey {
  workspaceId: string;
  taskId: string;
}

export interface StoredTask {
  header: TaskHeader;
  updates: readonly TaskUpdate[];
}

const HEADER_COLUMNS = [
  "context_id",
  "agent_id",
  "capability_id",
  "earlier_agent_ids",
  "given_capability_id",
  "created_at",
  "disclosed",
  "has_push",
  "upstream_task_id",
  "upstream_context_id",
  "priority",
  "fence",
  "lease_owner",
  "attempt",
  "deadline_at",
  "delivery",
  "holds",
  "parent_task_id",
  "parent_agent_id",
  "delegation_depth",
] as const;

/** A task without its log. */
export interface TaskStanding {
  header: TaskHeader;
  state: EngineState;
}

const HEADER = {
  name: "task-header-v1",
  text: `
    select workspace_id, task_id, state, ${HEADER_COLUMNS.join(", ")} from tasks where workspace_id = $1 and task_id = $2`,
};

/** A task as it stands; undefined where there is none. However long its log is, this reads one row. */
export async function readHeader(db: Database, { workspaceId, taskId }: TaskKey): Promise<TaskStanding | undefined> {
  const [row] = await db.query(HEADER, [workspaceId, taskId]);
  return row && { header: decodeHeader(row), state: row.state as EngineState };
}

// One statement, so that a task and its log are of one snapshot.
const LOAD = {
  name: "task-load-v5",
  text: `
    with wanted as materialized (
      select distinct workspace_id, task_id from unnest($1::text[], $2::text[]) as w(workspace_id, task_id)
    )
    select t.workspace_id, t.task_id, 0::bigint as seq, null::smallint as kind, null::bytea as body, null as cause,
           null::smallint as state,
           ${HEADER_COLUMNS.map((column) => `t.${column}`).join(", ")}
    from wanted w join tasks t on t.workspace_id = w.workspace_id and t.task_id = w.task_id
    union all
    select u.workspace_id, u.task_id, u.seq, u.kind, u.body, u.cause, u.state,
           ${HEADER_COLUMNS.map(() => "null").join(", ")}
    from wanted w join task_updates u on u.workspace_id = w.workspace_id and u.task_id = w.task_id
    order by seq`,
};

/** Loads tasks with their logs; undefined where there is none. Equal keys share what they get. */
export async function loadBatch(db: Database, keys: readonly TaskKey[]): Promise<(StoredTask | undefined)[]> {
  const rows = await db.query(LOAD, [keys.map((k) => k.workspaceId), keys.map((k) => k.taskId)]);
  const found = new Map<string, { header: TaskHeader; updates: TaskUpdate[] }>();
  for (const row of rows) {
    const key = mapKey(row.workspace_id as string, row.task_id as string);
    if (row.kind === null) found.set(key, { header: decodeHeader(row), updates: [] });
    else found.get(key)?.updates.push(decodeUpdate(row));
  }
  return keys.map((key) => found.get(mapKey(key.workspaceId, key.taskId)));
}

// Neither id holds a space: workspaces are DNS labels.
const mapKey = (workspaceId: string, taskId: string): string => `${workspaceId} ${taskId}`;

/** Bytes of the bodies that are read at once; one body more when it is the first. */
const PAGE_BYTES = 4 * 1024 * 1024;

// Of what is too much at once only the numbers come: they tell that there is more. The row that the reader has comes too,
// without its body: where it is missing, the task was removed.
const READ_UPDATES = {
  name: "task-updates-v4",
  text: `
    select seq, kind, cause, state, case when sum(bytes) over (order by seq) - bytes < ${PAGE_BYTES} then body end as body
    from (
      select seq, kind, cause, state, case when seq > $3 then body end as body,
             case when seq > $3 then octet_length(body) else 0 end as bytes
      from task_updates
      where workspace_id = $1 and task_id = $2 and seq >= greatest($3, 1) order by seq limit $4::bigint + 1
    ) page order by seq`,
};

export interface UpdatesPage {
  updates: TaskUpdate[];
  /** Whether the log may hold more. */
  more: boolean;
  /** There is no such task: it was removed, or never stored. */
  gone: boolean;
}

/** The rows of a task's log after a number, in order: at most `limit`, and about 4 MiB of them. */
export async function readUpdates(db: Database, key: TaskKey, after: number, limit: number): Promise<UpdatesPage> {
  const found = await db.query(READ_UPDATES, [key.workspaceId, key.taskId, after, limit]);
  const rows = found.filter(({ seq }) => (seq as number) > after).slice(0, limit);
  const whole = rows.filter(({ body }) => body !== null);
  const more = whole.length < rows.length || rows.length === limit;
  return { updates: whole.map(decodeUpdate), more, gone: found.length === 0 };
}

/** How far a task's log has come. */
export interface TaskNumber extends TaskKey {
  /** Number of its last row. */
  seq: number;
}

// A subquery for each key: no plan of it reads the whole table, whatever ANALYZE has found.
const LAST_NUMBERS = {
  name: "task-last-numbers-v1",
  text: `
    select * from (
      select w.workspace_id, w.task_id,
             (select t.last_seq from tasks t where t.workspace_id = w.workspace_id and t.task_id = w.task_id) as seq
      from unnest($1::text[], $2::text[]) as w(workspace_id, task_id)
    ) found where seq is not null`,
};

/** The last numbers of those of the tasks that exist. */
export async function lastNumbers(db: Database, keys: readonly TaskKey[]): Promise<TaskNumber[]> {
  const rows = await db.query(LAST_NUMBERS, [keys.map((k) => k.workspaceId), keys.map((k) => k.taskId)]);
  return rows.map((row) => ({
    workspaceId: row.workspace_id as string,
    taskId: row.task_id as string,
    seq: row.seq as number,
  }));
}

export interface TaskFilter {
  contextId?: string;
  agentId?: string;
  capabilityId?: string;
  state?: TaskState;
  engineState?: EngineState;
  /** Tasks whose status is of this time or later. */
  statusFrom?: Date;
}

/** Where a page begins: after this task, in the order of the list. */
export interface TaskCursor {
  statusAt: Date;
  taskId: string;
}

export interface ListedTask {
  header: TaskHeader;
  state: EngineState;
  status: TaskStatus;
  statusAt: Date;
  metadata: Task["metadata"];
}

/** Disclosed tasks, newest status first, and how many there are in all. */
export const listTasks = (
  db: Pick<Database, "reading">,
  workspaceId: string,
  filter: TaskFilter,
  page: { after?: TaskCursor; limit: number },
): Promise<{ tasks: ListedTask[]; total: number }> =>
  db.reading(workspaceId, (reader) => listWith(reader, workspaceId, filter, page));

async function listWith(
  { kysely }: Pick<Reader, "kysely">,
  workspaceId: string,
  filter: TaskFilter,
  page: { after?: TaskCursor; limit: number },
): Promise<{ tasks: ListedTask[]; total: number }> {
  const matching = kysely
    .selectFrom("tasks")
    .where("workspace_id", "=", workspaceId)
    // A constant, so that the planner sees that the index for lists has them all.
    .where(sql<SqlBool>`disclosed`)
    .$if(filter.contextId !== undefined, (q) => q.where("context_id", "=", filter.contextId!))
    .$if(filter.agentId !== undefined, (q) =>
      q.where(sql<SqlBool>`(agent_id = ${filter.agentId!} or ${filter.agentId!} = any(earlier_agent_ids))`),
    )
    .$if(filter.capabilityId !== undefined, (q) =>
      q.where(sql<SqlBool>`${sql.raw(GIVEN_CAPABILITY)} = ${filter.capabilityId!}`),
    )
    .$if(filter.state !== undefined, (q) => q.where("a2a_state", "=", filter.state!))
    .$if(filter.engineState !== undefined, (q) => q.where("state", "=", filter.engineState!))
    .$if(filter.statusFrom !== undefined, (q) => q.where("status_at", ">=", filter.statusFrom!));
  const rows = await matching
    .select(["workspace_id", "task_id", "state", "a2a_state", "status", "status_at", "metadata", ...HEADER_COLUMNS])
    .$if(page.after !== undefined, (q) => q.where(() => beyond(page.after!)))
    .orderBy("status_at", "desc")
    .orderBy("task_id", "desc")
    .limit(page.limit)
    .execute();
  const { total } = await matching.select((eb) => eb.fn.countAll<number>().as("total")).executeTakeFirstOrThrow();
  return {
    total,
    tasks: rows.map((row) => ({
      header: decodeHeader(row as unknown as Row),
      state: row.state as EngineState,
      status: decodeStatus(row as unknown as Row),
      statusAt: row.status_at,
      metadata: row.metadata ? fromBinary(TaskSchema, row.metadata).metadata : undefined,
    })),
  };
}

const beyond = (cursor: TaskCursor): Expression<SqlBool> =>
  sql<SqlBool>`(status_at, task_id) < (${cursor.statusAt}::timestamptz, ${cursor.taskId}::text)`;

/** The agent's own context id for one of our contexts: that of the latest task in which it told one. */
export async function findUpstreamContext(
  db: Database,
  workspaceId: string,
  contextId: string,
  agentId: string,
): Promise<string | undefined> {
  const row = await db.kysely
    .selectFrom("tasks")
    .select("upstream_context_id")
    .where("workspace_id", "=", workspaceId)
    .where("context_id", "=", contextId)
    .where("agent_id", "=", agentId)
    .where("upstream_context_id", "is not", null)
    .orderBy("created_at", "desc")
    .limit(1)
    .executeTakeFirst();
  return row?.upstream_context_id ?? undefined;
}

/** Most ids that are looked up for one message or report; an agent may name as many as it likes. */
const MAX_MAPPED_IDS = 1000;

/** Maps the agent's task ids to ours, or ours to the agent's, leaving out what is not known and what cannot be. */
export async function mapTaskIds(
  db: Database,
  workspaceId: string,
  agentId: string,
  ids: readonly string[],
  direction: "to-upstream" | "from-upstream",
): Promise<Map<string, string>> {
  const wanted = [...new Set(ids)]
    .filter((id) => id.length <= MAX_ID_LENGTH && !id.includes("\0"))
    .slice(0, MAX_MAPPED_IDS);
  if (wanted.length === 0) return new Map();
  const column = sql.ref(direction === "to-upstream" ? "task_id" : "upstream_task_id");
  const rows = await db.kysely
    .selectFrom("tasks")
    .select(["task_id", "upstream_task_id"])
    .where("workspace_id", "=", workspaceId)
    .where("agent_id", "=", agentId)
    .where("upstream_task_id", "is not", null)
    .where(sql<SqlBool>`${column} = any(${wanted}::text[])`)
    .execute();
  return new Map(
    rows.map(({ task_id, upstream_task_id }) =>
      direction === "to-upstream" ? [task_id, upstream_task_id!] : [upstream_task_id!, task_id],
    ),
  );
}
