/** Reads of the task tables. The hot one, a task with its log, serves all callers of a moment with one statement. */
import { type SqlBool, sql } from "kysely";
import type { TaskAccess, Viewer } from "../domain/identity/visibility.ts";
import { MAX_ID_LENGTH } from "../domain/message-rules.ts";
import type { TaskHeader, TaskUpdate } from "../domain/task-log.ts";
import type { EngineState } from "../domain/task-state.ts";
import type { Database, Row } from "./database.ts";
import { decodeHeader, decodeUpdate } from "./task-codec.ts";
import { ACCESS } from "./task-sql.ts";

export interface TaskKey {
  workspaceId: string;
  taskId: string;
}

/** A task, and for whom it is read. */
export interface ViewedTask extends TaskKey {
  /** Who does not see it finds none. Undefined: it is read for nobody, or for who sees all. */
  viewer?: Viewer | undefined;
}

export interface StoredTask {
  header: TaskHeader;
  /** What it was read for may do with it. */
  access: TaskAccess;
  updates: readonly TaskUpdate[];
}

/** What `decodeHeader` reads, beside the key. */
export const HEADER_COLUMNS = [
  "principal_id",
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
  /** What the viewer may do with it; undefined: it must not know of it. */
  access: TaskAccess | undefined;
  state: EngineState;
}

const HEADER = {
  name: "task-header-v2",
  text: `
    select workspace_id, task_id, state, ${HEADER_COLUMNS.join(", ")},
           ${ACCESS("t", "$3::text", "$4::text[]")} as access
    from tasks t where workspace_id = $1 and task_id = $2`,
};

/** A task as it stands; undefined where there is none. However long its log is, this reads one row. */
export async function readHeader(
  db: Database,
  { workspaceId, taskId, viewer }: ViewedTask,
): Promise<TaskStanding | undefined> {
  const [row] = await db.query(HEADER, [workspaceId, taskId, viewer?.id ?? null, viewer?.roles ?? []]);
  return row && { header: decodeHeader(row), access: accessIn(row), state: row.state as EngineState };
}

const accessIn = ({ access }: Row): TaskAccess | undefined =>
  access === null ? undefined : access === 2 ? "write" : "read";

// One statement, so that a task and its log are of one snapshot, and that a task which its reader must not see is not read any
// further than one that there is not. The limit of one keeps the planner from joining what is wanted with the whole table.
const LOAD = {
  name: "task-load-v6",
  text: `
    with wanted as materialized (
      select distinct workspace_id, task_id, viewer, roles
      from unnest($1::text[], $2::text[], $3::text[], $4::text[]) as w(workspace_id, task_id, viewer, roles)
    ), found as materialized (
      select w.viewer, w.roles, t.*
      from wanted w cross join lateral (
        select t.workspace_id, t.task_id, ${ACCESS("t", "w.viewer", "string_to_array(w.roles, ' ')")} as access,
               ${HEADER_COLUMNS.map((column) => `t.${column}`).join(", ")}
        from tasks t where t.workspace_id = w.workspace_id and t.task_id = w.task_id limit 1
      ) t
      where t.access is not null
    )
    select f.workspace_id, f.task_id, f.viewer, f.roles, 0::bigint as seq, null::smallint as kind, null::bytea as body,
           null as cause, null::smallint as state, f.access,
           ${HEADER_COLUMNS.map((column) => `f.${column}`).join(", ")}
    from found f
    union all
    select u.workspace_id, u.task_id, f.viewer, f.roles, u.seq, u.kind, u.body, u.cause, u.state, null,
           ${HEADER_COLUMNS.map(() => "null").join(", ")}
    from found f join task_updates u on u.workspace_id = f.workspace_id and u.task_id = f.task_id
    order by seq`,
};

/** Loads tasks with their logs; undefined where there is none, or the viewer sees none. Equal keys share what they get. */
export async function loadBatch(db: Database, keys: readonly ViewedTask[]): Promise<(StoredTask | undefined)[]> {
  const roles = keys.map(({ viewer }) => viewer && rolesText(viewer));
  const rows = await db.query(LOAD, [
    keys.map((k) => k.workspaceId),
    keys.map((k) => k.taskId),
    keys.map((k) => k.viewer?.id ?? null),
    roles.map((text) => text ?? null),
  ]);
  const found = new Map<string, { header: TaskHeader; access: TaskAccess; updates: TaskUpdate[] }>();
  for (const row of rows) {
    const key = mapKey(row.workspace_id, row.task_id, row.viewer, row.roles);
    if (row.kind === null) found.set(key, { header: decodeHeader(row), access: accessIn(row)!, updates: [] });
    else found.get(key)?.updates.push(decodeUpdate(row));
  }
  return keys.map((key, i) => found.get(mapKey(key.workspaceId, key.taskId, key.viewer?.id, roles[i])));
}

// No name of a role that anything is shared with holds a space.
const rolesText = ({ roles }: Viewer): string => roles.filter((role) => !role.includes(" ")).join(" ");

// PostgreSQL has no text with a NUL in it.
const mapKey = (...parts: unknown[]): string => parts.map((part) => part ?? "").join("\0");

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

/** Whose context goes on, and with which agent. */
export interface UpstreamContextQuery {
  contextId: string;
  agentId: string;
  viewer: Viewer;
}

/**
 * The agent's own context id for one of our contexts: that of the latest task in which it told one. Contexts of one name are as many
 * as there are owners: only the viewer's own counts, and what is shared with it to be changed. Seeing all tasks does not help.
 */
export async function findUpstreamContext(
  db: Database,
  workspaceId: string,
  { contextId, agentId, viewer }: UpstreamContextQuery,
): Promise<string | undefined> {
  const access = ACCESS("tasks", "v.id", "v.roles");
  const row = await db.kysely
    .selectFrom("tasks")
    .innerJoin(
      sql<{ id: string }>`(select ${viewer.id}::text as id, ${viewer.roles}::text[] as roles)`.as("v"),
      (join) => join.onTrue(),
    )
    .select("upstream_context_id")
    .where(sql<SqlBool>`${sql.raw(access)} = 2`)
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

/** Those of the ids of tasks that a viewer sees, which are shown. Bounded as what is mapped. */
export async function seenTaskIds(
  db: Database,
  workspaceId: string,
  ids: readonly string[],
  viewer: Viewer | undefined,
): Promise<string[]> {
  const wanted = mappable(ids);
  const rows =
    wanted.length === 0 ? [] : await db.query(SEEN_IDS, [workspaceId, wanted, viewer?.id ?? null, viewer?.roles ?? []]);
  return rows.map(({ task_id }) => task_id as string);
}

const SEEN_IDS = {
  name: "task-seen-ids-v1",
  text: `
    select task_id from tasks t
    where workspace_id = $1 and task_id = any($2::text[]) and disclosed and ${ACCESS("t", "$3::text", "$4::text[]")} is not null`,
};

const mappable = (ids: readonly string[]): string[] =>
  [...new Set(ids)].filter((id) => id.length <= MAX_ID_LENGTH && !id.includes("\0")).slice(0, MAX_MAPPED_IDS);

/** Maps the agent's task ids to ours, or ours to the agent's, leaving out what is not known and what cannot be. */
export async function mapTaskIds(
  db: Database,
  workspaceId: string,
  agentId: string,
  ids: readonly string[],
  direction: "to-upstream" | "from-upstream",
): Promise<Map<string, string>> {
  const wanted = mappable(ids);
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
