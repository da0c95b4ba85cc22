/** How the agent of a task was chosen: seldom asked for, and so not read with the task. */
import type { Database } from "./database.ts";

const DECISION = {
  name: "task-decision-v1",
  text: "select route_decision from tasks where workspace_id = $1 and task_id = $2",
};

/** The decision that was stored with a task; undefined when there is none, or no such task. */
export async function readDecision(db: Database, workspaceId: string, taskId: string): Promise<Uint8Array | undefined> {
  const [row] = await db.query(DECISION, [workspaceId, taskId]);
  return (row?.route_decision as Uint8Array | null | undefined) ?? undefined;
}
