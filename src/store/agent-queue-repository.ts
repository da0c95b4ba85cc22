/**
 * Tasks that wait for room at their agents, over all workspaces. They are queued, belong to nobody, and are due to be claimed
 * by anybody at their deadline only; until then whoever has room for one at its agent takes it from here.
 */

import { compareKeys } from "./append-batch.ts";
import { chained, json, NOW, otherLane, stateJson, taskBody } from "./audit-sql.ts";
import type { Database, Statement } from "./database.ts";
import { type ClaimedTask, claimed, type TakenTask, take } from "./lease-repository.ts";
import { AT_DEADLINE } from "./task-sql.ts";
import { SUSPENDED } from "./workspace-sql.ts";

/** An agent for whose tasks there is room. */
export interface AgentRoom {
  workspaceId: string;
  agentId: string;
  /** Tasks that may be taken. */
  units: number;
  /** Capabilities of which no more than so many of them may be; of all others, as many. */
  capabilities: ReadonlyMap<string, number>;
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
  /** Takes waiting tasks, but none of suspended workspaces: of each agent the higher priority and then the elder first. */
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

// Each room is looked at in parts: one for each capability of which some may be taken, one for all that have no bound of their
// own. A task that was claimed before, and had to wait for its agent, is still in the attempt that began then.
const claim = (isAudited: boolean): Statement => ({
  name: isAudited ? "agent-queue-claim-v4" : "agent-queue-claim-v4-unaudited",
  text: take(
    `
    with chosen as (
      select * from (
        select t.workspace_id, t.task_id, t.last_seq, 1 as from_state, i.units, 'claimed: its agent has room' as cause,
               row_number() over (partition by i.workspace_id, i.agent_id order by t.priority desc, t.created_at) as rank
        from unnest($2::text[], $3::text[], $4::int[], $5::text[], $6::int[], $7::text[])
          as i(workspace_id, agent_id, units, capability_id, most, bounded)
        cross join lateral (
          select t.* from generate_series(4, 0, -1) as p(priority) cross join lateral (
            select t.workspace_id, t.task_id, t.last_seq, t.priority, t.created_at from tasks t
            where t.workspace_id = i.workspace_id and t.agent_id = i.agent_id and t.priority = p.priority::smallint and ${WAITS}
              and (t.capability_id = i.capability_id
                   or (i.capability_id is null
                       and (t.capability_id is null or t.capability_id <> all (string_to_array(i.bounded, ',')))))
            order by t.created_at limit i.most for update skip locked
          ) t limit i.most
        ) t
        where i.workspace_id not in (${SUSPENDED})
      ) t where t.rank <= t.units
    )`,
    isAudited,
    "greatest(t.attempt, 1)",
  ),
});

// Written so that the index of owners cannot be taken for the key. 6: transition.
const park = (isAudited: boolean): Statement => ({
  name: isAudited ? "agent-queue-park-v2" : "agent-queue-park-v2-unaudited",
  text: `
    with parked as (
      update tasks t set state = 1, lease_owner = null, last_seq = t.last_seq + 1, wake_at = ${AT_DEADLINE("t.deadline_at")}
      from unnest($2::text[], $3::text[], $4::bigint[], $5::text[]) as i(workspace_id, task_id, fence, cause)
      where t.workspace_id = i.workspace_id and t.task_id = i.task_id and t.fence = i.fence
        and t.state = 9 and t.lease_owner is not distinct from $1
      returning t.workspace_id, t.task_id, t.last_seq, t.fence, t.attempt, i.cause, ${NOW} as at
    ), logged as (
      insert into task_updates (workspace_id, task_id, seq, kind, body, cause, state, created_at, fence, attempt, written_by)
      select workspace_id, task_id, last_seq, 6, '', cause, 1, at, fence, attempt, $1 from parked
    )${isAudited ? `, ${chained(otherLane("$1"), PARKED_ENTRIES)} select chains from chained` : " select"}`,
});

const PARKED_ENTRIES = `select workspace_id, task_id, at, task_id as ord, ${taskBody({
  at: "at",
  workspace: "workspace_id",
  actor: "'router:' || $1",
  action: "task.transition",
  task: "task_id",
  detail: { attempt: "attempt", cause: json("cause"), from: stateJson("9"), seq: "last_seq", to: stateJson("1") },
})} as entries from parked`;

const CLAIM = { audited: claim(true), unaudited: claim(false) };
const PARK = { audited: park(true), unaudited: park(false) };

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

/** `isAudited`: whether the audit log records who takes which task. */
export function createAgentQueueRepository(db: Database, isAudited = true): AgentQueueRepository {
  const variant = isAudited ? "audited" : "unaudited";
  return {
    async claim(replicaId, rooms) {
      const parts = rooms.flatMap(partsOf);
      const rows = await db.query(CLAIM[variant], [
        replicaId,
        parts.map(({ workspaceId }) => workspaceId),
        parts.map(({ agentId }) => agentId),
        parts.map(({ units }) => units),
        parts.map(({ capabilityId }) => capabilityId),
        parts.map(({ most }) => most),
        parts.map(({ bounded }) => bounded),
      ]);
      return rows.map(claimed);
    },
    async park(replicaId, claimed) {
      // In one order with all who append, so that nobody waits for a row of another who waits for his.
      const tasks = claimed.toSorted(compareKeys);
      await db.query(PARK[variant], [
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

/** Some of the tasks at an agent: those of a capability, or with null those of none that is `bounded`. */
interface RoomPart {
  workspaceId: string;
  agentId: string;
  units: number;
  capabilityId: string | null;
  /** Tasks of this part that may be taken. */
  most: number;
  /** Ids, with commas. */
  bounded: string;
}

function partsOf({ workspaceId, agentId, units, capabilities }: AgentRoom): RoomPart[] {
  const part = { workspaceId, agentId, units, bounded: [...capabilities.keys()].join(",") };
  const open = [...capabilities].filter(([, most]) => most > 0);
  return [
    { ...part, capabilityId: null, most: units },
    ...open.map(([capabilityId, most]) => ({ ...part, capabilityId, most: Math.min(most, units) })),
  ];
}

/** Why a task waits, as its log says it. */
export const atAgent = (agentId: string): string => `waits for room at agent "${agentId}"`;
