/**
 * Tasks that wait for room at their agents, over all workspaces. They are queued, belong to nobody, and are due to be claimed
 * by anybody at their deadline only; until then whoever has room for one at its agent takes it from here.
 */

import { compareKeys } from "./append-batch.ts";
import type { Database, Statement } from "./database.ts";
import { type ClaimedTask, claimed, type TakenTask, take } from "./lease-repository.ts";
import { AT_DEADLINE } from "./task-sql.ts";

/** An agent for whose tasks there is room. */
export interface AgentRoom {
  workspaceId: string;
  agentId: string;
  /** Tasks that may be taken. */
  units: number;
  /** Capabilities of which none may be taken. */
  closed: readonly string[];
}

/** An agent at which tasks wait. */
export interface CrowdedAgent {
  workspaceId: string;
  agentId: string;
  /** How many, counted to a bound. */
  waiting: number;
  /** The capabilities that those were given to. */
  capabilityIds: string[];
}

export interface AgentQueueRepository {
  /** Takes waiting tasks: of each agent the higher priority and then the elder first. */
  claim(replicaId: string, rooms: readonly AgentRoom[]): Promise<ClaimedTask[]>;
  /**
   * Lets tasks that this replica has claimed, and not begun, wait for room at their agents. A task that is another's by now is
   * left alone.
   */
  park(replicaId: string, tasks: readonly (TakenTask & { agentId: string })[]): Promise<void>;
  /**
   * At most `limit` agents at which tasks wait, those after `after` by workspace and agent. Of each, tasks are counted to `most`.
   */
  crowded(after: Pick<CrowdedAgent, "workspaceId" | "agentId">, limit: number, most: number): Promise<CrowdedAgent[]>;
}

/** What the index `tasks_at_agent` holds. */
const WAITS = `t.state = 1 and t.lease_owner is null and t.wake_at = ${AT_DEADLINE("t.deadline_at")}`;

// A task that was claimed before, and had to wait for its agent, is still in the attempt that began then.
const CLAIM: Statement = {
  name: "agent-queue-claim-v1",
  text: take(
    `
    with chosen as (
      select t.*, 'claimed: its agent has room' as cause, row_number() over () as rank
      from unnest($2::text[], $3::text[], $4::int[], $5::text[]) as i(workspace_id, agent_id, units, closed)
      cross join lateral (
        select t.workspace_id, t.task_id, t.last_seq
        from generate_series(4, 0, -1) as p(priority) cross join lateral (
          select t.workspace_id, t.task_id, t.last_seq from tasks t
          where t.workspace_id = i.workspace_id and t.agent_id = i.agent_id and t.priority = p.priority::smallint and ${WAITS}
            and (t.capability_id is null or t.capability_id <> all (string_to_array(i.closed, ',')))
          order by t.created_at limit i.units for update skip locked
        ) t limit i.units
      ) t
    )`,
    "greatest(t.attempt, 1)",
  ),
};

// Written so that the index of owners cannot be taken for the key. 6: transition.
const PARK: Statement = {
  name: "agent-queue-park-v1",
  text: `
    with parked as (
      update tasks t set state = 1, lease_owner = null, last_seq = t.last_seq + 1, wake_at = ${AT_DEADLINE("t.deadline_at")}
      from unnest($2::text[], $3::text[], $4::bigint[], $5::text[]) as i(workspace_id, task_id, fence, cause)
      where t.workspace_id = i.workspace_id and t.task_id = i.task_id and t.fence = i.fence
        and t.state = 9 and t.lease_owner is not distinct from $1
      returning t.workspace_id, t.task_id, t.last_seq, t.fence, t.attempt, i.cause
    )
    insert into task_updates (workspace_id, task_id, seq, kind, body, cause, state, created_at, fence, attempt, written_by)
    select workspace_id, task_id, last_seq, 6, '', cause, 1, clock_timestamp(), fence, attempt, $1 from parked`,
};

// The walk jumps from one agent to the next.
const CROWDED: Statement = {
  name: "agent-queue-crowded-v1",
  text: `
    with recursive walk as (
      select $1::text collate "C" as workspace_id, $2::text collate "C" as agent_id, 0 as step
      union all
      select next.*, w.step + 1 from walk w cross join lateral (
        select t.workspace_id, t.agent_id from tasks t
        where (t.workspace_id, t.agent_id) > (w.workspace_id, w.agent_id) and ${WAITS}
        order by t.workspace_id, t.agent_id limit 1
      ) next where w.step < $3
    )
    select w.workspace_id, w.agent_id, tasks.waiting, tasks.capability_ids
    from walk w cross join lateral (
      select count(*) as waiting, array_remove(array_agg(distinct capability_id), null) as capability_ids
      from (
        select t.capability_id from tasks t
        where t.workspace_id = w.workspace_id and t.agent_id = w.agent_id and ${WAITS}
        order by t.priority, t.created_at limit $4
      ) first
    ) tasks where w.step > 0 order by w.step`,
};

export function createAgentQueueRepository(db: Database): AgentQueueRepository {
  return {
    async claim(replicaId, rooms) {
      const rows = await db.query(CLAIM, [
        replicaId,
        rooms.map(({ workspaceId }) => workspaceId),
        rooms.map(({ agentId }) => agentId),
        rooms.map(({ units }) => units),
        rooms.map(({ closed }) => closed.join(",")),
      ]);
      return rows.map(claimed);
    },
    async park(replicaId, claimed) {
      // In one order with all who append, so that nobody waits for a row of another who waits for his.
      const tasks = claimed.toSorted(compareKeys);
      await db.query(PARK, [
        replicaId,
        tasks.map(({ workspaceId }) => workspaceId),
        tasks.map(({ taskId }) => taskId),
        tasks.map(({ fence }) => fence),
        tasks.map(({ agentId }) => atAgent(agentId)),
      ]);
    },
    async crowded({ workspaceId, agentId }, limit, most) {
      const rows = await db.query(CROWDED, [workspaceId, agentId, limit, most]);
      return rows.map((row) => ({
        workspaceId: row.workspace_id as string,
        agentId: row.agent_id as string,
        waiting: row.waiting as number,
        capabilityIds: (row.capability_ids as string[] | null) ?? [],
      }));
    },
  };
}

/** Why a task waits, as its log says it. */
export const atAgent = (agentId: string): string => `waits for room at agent "${agentId}"`;
