/** What operators read of a task: its row as the engine keeps it, and the rows of its log by which it came there. */
import { PRIORITIES, type Priority, stateBrought, type UpdateKind } from "../domain/task-log.ts";
import type { EngineState } from "../domain/task-state.ts";
import type { Database, Row } from "./database.ts";
import { decodeUpdate } from "./task-codec.ts";

/** A task as the engine has it, without its log. */
export interface Execution {
  agentId: string;
  createdAt: Date;
  state: EngineState;
  /** Number of the last row of its log. */
  seq: number;
  attempt: number;
  priority: Priority;
  fence: number;
  /** The replica that has it; undefined while it waits, and when it has ended. */
  leaseOwner: string | undefined;
  /** Until when that replica lives if it is not heard of, or when it died, by the database's clock. */
  leaseUntil: Date | undefined;
  /** For a task that no replica has: when one should take it. */
  wakeAt: Date | undefined;
  /** When it fails if it has not ended. */
  deadlineAt: Date | undefined;
}

/** A row of a task's log, as the engine sees it. */
export interface Transition {
  seq: number;
  kind: UpdateKind;
  /** The state that it brought, which may be the one before. */
  state: EngineState | undefined;
  /** As it was written: more than clients may see. */
  cause: string | undefined;
  at: Date;
  attempt: number;
  /** 0 in logs from before there were tokens. */
  fence: number;
  /** Undefined in logs from before replicas had names. */
  replicaId: string | undefined;
}

export interface TransitionReads {
  execution(workspaceId: string, taskId: string): Promise<Execution | undefined>;
  /** At most `limit` rows after number `after` that brought a state or have a cause, in order. */
  list(workspaceId: string, taskId: string, page: { after: number; limit: number }): Promise<Transition[]>;
}

const EXECUTION = {
  name: "task-execution-v1",
  text: `
    select t.agent_id, t.created_at, t.state, t.last_seq, t.attempt, t.priority, t.fence, t.lease_owner, t.wake_at,
           t.deadline_at, least(r.expires_at, r.died_at) as lease_until
    from tasks t left join replicas r on r.replica_id = t.lease_owner
    where t.workspace_id = $1 and t.task_id = $2`,
};

// Status updates (2) and replies (4) from before the engine have no state beside them; a status update's body tells it.
const LIST = {
  name: "task-transitions-v1",
  text: `
    select seq, kind, state, cause, created_at, attempt, fence, written_by,
           case when state is null and kind = 2 then body else '' end as body
    from task_updates
    where workspace_id = $1 and task_id = $2 and seq > $3
      and (state is not null or cause is not null or kind in (2, 4))
    order by seq limit $4`,
};

export function createTransitionReads(db: Database): TransitionReads {
  return {
    async execution(workspaceId, taskId) {
      const [row] = await db.query(EXECUTION, [workspaceId, taskId]);
      return row && execution(row);
    },
    async list(workspaceId, taskId, { after, limit }) {
      const values = [workspaceId, taskId, after, limit];
      return (await db.reading(workspaceId, (reader) => reader.query(LIST, values))).map(transition);
    },
  };
}

const execution = (row: Row): Execution => ({
  agentId: row.agent_id as string,
  createdAt: row.created_at as Date,
  state: row.state as EngineState,
  seq: row.last_seq as number,
  attempt: row.attempt as number,
  priority: PRIORITIES[row.priority as number] ?? "NORMAL",
  fence: row.fence as number,
  leaseOwner: (row.lease_owner as string | null) ?? undefined,
  leaseUntil: (row.lease_until as Date | null) ?? undefined,
  wakeAt: (row.wake_at as Date | null) ?? undefined,
  deadlineAt: (row.deadline_at as Date | null) ?? undefined,
});

function transition(row: Row): Transition {
  const update = decodeUpdate(row);
  return {
    seq: update.seq,
    kind: update.kind,
    state: stateBrought(update),
    cause: update.cause,
    at: row.created_at as Date,
    attempt: row.attempt as number,
    fence: row.fence as number,
    replicaId: (row.written_by as string | null) ?? undefined,
  };
}
