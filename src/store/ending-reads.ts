/** What logs tell of the ends of tasks. */
import { OVERTAKEN_PATTERN } from "../domain/cause.ts";
import type { Ending } from "../domain/reputation/outcome.ts";
import type { EngineState } from "../domain/task-state.ts";
import type { Database, Row, Statement } from "./database.ts";
import type { OutboxRow } from "./outbox-repository.ts";
import { int8Array, textArray } from "./pg-arrays.ts";

/** The end of a task, and whose it was. */
export interface TaskEnding extends Ending {
  readonly workspaceId: string;
}

/** A row that ended a task, or took it from an agent. */
export type EndingKey = Pick<OutboxRow, "workspaceId" | "taskId" | "seq">;

// A task is with its agent since the row after it last waited to be brought to one. A clock that is ahead must not make what
// others saw old.
const ENDINGS: Statement = {
  name: "reputation-endings-v3",
  text: `
    select i.workspace_id, told.state, split_part(told.cause, E'\\n', 1) as cause, least(told.at, clock_timestamp()) as at,
           t.agent_id, t.capability_id, t.earlier_agent_ids, t.given_capability_id,
           case when told.attempt > 0 then told.began_at end as began_at, told.waited, told.hedged
    from unnest($1::text[], $2::text[], $3::bigint[]) with ordinality as i(workspace_id, task_id, seq, ord)
    join tasks t on t.workspace_id = i.workspace_id and t.task_id = i.task_id
    cross join lateral (
      select max(l.state) filter (where l.seq = i.seq) as state, max(l.cause) filter (where l.seq = i.seq) as cause,
             max(l.created_at) filter (where l.seq = i.seq) as at, max(l.attempt) filter (where l.seq = i.seq) as attempt,
             min(l.created_at) filter (where l.seq = l.brought) as began_at,
             coalesce(bool_or(l.state in (6, 8)) filter (where l.seq >= l.brought and l.seq < i.seq), false) as waited,
             coalesce(bool_or(l.kind = 6 and l.cause like $4) filter (where l.seq >= l.brought and l.seq < i.seq), false) as hedged
      from (
        select u.seq, u.state, u.kind, u.cause, u.created_at, u.attempt,
               coalesce(max(u.seq) filter (where u.state in (1, 10) and u.seq < i.seq) over (), 0) + 1 as brought
        from task_updates u where u.workspace_id = i.workspace_id and u.task_id = i.task_id and u.seq <= i.seq
      ) l
      having bool_or(l.seq = i.seq)
    ) told
    order by i.ord`,
};

/** What is known of ends of tasks, in the order in which they are named. A task that was removed has none any more. */
export async function readEndings(db: Database, keys: readonly EndingKey[]): Promise<TaskEnding[]> {
  const rows = await db.query(ENDINGS, [
    textArray(keys, ({ workspaceId }) => workspaceId),
    textArray(keys, ({ taskId }) => taskId),
    int8Array(keys, ({ seq }) => seq),
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
