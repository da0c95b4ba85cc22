/** The two hot writes of the task tables: submit and append. Each batch is one statement and one commit. */
import { toBinary } from "@bufbuild/protobuf";
import { TaskSchema, TaskState, type TaskStatus } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { type NewUpdate, newImage, type TaskHeader } from "../domain/task-log.ts";
import type { Database, Row } from "./database.ts";
import { encodeBody, encodeCause, encodeStatus, kindNumber } from "./task-codec.ts";

/** A task to be stored, with the first rows of its log. Its state is SUBMITTED. */
export interface NewTask {
  header: TaskHeader;
  updates: readonly NewUpdate[];
}

/** Rows to be added to a task's log, and what they change about the task. All or nothing. */
export interface Append {
  workspaceId: string;
  taskId: string;
  /** The last number that the writer knows. The append is refused when the log has moved on: there is one writer. */
  expectedSeq: number;
  updates: readonly NewUpdate[];
  /** When it happened; the time of the status when a status is among the updates. */
  at: Date;
  /** Makes the task visible to Get and List. */
  disclose?: boolean;
  /** Refuses the append when the task was disclosed meanwhile. */
  onlyIfHidden?: boolean;
  upstreamTaskId?: string;
  upstreamContextId?: string;
}

export interface Appended {
  disclosed: boolean;
  hasPush: boolean;
}

const SUBMIT = {
  name: "task-submit-v1",
  text: `
    with input as (
      select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::timestamptz[], $7::bigint[],
                           $8::boolean[], $9::boolean[], $10::text[])
      as i(workspace_id, task_id, context_id, agent_id, status, at, last_seq, disclosed, has_push, upstream_context_id)
    ), stored as (
      insert into tasks (workspace_id, task_id, context_id, agent_id, state, status, status_at, last_seq, disclosed,
                         has_push, upstream_context_id, created_at)
      select workspace_id, task_id, context_id, agent_id, ${TaskState.SUBMITTED}, status, at, last_seq, disclosed,
             has_push, upstream_context_id, at
      from input
      on conflict do nothing
      returning workspace_id, task_id, created_at
    )
    insert into task_updates (workspace_id, task_id, seq, kind, body, cause, created_at)
    select s.workspace_id, s.task_id, r.seq, r.kind, r.body, r.cause, s.created_at
    from unnest($11::text[], $12::text[], $13::bigint[], $14::smallint[], $15::bytea[], $16::text[])
      as r(workspace_id, task_id, seq, kind, body, cause)
    join stored s on s.workspace_id = r.workspace_id and s.task_id = r.task_id`,
};

/**
 * Stores a batch of tasks. A task that is stored already stays as it is, so that a submit whose answer was lost can be
 * made again.
 */
export async function submitBatch(db: Database, tasks: readonly NewTask[]): Promise<void> {
  const rows = tasks.flatMap(({ header, updates }) => updates.map((update, i) => ({ header, update, seq: i + 1 })));
  await db.query(SUBMIT, [
    tasks.map((t) => t.header.workspaceId),
    tasks.map((t) => t.header.taskId),
    tasks.map((t) => t.header.contextId),
    tasks.map((t) => t.header.agentId),
    tasks.map((t) => encodeStatus(newImage(t.header).task.status!)),
    tasks.map((t) => t.header.createdAt),
    tasks.map((t) => t.updates.length),
    tasks.map((t) => t.header.disclosed),
    tasks.map((t) => t.header.hasPush),
    tasks.map((t) => t.header.upstreamContextId ?? null),
    rows.map((r) => r.header.workspaceId),
    rows.map((r) => r.header.taskId),
    rows.map((r) => r.seq),
    rows.map((r) => kindNumber(r.update.kind)),
    rows.map((r) => encodeBody(r.update)),
    rows.map((r) => encodeCause(r.update)),
  ]);
}

const APPEND = {
  name: "task-append-v1",
  text: `
    with input as (
      select * from unnest($1::text[], $2::text[], $3::bigint[], $4::int[], $5::smallint[], $6::bytea[],
                           $7::timestamptz[], $8::boolean[], $9::boolean[], $10::bytea[], $11::text[], $12::text[])
      with ordinality
      as i(workspace_id, task_id, expected, added, state, status, at, disclose, only_if_hidden, metadata,
           upstream_task_id, upstream_context_id, ord)
    ), changed as (
      update tasks t set
        last_seq = t.last_seq + i.added,
        state = coalesce(i.state, t.state),
        status = coalesce(i.status, t.status),
        status_at = case when i.state is null then t.status_at else i.at end,
        disclosed = t.disclosed or i.disclose,
        metadata = coalesce(i.metadata, t.metadata),
        upstream_task_id = coalesce(i.upstream_task_id, t.upstream_task_id),
        upstream_context_id = coalesce(i.upstream_context_id, t.upstream_context_id)
      from input i
      where t.workspace_id = i.workspace_id and t.task_id = i.task_id and t.last_seq = i.expected
        and t.state in (${TaskState.SUBMITTED}, ${TaskState.WORKING}, ${TaskState.INPUT_REQUIRED}, ${TaskState.AUTH_REQUIRED})
        and not (i.only_if_hidden and t.disclosed)
      returning i.ord, i.expected, i.at, t.workspace_id, t.task_id, t.disclosed, t.has_push
    ), logged as (
      insert into task_updates (workspace_id, task_id, seq, kind, body, cause, created_at)
      select c.workspace_id, c.task_id, c.expected + r.position, r.kind, r.body, r.cause, c.at
      from unnest($13::bigint[], $14::bigint[], $15::smallint[], $16::bytea[], $17::text[])
        as r(ord, position, kind, body, cause)
      join changed c on c.ord = r.ord
    )
    select ord, disclosed, has_push from changed`,
};

/** Appends a batch. An entry is undefined where the task was not as its writer believed; its neighbours are stored. */
export async function appendBatch(db: Database, appends: readonly Append[]): Promise<(Appended | undefined)[]> {
  const after = appends.map((append) => changedBy(append.updates));
  const rows = appends.flatMap(({ updates }, i) =>
    updates.map((update, p) => ({ update, ord: i + 1, position: p + 1 })),
  );
  const stored = await db.query(APPEND, [
    appends.map((a) => a.workspaceId),
    appends.map((a) => a.taskId),
    appends.map((a) => a.expectedSeq),
    appends.map((a) => a.updates.length),
    after.map((a) => a.status?.state ?? null),
    after.map((a) => (a.status ? encodeStatus(a.status) : null)),
    appends.map((a) => a.at),
    appends.map((a) => a.disclose ?? false),
    appends.map((a) => a.onlyIfHidden ?? false),
    after.map((a) => a.metadata ?? null),
    appends.map((a) => a.upstreamTaskId ?? null),
    appends.map((a) => a.upstreamContextId ?? null),
    rows.map((r) => r.ord),
    rows.map((r) => r.position),
    rows.map((r) => kindNumber(r.update.kind)),
    rows.map((r) => encodeBody(r.update)),
    rows.map((r) => encodeCause(r.update)),
  ]);
  const results = new Array<Appended | undefined>(appends.length).fill(undefined);
  for (const row of stored) results[(row.ord as number) - 1] = appended(row);
  return results;
}

const appended = (row: Row): Appended => ({ disclosed: row.disclosed as boolean, hasPush: row.has_push as boolean });

/** The columns of the task's row that follow from the rows of its log. */
function changedBy(updates: readonly NewUpdate[]): { status?: TaskStatus; metadata?: Uint8Array } {
  const changed: { status?: TaskStatus; metadata?: Uint8Array } = {};
  for (const { kind, body } of updates) {
    const { payload } = body;
    if (payload.case === "statusUpdate" && payload.value.status) changed.status = payload.value.status;
    else if (kind === "reply") changed.status = { $typeName: "lf.a2a.v1.TaskStatus", state: TaskState.COMPLETED };
    else if (payload.case === "task") changed.metadata = toBinary(TaskSchema, payload.value);
  }
  return changed;
}
