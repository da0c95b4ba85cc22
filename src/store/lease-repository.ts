/**
 * Replicas and their leases, over all workspaces. A task belongs to the replica that its row names, for as long as that
 * replica's own row lives: one heartbeat a replica, not one a task. All times are the database's.
 */
import { chained, json, NOW, otherLane, stateJson, taskBody } from "./audit-sql.ts";
import type { Database, Row, Statement } from "./database.ts";
import type { TaskKey } from "./task-reads.ts";
import { SUSPENDED } from "./workspace-sql.ts";

/** A task that this replica has just taken. */
export interface TakenTask extends TaskKey {
  /** The token under which it is ours. */
  fence: number;
}

/** The same with what decides whether its agent has room for it. */
export interface ClaimedTask extends TakenTask {
  agentId: string;
  capabilityId: string | undefined;
  /** Whether it is to be brought to its agent now. What has waited too long, for its client or by its deadline, is to be ended. */
  begins: boolean;
}

/** What a claim takes into account so that no workspace starves another. */
export interface Fairness {
  /** Tasks of each workspace that run here already. */
  running: ReadonlyMap<string, number>;
  /** The workspace that was served last. */
  last: string;
}

export interface LeaseRepository {
  /** Enters a replica, alive for `leaseMs`. */
  register(replicaId: string, host: string, leaseMs: number): Promise<void>;
  /** Keeps a replica alive for another `leaseMs`. Undefined when it was declared dead; else how many replicas live. */
  beat(replicaId: string, leaseMs: number): Promise<number | undefined>;
  /**
   * Declares dead whose lease has run out, and returns them. Nobody is declared dead while the database itself has not
   * been up for `leaseMs`: none could have kept its lease.
   */
  reap(leaseMs: number): Promise<string[]>;
  /** Declares one replica dead: it stops. Its tasks are free at once. */
  release(replicaId: string): Promise<void>;
  /** Declares all others dead. For a database that only one process can have open. */
  releaseOthers(replicaId: string): Promise<void>;
  /** Takes over at most `limit` tasks of dead replicas. */
  rescue(replicaId: string, limit: number): Promise<ClaimedTask[]>;
  /**
   * Takes at most `limit` waiting tasks that are due: those that wait for a replica, and those that have waited too long
   * for their client. Workspaces take turns; within one, the higher priority and then the longer wait comes first. When it
   * takes fewer than `limit`, others may be left; when it takes none, none is, but what others are taking at that moment, and what
   * belongs to workspaces that are suspended.
   */
  claim(replicaId: string, limit: number, fairness: Fairness): Promise<ClaimedTask[]>;
  /** All tasks that a replica has, by the database. */
  held(replicaId: string): Promise<TakenTask[]>;
  /** How many tasks wait for a replica now, counted to `most`: those of suspended workspaces keep nobody's place. */
  waiting(most: number): Promise<number>;
}

/** How long the dead are remembered: longer than any statement of theirs can still run. */
const MEMORY = "1 hour";

const ms = (parameter: string): string => `${parameter}::float8 * interval '1 millisecond'`;

const REGISTER: Statement = {
  name: "replica-register-v1",
  text: `insert into replicas (replica_id, host, expires_at) values ($1, $2, clock_timestamp() + ${ms("$3")})`,
};

const BEAT: Statement = {
  name: "replica-beat-v1",
  text: `
    update replicas set expires_at = clock_timestamp() + ${ms("$2")} where replica_id = $1 and died_at is null
    returning (select count(*) from replicas where died_at is null) as living`,
};

const REAP: Statement = {
  name: "replica-reap-v1",
  text: `
    with forgotten as (
      delete from replicas r where died_at < clock_timestamp() - interval '${MEMORY}'
        and (select t.task_id from tasks t where t.lease_owner = r.replica_id order by t.created_at limit 1) is null
    )
    update replicas set died_at = clock_timestamp()
    where died_at is null and expires_at < clock_timestamp()
      and pg_postmaster_start_time() < clock_timestamp() - ${ms("$1")}
    returning replica_id`,
};

const RELEASE: Statement = {
  name: "replica-release-v1",
  text: `update replicas set died_at = clock_timestamp() where replica_id = $1 and died_at is null`,
};

const RELEASE_OTHERS: Statement = {
  name: "replica-release-others-v1",
  text: `update replicas set died_at = clock_timestamp() where replica_id <> $1 and died_at is null`,
};

/**
 * Takes the tasks of the statement `chosen`, and writes into their logs who did so. 6: transition. A task whose log has
 * grown since the statement began is left for the next time: its rows must come in the order of transactions, as the outbox
 * reads them, and this transaction may have its number from before. `attempt` is the number of the attempt that begins.
 */
export const take = (chosen: string, isAudited: boolean, attempt = "t.attempt + (t.state in (1, 10))::int"): string => `
    ${chosen}, taken as (
      update tasks t set
        lease_owner = $1, fence = t.fence + 1, last_seq = t.last_seq + 1, wake_at = null,
        state = case when t.state in (1, 10) then 9 else t.state end,
        attempt = ${attempt}
      from chosen c
      where t.workspace_id = c.workspace_id and t.task_id = c.task_id and t.last_seq = c.last_seq
        and exists (select from replicas where replica_id = $1 and died_at is null)
      returning t.workspace_id, t.task_id, t.last_seq, t.state, t.fence, t.attempt, c.cause, c.rank, c.from_state, t.agent_id,
                t.capability_id, ${NOW} as at, t.state = 9 and coalesce(t.deadline_at > clock_timestamp(), true) as begins
    ), logged as (
      insert into task_updates (workspace_id, task_id, seq, kind, body, cause, state, created_at, fence, attempt, written_by)
      select workspace_id, task_id, last_seq, 6, '', cause, state, at, fence, attempt, $1 from taken
    )${isAudited ? `, ${chained(otherLane("$1"), TAKEN_ENTRIES)}` : ""}
    select workspace_id, task_id, fence, agent_id, capability_id, begins
    from taken${isAudited ? " cross join chained" : ""} order by rank`;

const TAKEN_ENTRIES = `select workspace_id, task_id, at, rank as ord, ${taskBody({
  at: "at",
  workspace: "workspace_id",
  actor: "'router:' || $1",
  action: "task.transition",
  task: "task_id",
  detail: {
    attempt: "attempt",
    cause: json("split_part(cause, ': ', 1)"),
    from: stateJson("from_state"),
    seq: "last_seq",
    to: stateJson("state"),
  },
})} as entries from taken`;

const rescue = (isAudited: boolean): Statement => ({
  name: isAudited ? "lease-rescue-v3" : "lease-rescue-v3-unaudited",
  text: take(
    `
    with chosen as (
      select t.workspace_id, t.task_id, t.last_seq, t.state as from_state, 'rescued from replica ' || r.replica_id as cause,
             1 as rank
      from unnest(array(select replica_id from replicas where died_at is not null)) as r(replica_id) cross join lateral (
        select workspace_id, task_id, last_seq, state from tasks where lease_owner = r.replica_id
        order by created_at limit $2 for update skip locked
      ) t
      limit $2
    )`,
    isAudited,
  ),
});

/** So many due tasks tell by themselves which workspaces have any; with more, the others have to be looked for. */
const BACKLOG = 1000;

// Each part can read one index only, in its order: the planner has no choice in which it could err. The walk jumps from one
// workspace to the next. No more workspaces are served than tasks are taken, and a few tasks more than its share are read
// of each: some may be another replica's by the time they would be locked. Only what is taken is locked.
const claim = (isAudited: boolean): Statement => ({
  name: isAudited ? "lease-claim-v5" : "lease-claim-v5-unaudited",
  text: take(
    `
    with recursive oldest as materialized (
      select workspace_id from tasks where state in (1, 6, 10) and lease_owner is null and wake_at <= now()
      order by wake_at limit ${BACKLOG}
    ), walk as (
      (select workspace_id from tasks
       where lease_owner is null and wake_at is not null and (select count(*) from oldest) = ${BACKLOG}
       order by workspace_id, priority, wake_at limit 1)
      union all
      select (select t.workspace_id from tasks t
              where t.lease_owner is null and t.wake_at is not null and t.workspace_id > w.workspace_id
              order by t.workspace_id, t.priority, t.wake_at limit 1)
      from walk w where w.workspace_id is not null
    ), served as materialized (
      select w.workspace_id, coalesce(r.tasks, 0) as running
      from (
        select workspace_id from oldest
        union
        select w.workspace_id from walk w where exists (
          select from generate_series(0, 4) as p(priority) cross join lateral (
            select from tasks t
            where t.workspace_id = w.workspace_id and t.priority = p.priority::smallint
              and t.lease_owner is null and t.wake_at <= now()
            order by t.wake_at limit 1
          ) due
        )
      ) w left join unnest($3::text[], $4::int[]) as r(workspace_id, tasks) on r.workspace_id = w.workspace_id
      where w.workspace_id not in (${SUSPENDED})
      order by running, w.workspace_id <= $5, w.workspace_id limit $2
    ), due as (
      select t.*, s.running + row_number() over (partition by s.workspace_id order by t.priority desc, t.wake_at) as turn
      from served s cross join (select 2 * $2::bigint / greatest(count(*), 1) + 1 as tasks from served) share cross join lateral (
        select of_priority.* from generate_series(4, 0, -1) as p(priority) cross join lateral (
          select workspace_id, task_id, last_seq, fence, priority, wake_at from tasks
          where workspace_id = s.workspace_id and priority = p.priority::smallint
            and lease_owner is null and wake_at <= now()
          order by wake_at limit share.tasks
        ) of_priority limit share.tasks
      ) t
    ), chosen as (
      select d.workspace_id, d.task_id, d.last_seq, d.rank, free.state as from_state,
             case free.state when 1 then 'claimed from the queue' when 10 then 'due, and claimed'
                             else case free.attempt when 0 then 'nobody decided about its approval in time'
                                                    else 'waited too long for its client' end end as cause
      from (
        select *, row_number() over (order by turn, workspace_id <= $5, workspace_id) as rank from due order by rank
      ) d cross join lateral (
        select state, attempt from tasks t
        where t.workspace_id = d.workspace_id and t.task_id = d.task_id
          and t.last_seq = d.last_seq and t.fence = d.fence
        for update skip locked
      ) free
      limit $2
    )`,
    isAudited,
  ),
});

const RESCUE = { audited: rescue(true), unaudited: rescue(false) };
const CLAIM = { audited: claim(true), unaudited: claim(false) };

const HELD: Statement = {
  name: "lease-held-v1",
  text: `select workspace_id, task_id, fence from tasks where lease_owner = $1`,
};

const WAITING: Statement = {
  name: "lease-waiting-v2",
  text: `
    select count(*) as count from (
      select from tasks where state in (1, 6, 10) and lease_owner is null and wake_at <= now()
        and workspace_id not in (${SUSPENDED})
      order by wake_at limit $1
    ) waiting`,
};

/** `isAudited`: whether the audit log records who takes which task. */
export function createLeaseRepository(db: Database, isAudited = true): LeaseRepository {
  const variant = isAudited ? "audited" : "unaudited";
  return {
    register: async (replicaId, host, leaseMs) => void (await db.query(REGISTER, [replicaId, host, leaseMs])),
    async beat(replicaId, leaseMs) {
      const [row] = await db.query(BEAT, [replicaId, leaseMs]);
      return row?.living as number | undefined;
    },
    reap: async (leaseMs) => (await db.query(REAP, [leaseMs])).map((row) => row.replica_id as string),
    release: async (replicaId) => void (await db.query(RELEASE, [replicaId])),
    releaseOthers: async (replicaId) => void (await db.query(RELEASE_OTHERS, [replicaId])),
    rescue: async (replicaId, limit) => (await db.query(RESCUE[variant], [replicaId, limit])).map(claimed),
    async claim(replicaId, limit, { running, last }) {
      const rows = await db.query(CLAIM[variant], [replicaId, limit, [...running.keys()], [...running.values()], last]);
      return rows.map(claimed);
    },
    held: async (replicaId) => (await db.query(HELD, [replicaId])).map(taken),
    waiting: async (most) => (await db.query(WAITING, [most]))[0]?.count as number,
  };
}

const taken = (row: Row): TakenTask => ({
  workspaceId: row.workspace_id as string,
  taskId: row.task_id as string,
  fence: row.fence as number,
});

export const claimed = (row: Row): ClaimedTask => ({
  ...taken(row),
  agentId: row.agent_id as string,
  capabilityId: (row.capability_id as string | null) ?? undefined,
  begins: row.begins as boolean,
});
