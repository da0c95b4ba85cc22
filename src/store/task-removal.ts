/**
 * Removes tasks that have ended, with all that hangs on them: rows of their logs, push notification configs, the route
 * decision, the keys of the requests that they came of, what they waited for to be approved. States that end a task are final, so nobody writes to what is removed here.
 */

import { actingDetail, routerActor } from "../domain/audit/actor.ts";
import { canonicalJson } from "../domain/canonical-json.ts";
import { uuidV7 } from "../domain/identifiers.ts";
import type { Viewer } from "../domain/identity/visibility.ts";
import { chained, NOW, taskBody } from "./audit-sql.ts";
import { chainId } from "./audit-trail.ts";
import type { Database, Statement } from "./database.ts";
import { ACCESS, ENDED } from "./task-sql.ts";

/** Parameters of a statement by which it is recorded: who does it, in which chain, and for whom he acts. */
interface Audited {
  readonly actor: string;
  readonly chain: string;
  readonly detail: string;
}

/**
 * Removes the tasks of the statement `locked`. Keys are given as arrays, so that no plan reads a whole table, whatever
 * ANALYZE has found. Push notification configs go with their task, by their foreign key. Entries of the audit log stay, and one
 * is added: `audited` gives the parameters of who removes, of the chain, and of who acts for him.
 */
export const removing = (locked: string, audited: Audited | undefined): string => `
    ${locked}, gone as (
      delete from tasks where workspace_id = $1 and task_id = any(array(select task_id from locked)) returning task_id
    ), log as (
      delete from task_updates where workspace_id = $1 and task_id = any(array(select task_id from gone))
    ), held as (
      delete from held_updates where workspace_id = $1 and task_id = any(array(select task_id from gone))
    ), keys as (
      delete from idempotency_keys where workspace_id = $1 and task_id = any(array(select task_id from gone))
    ), decided as (
      delete from approvals where workspace_id = $1 and task_id = any(array(select task_id from gone))
    )${audited ? `, ${chained(audited.chain, entriesOf("gone", "task.remove", audited))}` : ""}`;

/** For `chained`: an entry for each task of a part of the statement, which has the ids of tasks of the workspace $1. */
export const entriesOf = (part: string, action: string, { actor, detail }: Audited): string => `
  select workspace_id, task_id, at, task_id as ord, ${taskBody({
    at: "at",
    workspace: "workspace_id",
    actor,
    action,
    task: "task_id",
    detailMember: `${detail}::text`,
  })} as entries from (select $1::text as workspace_id, task_id, ${NOW} as at from ${part} offset 0) g`;

const removeOne = (isAudited: boolean): Statement => ({
  name: isAudited ? "task-remove-v5" : "task-remove-v5-unaudited",
  text: `${removing(
    `
    with locked as (
      select task_id from tasks where workspace_id = $1 and task_id = $2 and state in (${ENDED}) for update
    )`,
    isAudited ? { actor: "$3", chain: "$4", detail: "$5" } : undefined,
  )} select task_id from gone${isAudited ? " cross join chained" : ""}`,
});

// Ids begin with the time at which they were made, so the key itself leads to what is old: no index is kept for this. A task
// that another removal has is left to it.
const removeEnded = (isAudited: boolean): Statement => ({
  name: isAudited ? "task-remove-ended-v5" : "task-remove-ended-v5-unaudited",
  text: `${removing(
    `
    with page as materialized (
      select task_id, state, status_at, ${ACCESS("t", "$6::text", "$7::text[]")} as access from tasks t where workspace_id = $1 and task_id > $2 and task_id < $3
      order by task_id limit $4
    ), locked as (
      select t.task_id from page p cross join lateral (
        select task_id from tasks
        where workspace_id = $1 and task_id = p.task_id and p.state in (${ENDED}) and p.status_at <= $5::timestamptz
          and p.access = 2
        for update skip locked
      ) t
    )`,
    isAudited ? { actor: "$8", chain: "$9", detail: "$10" } : undefined,
  )} select array(select task_id from gone) as removed, (select max(task_id) from page) as last${isAudited ? " from chained" : ""}`,
});

const REMOVE = { audited: removeOne(true), unaudited: removeOne(false) };
const REMOVE_ENDED = { audited: removeEnded(true), unaudited: removeEnded(false) };

/** A principal that removes tasks. */
export interface RemovedBy {
  readonly id: string;
  readonly actors?: readonly string[];
}

export interface RemovedPage {
  /** The ids of what was removed. */
  removed: string[];
  /** Where the next page begins: after this id. Undefined: there is no more. */
  last: string | undefined;
}

export interface TaskRemoval {
  /** Removes one task. False when there is none, or it has not ended. `by`: who does, for the audit log; left out, this replica. */
  remove(workspaceId: string, taskId: string, by?: RemovedBy): Promise<boolean>;
  /**
   * Looks at `limit` tasks that were accepted before a time, by their ids, those after `after`, and removes those of them that
   * had ended by then and that the viewer may change; undefined: all. A clock that another server has only makes a task wait for the next time.
   */
  removeEnded(
    workspaceId: string,
    page: { before: Date; after: string; limit: number; viewer: Viewer | undefined },
    by?: RemovedBy,
  ): Promise<RemovedPage>;
}

/** The values of `Audited`; none where nothing is recorded. */
export function authorshipOf(replicaId: string | undefined, by?: RemovedBy): string[] {
  if (replicaId === undefined) return [];
  const detail = actingDetail(by?.actors);
  const member = detail ? `,"detail":${canonicalJson(detail)}` : "";
  return [by?.id ?? routerActor(replicaId), chainId(replicaId, "x"), member];
}

/** `replicaId` tells under which id the audit log records what is removed; left out, it does not. */
export function createTaskRemoval(db: Database, replicaId?: () => string): TaskRemoval {
  const variant = replicaId ? "audited" : "unaudited";
  const authorship = (by?: RemovedBy) => authorshipOf(replicaId?.(), by);
  return {
    remove: async (workspaceId, taskId, by) =>
      (await db.query(REMOVE[variant], [workspaceId, taskId, ...authorship(by)])).length === 1,
    async removeEnded(workspaceId, { before, after, limit, viewer }, by) {
      const end = uuidV7(before.getTime() + 1, new Uint8Array(16));
      const values = [
        workspaceId,
        after,
        end,
        limit,
        before,
        viewer?.id ?? null,
        viewer?.roles ?? [],
        ...authorship(by),
      ];
      const [row] = await db.query(REMOVE_ENDED[variant], values);
      return { removed: row!.removed as string[], last: (row!.last as string | null) ?? undefined };
    },
  };
}
