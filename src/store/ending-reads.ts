/** What logs tell of the ends of tasks. */
import { OVERTAKEN_PATTERN } from "../domain/cause.ts";
import type { Ending } from "../domain/reputation/outcome.ts";
import type { EngineState } from "../domain/task-state.ts";
import type { Database, Row, Statement } from "./database.ts";
import type { OutboxRow } from "./outbox-repository.ts";

/** The end of a task, and whose it was. */
export interface TaskEnding extends Ending {
  readonly workspaceId: string;
}

/** A row that ended a task, or took it from an agent. */
export type EndingKey = Pick<OutboxRow, "workspaceId" | "taskId" | "seq">;

// A task is with its agent since the row after it last waited to be brought to one. A clock that is ahead must not make what
// others saw old.
const ENDINGS: Statement = {
  name: "reputation-endings-v2",
  text: `
    select u.workspace_id, u.state, split_part(u.cause, E'\\n', 1) as cause, least(u.created_at, clock_timestamp()) as at,
           t.agent_id, t.capability_id, t.earlier_agent_ids, t.given_capability_id,
           case when u.attempt > 0 then began.at end as began_at, passed.waited, passed.hedged
    from unnest($1::text[], $2::text[], $3::bigint[]) with ordinality as i(workspace_id, task_id, seq, ord)
    join task_updates u on u.workspace_id = i.workspace_id and u.task_id = i.task_id and u.seq = i.seq
    join tasks t on t.workspace_id = i.workspace_id and t.task_id = i.task_id
    cross join lateral (
      select coalesce(max(w.seq), 0) as seq from task_updates w
      where w.workspace_id = i.workspace_id and w.task_id = i.task_id and w.seq < i.seq and w.state in (1, 10)
    ) waited
    cross join lateral (
      select min(b.created_at) as at from task_updates b
      where b.workspace_id = i.workspace_id and b.task_id = i.task_id and b.seq = waited.seq + 1
    ) began
    cross join lateral (
      select coalesce(bool_or(p.state in (6, 8)), false) as waited,
             coalesce(bool_or(p.kind = 6 and p.cause like $4), false) as hedged
      from task_updates p
      where p.workspace_id = i.workspace_id and p.task_id = i.task_id and p.seq > waited.seq and p.seq < i.seq
    ) passed
    order by i.ord`,
};

/** What is known of ends of tasks, in the order in which they are named. A task that was removed has none any more. */
export async function readEndings(db: Database, keys: readonly EndingKey[]): Promise<TaskEnding[]> {
  const rows = await db.query(ENDINGS, [
    keys.map(({ workspaceId }) => workspaceId),
    keys.map(({ taskId }) => taskId),
    keys.map(({ seq }) => seq),
    OVERTAKEN_PATTERN,
  ]);
  return rows.map(endingOf);
}

const endingOf = (row: Row): TaskEnding => ({
  workspaceId: row.workspace_id as string,
  state: (row.state as EngineState | null) ?? undefined,
  cause: (row.cause as string | null) ?? undefined,
  at: row.at as Date,
  beganAt: (row.began_at as Date | null) ?? undefined,
  waitedForClient: row.waited as boolean,
  wasHedged: row.hedged as boolean,
  agentId: row.agent_id as string,
  capabilityId: (row.capability_id as string | null) ?? undefined,
  earlierAgentIds: (row.earlier_agent_ids as string[] | null) ?? [],
  givenCapabilityId:
    row.earlier_agent_ids === null
      ? ((row.capability_id as string | null) ?? undefined)
      : ((row.given_capability_id as string | null) ?? undefined),
});
