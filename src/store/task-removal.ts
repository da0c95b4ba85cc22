/**
 * Removes tasks that have ended, with all that hangs on them: rows of their logs, push notification configs, the route
 * decision, the keys of the requests that they came of, what they waited for to be approved. States that end a task are final, so nobody writes to what is removed here.
 */
import { uuidV7 } from "../domain/identifiers.ts";
import type { Database, Statement } from "./database.ts";
import { ENDED } from "./task-sql.ts";

/**
 * Removes the tasks of the statement `locked`. Keys are given as arrays, so that no plan reads a whole table, whatever
 * ANALYZE has found. Push notification configs go with their task, by their foreign key.
 */
const remove = (locked: string): string => `
    ${locked}, gone as (
      delete from tasks where workspace_id = $1 and task_id = any(array(select task_id from locked)) returning task_id
    ), log as (
      delete from task_updates where workspace_id = $1 and task_id = any(array(select task_id from gone))
    ), keys as (
      delete from idempotency_keys where workspace_id = $1 and task_id = any(array(select task_id from gone))
    ), decided as (
      delete from approvals where workspace_id = $1 and task_id = any(array(select task_id from gone))
    )`;

const REMOVE: Statement = {
  name: "task-remove-v3",
  text: `${remove(`
    with locked as (
      select task_id from tasks where workspace_id = $1 and task_id = $2 and state in (${ENDED}) for update
    )`)} select task_id from gone`,
};

// Ids begin with the time at which they were made, so the key itself leads to what is old: no index is kept for this. A task
// that another removal has is left to it.
const REMOVE_ENDED: Statement = {
  name: "task-remove-ended-v3",
  text: `${remove(`
    with page as materialized (
      select task_id, state, status_at from tasks where workspace_id = $1 and task_id > $2 and task_id < $3
      order by task_id limit $4
    ), locked as (
      select t.task_id from page p cross join lateral (
        select task_id from tasks
        where workspace_id = $1 and task_id = p.task_id and p.state in (${ENDED}) and p.status_at <= $5::timestamptz
        for update skip locked
      ) t
    )`)} select array(select task_id from gone) as removed, (select max(task_id) from page) as last`,
};

export interface RemovedPage {
  /** The ids of what was removed. */
  removed: string[];
  /** Where the next page begins: after this id. Undefined: there is no more. */
  last: string | undefined;
}

export interface TaskRemoval {
  /** Removes one task. False when there is none, or it has not ended. */
  remove(workspaceId: string, taskId: string): Promise<boolean>;
  /**
   * Looks at `limit` tasks that were accepted before a time, by their ids, those after `after`, and removes those of them that
   * had ended by then. A clock that another server has only makes a task wait for the next time.
   */
  removeEnded(workspaceId: string, page: { before: Date; after: string; limit: number }): Promise<RemovedPage>;
}

export function createTaskRemoval(db: Database): TaskRemoval {
  return {
    remove: async (workspaceId, taskId) => (await db.query(REMOVE, [workspaceId, taskId])).length === 1,
    async removeEnded(workspaceId, { before, after, limit }) {
      const end = uuidV7(before.getTime() + 1, new Uint8Array(16));
      const [row] = await db.query(REMOVE_ENDED, [workspaceId, after, end, limit, before]);
      return { removed: row!.removed as string[], last: (row!.last as string | null) ?? undefined };
    },
  };
}
