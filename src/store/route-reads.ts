/** How the agents of tasks were chosen: seldom asked for, and so not read with the tasks. */

import { firstUuidV7 } from "../domain/identifiers.ts";
import type { Viewer } from "../domain/identity/visibility.ts";
import type { Database } from "./database.ts";
import { ACCESS, GIVEN_CAPABILITY } from "./task-sql.ts";

const DECISION = {
  name: "task-decision-v1",
  text: "select route_decision from tasks where workspace_id = $1 and task_id = $2",
};

/** The decision that was stored with a task; undefined when there is none, or no such task. */
export async function readDecision(db: Database, workspaceId: string, taskId: string): Promise<Uint8Array | undefined> {
  const [row] = await db.query(DECISION, [workspaceId, taskId]);
  return (row?.route_decision as Uint8Array | null | undefined) ?? undefined;
}

/** A task as a replay of its decision sees it. */
export interface DecidedTask {
  readonly taskId: string;
  readonly contextId: string;
  readonly createdAt: Date;
  /** Number of lf.a2a.v1.TaskState, and since when it is in it. */
  readonly a2aState: number;
  readonly statusAt: Date;
  readonly disclosed: boolean;
  /** Whether the reader sees it: what it does not see must tell it nothing. */
  readonly seen: boolean;
  /** Undefined when there is none, or it is not of the capability that was asked for. */
  readonly decision: Uint8Array | undefined;
}

/** Which tasks are read: those that were accepted from a time on and before another, in milliseconds of the epoch. */
export interface DecidedTasksQuery {
  readonly fromMs: number;
  readonly beforeMs: number;
  readonly capabilityId: string | undefined;
  /** The last task of the page before: what follows it is older. */
  readonly after: string | undefined;
  readonly limit: number;
  /** Who reads; undefined: who sees all. */
  readonly viewer: Viewer | undefined;
}

// Ids begin with the time at which they were made, and so the key has the tasks in the order in which they were accepted: there
// is no index that every submit would have to keep. Decisions of other capabilities are not sent, but counted as read; so
// are tasks that the reader does not see, which bounds what one page goes through.
const DECIDED = {
  name: "tasks-decided-v3",
  text: `
    select task_id, context_id, created_at, a2a_state, status_at, disclosed, seen,
           case when $4::text is null or ${GIVEN_CAPABILITY} = $4 then route_decision end as route_decision
    from (
      select *, ${ACCESS("t", "$6::text", "$7::text[]")} is not null as seen
      from tasks t where workspace_id = $1 and task_id >= $2 and task_id < $3
      order by task_id desc limit $5
    ) page order by task_id desc`,
};

/** A page of tasks, the newest first. */
export async function readDecidedTasks(
  db: Database,
  workspaceId: string,
  { fromMs, beforeMs, capabilityId, after, limit, viewer }: DecidedTasksQuery,
): Promise<DecidedTask[]> {
  const before = after ?? firstUuidV7(beforeMs);
  const who = [viewer?.id ?? null, viewer?.roles ?? []];
  const rows = await db.query(DECIDED, [workspaceId, firstUuidV7(fromMs), before, capabilityId ?? null, limit, ...who]);
  return rows.map((row) => ({
    taskId: row.task_id as string,
    contextId: row.context_id as string,
    createdAt: row.created_at as Date,
    a2aState: row.a2a_state as number,
    statusAt: row.status_at as Date,
    disclosed: row.disclosed as boolean,
    seen: row.seen as boolean,
    decision: (row.route_decision as Uint8Array | null) ?? undefined,
  }));
}
