/** What works across workspaces, and nothing else: recovery after a restart. */
import { TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import type { Database } from "./database.ts";
import type { TaskKey } from "./task-reads.ts";

export interface SystemRepository {
  /** Tasks that have not ended and do not wait for their client, by workspace and id, after `after`. */
  unfinishedTasks(after: TaskKey | undefined, limit: number): Promise<TaskKey[]>;
}

const UNFINISHED = {
  name: "system-unfinished-v1",
  text: `
    select workspace_id, task_id from tasks
    where state in (1, 2, 6, 8) and state <> ${TaskState.INPUT_REQUIRED} and (workspace_id, task_id) > ($1, $2)
    order by workspace_id, task_id limit $3`,
};

export function createSystemRepository(db: Database): SystemRepository {
  return {
    async unfinishedTasks(after, limit) {
      const rows = await db.query(UNFINISHED, [after?.workspaceId ?? "", after?.taskId ?? "", limit]);
      return rows.map((row) => ({ workspaceId: row.workspace_id as string, taskId: row.task_id as string }));
    },
  };
}
