/** Reads of the task tables. The hot one, a task with its log, serves all callers of a moment with one statement. */
import { fromBinary } from "@bufbuild/protobuf";
import { type Expression, type SqlBool, sql } from "kysely";
import { type Task, TaskSchema, type TaskState, type TaskStatus } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { ANONYMOUS } from "../domain/identity/principal.ts";
import type { TaskAccess, Viewer } from "../domain/identity/visibility.ts";
import { MAX_ID_LENGTH } from "../domain/message-rules.ts";
import type { TaskHeader, TaskUpdate } from "../domain/task-log.ts";
import type { EngineState } from "../domain/task-state.ts";
import type { Database, Reader, Row } from "./database.ts";
import { decodeHeader, decodeStatus, decodeUpdate } from "./task-codec.ts";
import { ACCESS, BY_PRINCIPAL, BY_ROLE, GIVEN_CAPABILITY } from "./task-sql.ts";

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

const HEADER_COLUMNS = [
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

/** Disclosed tasks that the viewer sees, newest status first, and how many there are in all. */
export const listTasks = (
  db: Pick<Database, "reading">,
  workspaceId: string,
  filter: TaskFilter,
  page: ListPage,
): Promise<{ tasks: ListedTask[]; total: number }> =>
  db.reading(workspaceId, (reader) => listWith(reader, workspaceId, filter, page));

/** A page of a list. `viewer`: who sees what is its own or shared with it; undefined sees all. */
interface ListPage {
  after?: TaskCursor;
  limit: number;
  viewer: Viewer | undefined;
}

async function listWith(
  { kysely }: Pick<Reader, "kysely">,
  workspaceId: string,
  filter: TaskFilter,
  { after, limit, viewer }: ListPage,
): Promise<{ tasks: ListedTask[]; total: number }> {
  const matching = kysely
    .selectFrom("tasks")
    .where("workspace_id", "=", workspaceId)
    // A constant, so that the planner sees that the indexes for lists have them all.
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
  const page = (seen: Expression<SqlBool>) =>
    matching
      .where(() => seen)
      .select(["workspace_id", "task_id", "state", "a2a_state", "status", "status_at", "metadata", ...HEADER_COLUMNS])
      .$if(after !== undefined, (q) => q.where(() => beyond(after!)))
      .orderBy("status_at", "desc")
      .orderBy("task_id", "desc")
      .limit(limit);
  const count = (seen: Expression<SqlBool>) =>
    matching.where(() => seen).select((eb) => eb.fn.countAll<number>().as("n"));
  const [first, ...others] = seenBy(workspaceId, viewer);
  const listed = others.reduce(
    (pages, seen) => pages.unionAll(kysely.selectFrom(page(seen).as("p")).selectAll()),
    kysely.selectFrom(page(first).as("p")).selectAll(),
  );
  const rows = await listed.orderBy("status_at", "desc").orderBy("task_id", "desc").limit(limit).execute();
  const counted = others.reduce((counts, seen) => counts.unionAll(count(seen)), count(first));
  const total = (await counted.execute()).reduce((sum, { n }) => sum + n, 0);
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

/**
 * What a viewer sees, as conditions that hold of no task at once: who it belongs to, and the contexts that others share. Each is read by
 * an index of its own; as one they would be asked of every task of the workspace.
 */
function seenBy(workspaceId: string, viewer: Viewer | undefined): [Expression<SqlBool>, ...Expression<SqlBool>[]] {
  if (!viewer) return [sql<SqlBool>`true`];
  const { id, roles } = viewer;
  const own = sql<SqlBool>`principal_id = ${id}`;
  const shared = sql<SqlBool>`(principal_id, context_id) in (
    select owner_id, context_id from context_shares
    where workspace_id = ${workspaceId} and owner_id <> ${id}
      and ((subject_kind = ${sql.raw(String(BY_PRINCIPAL))} and subject = ${id})
           or (subject_kind = ${sql.raw(String(BY_ROLE))} and subject = any(${roles}::text[])))
  )`;
  return id === ANONYMOUS ? [own, sql<SqlBool>`principal_id is null`, shared] : [own, shared];
}

const beyond = (cursor: TaskCursor): Expression<SqlBool> =>
  sql<SqlBool>`(status_at, task_id) < (${cursor.statusAt}::timestamptz, ${cursor.taskId}::text)`;

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
