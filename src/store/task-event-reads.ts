/**
 * What happens to the tasks of a workspace, out of the logs of all tasks in the outbox's order (outbox-repository.ts): a
 * reader goes on after its place, gets each row once, and those of one task in their order.
 */
import type { Viewer } from "../domain/identity/visibility.ts";
import type { TaskUpdate } from "../domain/task-log.ts";
import type { EngineState } from "../domain/task-state.ts";
import type { Database, Row, Statement } from "./database.ts";
import { FOLLOWS, HELD } from "./outbox-repository.ts";
import { decodeUpdate, kindNumber } from "./task-codec.ts";
import { ACCESS, GIVEN_CAPABILITY } from "./task-sql.ts";

/** A place in the order of a workspace's rows: after the row that it names. */
export interface EventPosition {
  /** A transaction's number: 64 bits, as text. */
  xid: string;
  /** Empty: before all rows of the transaction. `AFTER_ALL`: behind them. */
  taskId: string;
  seq: number;
}

/** Behind every id of a task. */
const AFTER_ALL = "~";

/** Which tasks, and which of their rows. What is not given lets all pass. */
export interface EventFilter {
  agentId?: string;
  capabilityId?: string;
  contextId?: string;
  /** The states that a row must have brought, any of them. */
  states?: readonly EngineState[];
  /** Who reads. Not given: who sees all. */
  viewer?: Viewer;
}

/** A row of a task's log that brought a state or an artifact. */
export interface EventRow {
  position: EventPosition;
  contextId: string;
  agentId: string;
  capabilityId: string | undefined;
  at: Date;
  attempt: number;
  update: TaskUpdate;
}

export interface EventPage {
  /** In order. */
  rows: EventRow[];
  /** After all rows that were looked at; the very one that was asked from when there was none. */
  position: EventPosition;
  /** There may be more at once. */
  more: boolean;
  /** Committed rows wait behind a transaction that still runs. */
  held: boolean;
}

export interface TaskEventReads {
  /** The place behind which everything is that is committed from now on. */
  present(workspaceId: string): Promise<EventPosition>;
  /** Whether a transaction of this number may have been begun. */
  hasBegun(workspaceId: string, xid: string): Promise<boolean>;
  /**
   * What follows a position: of at most `limits.rows` rows of all workspaces, those of this one that pass the filter and
   * whose task may be seen, and of their bodies about `limits.bytes`.
   */
  read(
    workspaceId: string,
    after: EventPosition,
    filter: EventFilter,
    limits: { rows: number; bytes: number },
  ): Promise<EventPage>;
}

const PRESENT: Statement = { name: "event-present-v1", text: "select pg_snapshot_xmin(pg_current_snapshot()) as xid" };

const HAS_BEGUN: Statement = {
  name: "event-has-begun-v1",
  text: "select $1::xid8 <= pg_snapshot_xmax(pg_current_snapshot()) as begun",
};

// As the outbox reads: see there how the page is found. The row without a kind says where the page ends. The limit of one
// keeps the planner from joining the page with the whole table.
const READ: Statement = {
  name: "event-read-v3",
  text: `
    with page as materialized (
      select u.xid, u.workspace_id, u.task_id, u.seq, u.kind, u.state, u.cause, u.attempt, u.created_at, u.body
      from task_updates u
      where ${FOLLOWS} and u.xid <= coalesce(
          (select xid from task_updates where xid > $1::xid8 order by xid offset $5::int limit 1),
          pg_snapshot_xmin(pg_current_snapshot()))
      order by u.xid, u.workspace_id, u.task_id, u.seq limit $5::int
    ), seen as (
      select p.*, t.context_id, t.agent_id, t.capability_id, coalesce(octet_length(p.body), 0) * t.wanted::int as bytes,
             t.wanted
      from page p left join lateral (
        select t.context_id, t.agent_id, ${GIVEN_CAPABILITY} as capability_id, true as wanted from tasks t
        where p.workspace_id = $2 and t.workspace_id = p.workspace_id and t.task_id = p.task_id and t.disclosed
          and (p.state is not null or p.kind in (${kindNumber("status")}, ${kindNumber("artifact")}))
          and ($7::text is null or t.agent_id = $7) and ($8::text is null or ${GIVEN_CAPABILITY} = $8)
          and ($9::text is null or t.context_id = $9) and ($10::smallint[] is null or p.state = any($10))
          and ${ACCESS("t", "$11::text", "$12::text[]")} is not null
        limit 1
      ) t on true
    ), sized as (
      select *, sum(coalesce(bytes, 0)) over (order by xid, workspace_id, task_id, seq) as total from seen
    ), kept as (
      select * from sized where total - coalesce(bytes, 0) < $6::bigint
    )
    select xid, workspace_id, task_id, seq, kind, state, cause, attempt, created_at, body, context_id, agent_id,
           capability_id, null as more, null as held
    from kept where wanted
    union all
    select last.xid, last.workspace_id, last.task_id, last.seq, null, null, null, null, null, null, null, null, null,
           (select count(*) from page) = $5::int or (select count(*) from kept) < (select count(*) from page), ${HELD}
    from (select) one left join (
      select * from kept order by xid desc, workspace_id desc, task_id desc, seq desc limit 1
    ) last on true
    order by xid, workspace_id, task_id, seq, kind nulls last`,
};

export function createTaskEventReads(db: Database): TaskEventReads {
  return {
    async present() {
      const [row] = await db.query(PRESENT, []);
      return { xid: row!.xid as string, taskId: "", seq: 0 };
    },
    hasBegun: async (_workspaceId, xid) => (await db.query(HAS_BEGUN, [xid]))[0]?.begun === true,
    async read(workspaceId, after, { agentId, capabilityId, contextId, states, viewer }, limits) {
      const rows = await db.query(READ, [
        after.xid,
        workspaceId,
        after.taskId,
        after.seq,
        limits.rows,
        limits.bytes,
        agentId ?? null,
        capabilityId ?? null,
        contextId ?? null,
        states ?? null,
        viewer?.id ?? null,
        viewer?.roles ?? [],
      ]);
      const end = rows.pop()!;
      return {
        rows: rows.map((row) => eventRow(workspaceId, row)),
        position: end.xid === null ? after : positionIn(workspaceId, end),
        more: end.more as boolean,
        held: end.held as boolean,
      };
    },
  };
}

/** The same place among the rows of one workspace: what the others have is none of its readers' business. */
function positionIn(workspaceId: string, row: Row): EventPosition {
  const xid = row.xid as string;
  const at = row.workspace_id as string;
  if (at === workspaceId) return { xid, taskId: row.task_id as string, seq: row.seq as number };
  return { xid, taskId: at < workspaceId ? "" : AFTER_ALL, seq: 0 };
}

const eventRow = (workspaceId: string, row: Row): EventRow => ({
  position: positionIn(workspaceId, row),
  contextId: row.context_id as string,
  agentId: row.agent_id as string,
  capabilityId: (row.capability_id as string | null) ?? undefined,
  at: row.created_at as Date,
  attempt: row.attempt as number,
  update: decodeUpdate(row),
});
