/**
 * Tasks of all workspaces that have been kept long enough after their end: finds them, removes them, and empties their artifacts. What
 * is to be done is found by the index of ends (`tasks_ended`), the oldest first, so that looking costs nothing where nothing is due.
 */
import { fromBinary } from "@bufbuild/protobuf";
import { type StreamResponse, StreamResponseSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { chained } from "./audit-sql.ts";
import type { Database, Row, Statement } from "./database.ts";
import { byteaArray, int8Array, textArray } from "./pg-arrays.ts";
import { kindNumber, written } from "./task-codec.ts";
import type { TaskKey } from "./task-reads.ts";
import { authorshipOf, entriesOf, removing } from "./task-removal.ts";
import { ENDED } from "./task-sql.ts";

/** A place in the order of ends: after this task. */
export interface EndPosition extends TaskKey {
  endedAt: Date;
}

/** A task that has been kept long enough. */
export interface DueTask extends EndPosition {
  /** Rows of its log. */
  rows: number;
  /** Somebody must read it first: a webhook that has not got all of it, or a duty of the outbox. */
  isAwaited: boolean;
}

/** Which tasks are due: those that ended by then, all of them, or only those whose artifacts have not been emptied. */
export interface DuePage {
  endedBy: Date;
  after: EndPosition | undefined;
  onlyFull: boolean;
  limit: number;
}

/** A row of a log that tells of an artifact. */
export interface ArtifactRow {
  taskId: string;
  seq: number;
  body: StreamResponse;
}

export interface ArtifactPage {
  rows: ArtifactRow[];
  /** There may be more, after the last of them. */
  more: boolean;
}

export interface TaskRetention {
  /**
   * Takes the turn to remove, for this replica and so many milliseconds, or goes on with it. False while another has it. Two that
   * remove at once, because one was held up, do no harm: they do the same work twice.
   */
  takeTurn(replicaId: string, ms: number): Promise<boolean>;
  giveTurn(replicaId: string): Promise<void>;
  /** The first tasks that are due after a place, in the order of their ends. */
  due(page: DuePage): Promise<DueTask[]>;
  /** Removes those of a workspace's tasks that have ended, with all that hangs on them. Returns their ids. What others have in hand is left to them. */
  remove(workspaceId: string, taskIds: readonly string[]): Promise<string[]>;
  /** The rows of tasks of a workspace that tell of artifacts, by task and number, after a row: at most `limit`, and about 4 MiB. */
  artifacts(
    workspaceId: string,
    taskIds: readonly string[],
    after: { taskId: string; seq: number } | undefined,
    limit: number,
  ): Promise<ArtifactPage>;
  /** Gives rows that there are other bodies. Their numbers, and all else of them, stay. Rows in the order in which they were read. */
  rewrite(workspaceId: string, rows: readonly ArtifactRow[]): Promise<void>;
  /** Remembers that the artifacts of tasks are emptied. `had`: those of them that had any, which is recorded. Returns the ids of those that were not so before. */
  markEmptied(workspaceId: string, taskIds: readonly string[], had: readonly string[]): Promise<string[]>;
  /** When the task ended that has been kept longest, and the one whose artifacts have. Undefined where there is none. */
  oldest(): Promise<{ ended: Date | undefined; full: Date | undefined }>;
}

// Not flushed to disk before it is answered: who has the turn is of no interest after a crash.
const TAKE: Statement = {
  name: "retention-take-v1",
  text: `
    with quickly as materialized (select set_config('synchronous_commit', 'off', true))
    update retention_turn set replica_id = $1, ends_at = clock_timestamp() + $2::float8 * interval '1 millisecond' from quickly
    where replica_id = $1 or ends_at <= clock_timestamp()
    returning true`,
};

const GIVE: Statement = {
  name: "retention-give-v1",
  text: "update retention_turn set ends_at = '-infinity' where replica_id = $1",
};

/**
 * A webhook that has posts to make, now or at its next try; and a duty of the outbox that has yet to pass the last row of the log. Only
 * while the duty of webhooks has not passed it can there be a webhook that was not told of it.
 */
const AWAITED = `
  exists (
    select from push_configs c where c.workspace_id = d.workspace_id and c.task_id = d.task_id
      and c.given_up_at is null and (c.next_try_at is not null or c.claimed_by is not null)
  ) or exists (
    select from task_updates u cross join outbox_cursors o
    where u.workspace_id = d.workspace_id and u.task_id = d.task_id and u.seq = d.last_seq
      and (o.xid, o.workspace_id, o.task_id, o.seq) < (u.xid, u.workspace_id, u.task_id, u.seq)
  )`;

const FIRST = (flag: boolean) => `
  (select workspace_id, task_id, status_at, last_seq from tasks
   where state in (${ENDED}) and is_emptied = ${flag} and status_at <= $1::timestamptz and status_at >= $2::timestamptz
     and (status_at, workspace_id, task_id) > ($2::timestamptz, $3, $4)
   order by status_at, workspace_id, task_id limit $5)`;

// Without names, so that no plan is kept of when the tables were empty: they are asked a few times a minute.
const due = (onlyFull: boolean): Statement => ({
  name: "",
  text: `
    select d.*, ${AWAITED} as awaited
    from (
      select * from (${FIRST(false)} ${onlyFull ? "" : `union all ${FIRST(true)}`}) e
      order by status_at, workspace_id, task_id limit $5
    ) d
    order by status_at, workspace_id, task_id`,
});
const DUE = { full: due(true), all: due(false) };

const OLDEST_WITH = (flag: boolean) => `
  (select status_at from tasks where state in (${ENDED}) and is_emptied = ${flag} order by status_at limit 1)`;
const OLDEST: Statement = {
  name: "",
  text: `
    select full_at, least(full_at, emptied_at) as ended_at
    from (select ${OLDEST_WITH(false)} as full_at, ${OLDEST_WITH(true)} as emptied_at) first`,
};

/** The tasks of the workspace $1 with the ids $2 that have ended, in one order. */
const LOCKED = (rest: string) => `
  with locked as (
    select task_id from tasks where workspace_id = $1 and task_id = any($2::text[]) and state in (${ENDED}) ${rest}
    order by task_id for update skip locked
  )`;

const AUDITED = { actor: "$3", chain: "$4", detail: "$5" };

const remove = (isAudited: boolean): Statement => ({
  name: isAudited ? "retention-remove-v1" : "retention-remove-v1-unaudited",
  text: `${removing(LOCKED(""), isAudited ? AUDITED : undefined)}
    select task_id from gone${isAudited ? " cross join chained" : ""}`,
});

const mark = (isAudited: boolean): Statement => ({
  name: isAudited ? "retention-mark-v1" : "retention-mark-v1-unaudited",
  text: `${LOCKED("and not is_emptied")}, marked as (
      update tasks set is_emptied = true where workspace_id = $1 and task_id = any(array(select task_id from locked))
      returning task_id
    )${isAudited ? `, had as (select task_id from marked where task_id = any($6::text[])), ${chained("$4", entriesOf("had", "task.empty", AUDITED))}` : ""}
    select task_id from marked${isAudited ? " cross join chained" : ""}`,
});

const REMOVE = { audited: remove(true), unaudited: remove(false) };
const MARK = { audited: mark(true), unaudited: mark(false) };

const PAGE_BYTES = 4 * 1024 * 1024;

// One task after the other, by its key. Of what is too much at once only the numbers come.
const ARTIFACTS: Statement = {
  name: "retention-artifacts-v1",
  text: `
    select task_id, seq, case when sum(bytes) over (order by task_id, seq) - bytes < ${PAGE_BYTES} then body end as body
    from (
      select u.task_id, u.seq, u.body, octet_length(u.body) as bytes
      from unnest($2::text[]) as w(task_id) cross join lateral (
        select task_id, seq, body from task_updates
        where workspace_id = $1 and task_id = w.task_id and kind = ${kindNumber("artifact")}
          and seq > case when w.task_id = $3 then $4::bigint else 0 end
        order by seq limit $5::bigint + 1
      ) u
      order by u.task_id, u.seq limit $5::bigint + 1
    ) page order by task_id, seq`,
};

// First locked one after another, in the order of keys: two that do the same never wait for each other.
const REWRITE: Statement = {
  name: "retention-rewrite-v1",
  text: `
    with input as materialized (
      select * from unnest($2::text[], $3::bigint[], $4::bytea[]) with ordinality as i(task_id, seq, body, ord) order by ord
    ), locked as materialized (
      select u.task_id, u.seq, i.body from input i cross join lateral (
        select task_id, seq from task_updates where workspace_id = $1 and task_id = i.task_id and seq = i.seq for update
      ) u
    )
    update task_updates u set body = l.body from locked l
    where u.workspace_id = $1 and u.task_id = l.task_id and u.seq = l.seq and u.task_id = any($2::text[])`,
};

/** `replicaId` tells under which id the audit log records what is done; left out, it does not. */
export function createTaskRetention(db: Database, replicaId?: () => string): TaskRetention {
  const variant = replicaId ? "audited" : "unaudited";
  return {
    takeTurn: async (replica, ms) => (await db.query(TAKE, [replica, ms])).length === 1,
    giveTurn: async (replica) => void (await db.query(GIVE, [replica])),
    async due({ endedBy, after, onlyFull, limit }) {
      const from = after ? [after.endedAt, after.workspaceId, after.taskId] : [new Date(0), "", ""];
      return (await db.query(onlyFull ? DUE.full : DUE.all, [endedBy, ...from, limit])).map(dueTask);
    },
    async remove(workspaceId, taskIds) {
      const rows = await db.query(REMOVE[variant], [workspaceId, taskIds, ...authorshipOf(replicaId?.())]);
      return rows.map((row) => row.task_id as string);
    },
    async artifacts(workspaceId, taskIds, after, limit) {
      const left = taskIds.filter((taskId) => !after || taskId >= after.taskId);
      const found = await db.query(ARTIFACTS, [workspaceId, left, after?.taskId ?? null, after?.seq ?? 0, limit]);
      const whole = found.slice(0, limit).filter(({ body }) => body !== null);
      return { rows: whole.map(artifactRow), more: whole.length < found.length };
    },
    async rewrite(workspaceId, rows) {
      await db.query(REWRITE, [
        workspaceId,
        textArray(rows, ({ taskId }) => taskId),
        int8Array(rows, ({ seq }) => seq),
        byteaArray(rows, ({ body }) => written(StreamResponseSchema, body)),
      ]);
    },
    async markEmptied(workspaceId, taskIds, had) {
      const audited = replicaId ? [...authorshipOf(replicaId()), had] : [];
      const rows = await db.query(MARK[variant], [workspaceId, taskIds, ...audited]);
      return rows.map((row) => row.task_id as string);
    },
    async oldest() {
      const [row] = await db.query(OLDEST, []);
      return { full: timeOf(row?.full_at), ended: timeOf(row?.ended_at) };
    },
  };
}

const timeOf = (value: unknown): Date | undefined => (value as Date | null | undefined) ?? undefined;

const dueTask = (row: Row): DueTask => ({
  workspaceId: row.workspace_id as string,
  taskId: row.task_id as string,
  endedAt: row.status_at as Date,
  rows: row.last_seq as number,
  isAwaited: row.awaited as boolean,
});

const artifactRow = (row: Row): ArtifactRow => ({
  taskId: row.task_id as string,
  seq: row.seq as number,
  body: fromBinary(StreamResponseSchema, row.body as Uint8Array),
});
