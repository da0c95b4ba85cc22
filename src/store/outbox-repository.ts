/**
 * The outbox: the logs of all tasks read as one, by duties that must follow every committed row. The order is that of
 * (xid, workspace, task, seq), and a read stops below the oldest transaction that still runs, because transactions end in
 * another order than they begin: whatever appears later, appears after what was read.
 *
 * The rows of one task come in the order of their numbers. A statement that adds row n + 1 finds the task at n in its own
 * snapshot: the transaction of row n had ended by then, and this statement takes its number afterwards. What adds rows must
 * keep to that: write in the transaction's first writing statement, and only where `last_seq` is as its snapshot has it.
 */
import type { UpdateKind } from "../domain/task-log.ts";
import { EngineState } from "../domain/task-state.ts";
import type { Database, Row, Statement } from "./database.ts";
import { kindName, kindNumber } from "./task-codec.ts";

/** A place in the order of all rows: after the row that it names, or before all rows of the transaction when it names none. */
export interface OutboxPosition {
  /** A transaction's number: 64 bits, as text. */
  xid: string;
  workspaceId: string;
  taskId: string;
  seq: number;
}

/** The right to move a duty's cursor. */
export interface OutboxLease {
  /** The fencing token: whoever takes the cursor next makes it greater. */
  fence: number;
  /** Where the duty goes on. */
  position: OutboxPosition;
}

/**
 * Which rows a duty gets; the others are passed over inside the database.
 * - `all`: every row, with its body.
 * - `webhooks`: what push notifications may have to tell: statuses and artifacts of tasks that have a config. No bodies.
 * - `endings`: rows that complete a task or fail it, and those by which it waits for another attempt. No bodies.
 */
export type OutboxTopic = "all" | "webhooks" | "endings";

export interface OutboxRow {
  workspaceId: string;
  taskId: string;
  seq: number;
  /** Undefined: a kind that only a newer version knows. */
  kind: UpdateKind | undefined;
  /** The state that the row brought, if it brought one. */
  state: EngineState | undefined;
  /** When it happened, by its writer's clock. */
  at: Date;
  /** lf.a2a.v1.StreamResponse; empty where the topic has no bodies. */
  body: Uint8Array;
}

export interface OutboxPage {
  /** In order. Of one task: without gaps in what the topic has. */
  rows: OutboxRow[];
  /** After all rows that were looked at; the very one that was asked from when there was none. */
  position: OutboxPosition;
  /** The page is full: there may be more at once. */
  more: boolean;
  /** Committed rows wait behind a transaction that still runs. */
  held: boolean;
}

/** How far a duty is behind. */
export interface OutboxLag {
  duty: string;
  /** Rows that it has not passed, counted to 10,000. */
  rows: number;
  /** Age of the oldest of them. */
  seconds: number;
}

export interface OutboxRepository {
  /** Gives a duty that has none a cursor, at the present end of all logs. */
  enter(duty: string): Promise<void>;
  /** Takes the cursor of a duty away, whoever has it: nobody does what it did, and whoever enters it anew begins at the end of all logs. */
  leave(duty: string): Promise<void>;
  /** Leases a duty's cursor to this replica, unless another that lives has it. */
  take(duty: string, replicaId: string): Promise<OutboxLease | undefined>;
  /** What follows a position: of at most `limits.rows` rows, those of the topic, and of their bodies about `limits.bytes`. */
  read(topic: OutboxTopic, after: OutboxPosition, limits: { rows: number; bytes: number }): Promise<OutboxPage>;
  /**
   * Moves the cursor, from where it is thought to stand if that is told. False when another has taken it, or it stands elsewhere.
   * After a crash of the database it may stand where it stood before.
   */
  advance(duty: string, fence: number, position: OutboxPosition, from?: OutboxPosition): Promise<boolean>;
  /** Gives the cursor back. */
  release(duty: string, fence: number): Promise<void>;
  lag(duties: readonly string[]): Promise<OutboxLag[]>;
}

/** Rows that the lag counts at most. */
const MOST_LAG = 10_000;

const ENTER: Statement = {
  name: "outbox-enter-v1",
  text: `
    insert into outbox_cursors (name, xid) values ($1, pg_snapshot_xmin(pg_current_snapshot())) on conflict do nothing`,
};

const LEAVE: Statement = { name: "outbox-leave-v1", text: "delete from outbox_cursors where name = $1" };

// The condition is evaluated once, in the snapshot; that the token has not moved since is what the row itself is asked.
const TAKE: Statement = {
  name: "outbox-take-v1",
  text: `
    update outbox_cursors set lease_owner = $2, fence = fence + 1
    where name = $1 and fence = (
      select c.fence from outbox_cursors c
      where c.name = $1 and exists (select from replicas where replica_id = $2 and died_at is null)
        and (c.lease_owner is null or c.lease_owner = $2 or not exists (
          select from replicas where replica_id = c.lease_owner and died_at is null
        ))
    )
    returning fence, xid, workspace_id, task_id, seq`,
};

const HAS_CONFIGS = `
  coalesce((
    select true from push_configs c where c.workspace_id = u.workspace_id and c.task_id = u.task_id limit 1
  ), false)`;

const TOPICS: Record<OutboxTopic, { wanted: string; body: string }> = {
  all: { wanted: "true", body: "u.body" },
  webhooks: {
    wanted: `u.kind in (${kindNumber("status")}, ${kindNumber("artifact")}) and ${HAS_CONFIGS}`,
    body: "''::bytea",
  },
  endings: {
    wanted: `coalesce(u.state in (${EngineState.COMPLETED}, ${EngineState.FAILED}, ${EngineState.SCHEDULED}), false)`,
    body: "''::bytea",
  },
};

/** What follows the position and can be read. */
export const FOLLOWS = `
  (u.xid, u.workspace_id, u.task_id, u.seq) > ($1::xid8, $2, $3, $4::bigint)
  and u.xid < pg_snapshot_xmin(pg_current_snapshot())`;

/** Whether committed rows wait behind a transaction that still runs. */
export const HELD = `
  coalesce((select xid from task_updates order by xid desc limit 1) >= pg_snapshot_xmin(pg_current_snapshot()), false)`;

/**
 * The index knows only transactions, so first it is asked how far the page can reach: sorting is then for the page and the
 * rest of its last transaction, however long the backlog is. The row without a kind says where the page ends.
 */
const read = (topic: OutboxTopic): Statement => ({
  name: `outbox-read-${topic}-v1`,
  text: `
    with page as materialized (
      select u.xid, u.workspace_id, u.task_id, u.seq, u.kind, u.state, u.created_at, ${TOPICS[topic].body} as body,
             ${TOPICS[topic].wanted} as wanted
      from task_updates u
      where ${FOLLOWS} and u.xid <= coalesce(
          (select xid from task_updates where xid > $1::xid8 order by xid offset $5::int limit 1),
          pg_snapshot_xmin(pg_current_snapshot()))
      order by u.xid, u.workspace_id, u.task_id, u.seq limit $5::int
    ), sized as (
      select *, sum(octet_length(body)) over (order by xid, workspace_id, task_id, seq) as bytes from page
    ), kept as (
      select * from sized where bytes - octet_length(body) < $6::bigint
    )
    select xid, workspace_id, task_id, seq, kind, state, created_at, body, null as more, null as held
    from kept where wanted
    union all
    select last.xid, last.workspace_id, last.task_id, last.seq, null, null, null, null,
           (select count(*) from page) = $5::int or (select count(*) from kept) < (select count(*) from page),
           ${HELD}
    from (select) one left join (
      select * from kept order by xid desc, workspace_id desc, task_id desc, seq desc limit 1
    ) last on true
    order by xid, workspace_id, task_id, seq, kind nulls last`,
});

/**
 * Whether any of the rows that follow is wanted, without putting them in order, at a fifth of what a page costs. When none
 * is and they are fewer than a page holds, everything below the oldest transaction that still runs is passed.
 */
const look = (topic: OutboxTopic): Statement => ({
  name: `outbox-look-${topic}-v1`,
  text: `
    select count(*) as rows, coalesce(bool_or(wanted), false) as wanted, ${HELD} as held,
           pg_snapshot_xmin(pg_current_snapshot()) as xid, '' as workspace_id, '' as task_id, 0::bigint as seq
    from (
      select ${TOPICS[topic].wanted} as wanted from task_updates u where ${FOLLOWS} order by u.xid limit $5::int
    ) ahead`,
});

const READ: Record<OutboxTopic, Statement> = {
  all: read("all"),
  webhooks: read("webhooks"),
  endings: read("endings"),
};
/** Topics of which the logs may have nothing for a long time. */
const LOOK: Partial<Record<OutboxTopic, Statement>> = { webhooks: look("webhooks") };

// Not flushed to disk before it is answered: a cursor that falls back after a crash only repeats.
const ADVANCE: Statement = {
  name: "outbox-advance-v2",
  text: `
    with quickly as materialized (select set_config('synchronous_commit', 'off', true))
    update outbox_cursors set xid = $3::xid8, workspace_id = $4, task_id = $5, seq = $6 from quickly
    where name = $1 and fence = $2 and ($7::xid8 is null or (xid, workspace_id, task_id, seq) = ($7, $8, $9, $10::bigint))
    returning fence`,
};

const RELEASE: Statement = {
  name: "outbox-release-v1",
  text: `update outbox_cursors set lease_owner = null where name = $1 and fence = $2`,
};

const LAG: Statement = {
  name: "outbox-lag-v1",
  text: `
    select c.name, behind.rows, extract(epoch from greatest(clock_timestamp() - behind.since, interval '0'))::float8 as seconds
    from outbox_cursors c cross join lateral (
      select count(*) as rows, min(created_at) as since from (
        select u.created_at from task_updates u
        where (u.xid, u.workspace_id, u.task_id, u.seq) > (c.xid, c.workspace_id, c.task_id, c.seq)
        order by u.xid limit ${MOST_LAG}
      ) unread
    ) behind
    where c.name = any ($1::text[])`,
};

export function createOutboxRepository(db: Database): OutboxRepository {
  return {
    enter: async (duty) => void (await db.query(ENTER, [duty])),
    leave: async (duty) => void (await db.query(LEAVE, [duty])),
    async take(duty, replicaId) {
      const [row] = await db.query(TAKE, [duty, replicaId]);
      return row && { fence: row.fence as number, position: positionOf(row) };
    },
    async read(topic, after, limits) {
      const { xid, workspaceId, taskId, seq } = after;
      const from = [xid, workspaceId, taskId, seq, limits.rows];
      const [ahead] = LOOK[topic] ? await db.query(LOOK[topic], from) : [];
      if (ahead && !ahead.wanted && (ahead.rows as number) < limits.rows) {
        const position = ahead.rows === 0 ? after : positionOf(ahead);
        return { rows: [], position, more: false, held: ahead.held as boolean };
      }
      const rows = await db.query(READ[topic], [...from, limits.bytes]);
      const end = rows.pop()!;
      return {
        rows: rows.map(decode),
        position: end.xid === null ? after : positionOf(end),
        more: end.more as boolean,
        held: end.held as boolean,
      };
    },
    async advance(duty, fence, to, from) {
      return (await db.query(ADVANCE, [duty, fence, ...columnsOf(to), ...columnsOf(from)])).length === 1;
    },
    release: async (duty, fence) => void (await db.query(RELEASE, [duty, fence])),
    async lag(duties) {
      const rows = await db.query(LAG, [duties]);
      return rows.map((row) => ({
        duty: row.name as string,
        rows: row.rows as number,
        seconds: (row.seconds as number | null) ?? 0,
      }));
    },
  };
}

const columnsOf = (at: OutboxPosition | undefined) =>
  at ? [at.xid, at.workspaceId, at.taskId, at.seq] : [null, null, null, null];

const positionOf = (row: Row): OutboxPosition => ({
  xid: row.xid as string,
  workspaceId: row.workspace_id as string,
  taskId: row.task_id as string,
  seq: row.seq as number,
});

const decode = (row: Row): OutboxRow => ({
  workspaceId: row.workspace_id as string,
  taskId: row.task_id as string,
  seq: row.seq as number,
  kind: kindName(row.kind as number),
  state: (row.state as EngineState | null) ?? undefined,
  at: row.created_at as Date,
  body: row.body as Uint8Array,
});
