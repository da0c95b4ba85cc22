/** What must be true of the tables of tasks whatever has happened to the server. */
import { expect } from "vitest";
import { foldTask, stateOf, type TaskImage } from "../../src/domain/task-log.ts";
import { isTerminal } from "../../src/domain/task-state.ts";
import type { Database } from "../../src/store/database.ts";
import { createTaskStore } from "../../src/store/task-store.ts";

const GAPS = {
  name: "check-gaps",
  text: `
    select t.task_id, t.last_seq, u.rows, u.first, u.last
    from tasks t
    left join (select workspace_id, task_id, count(*) as rows, min(seq) as first, max(seq) as last
               from task_updates group by 1, 2) u using (workspace_id, task_id)
    where (u.rows, u.first, u.last) is distinct from (t.last_seq, 1::bigint, t.last_seq)`,
};

const ORPHANS = {
  name: "check-orphans",
  text: `
    select distinct task_id from task_updates u
    where not exists (select from tasks t where t.workspace_id = u.workspace_id and t.task_id = u.task_id)`,
};

const TASKS = { name: "check-tasks", text: "select workspace_id, task_id, state from tasks order by created_at" };

/**
 * Checks that every log is whole: numbers from 1 without gaps, no row without its task, nothing after the end, and a
 * task's row that says what its log says. Returns the tasks, oldest first.
 */
export async function checkLogs(db: Database): Promise<TaskImage[]> {
  expect(await db.query(GAPS, []), "logs with gaps").toEqual([]);
  expect(await db.query(ORPHANS, []), "updates without a task").toEqual([]);
  const store = createTaskStore(db, { maxWaiting: 100_000, replicaId: () => "checker" });
  const rows = await db.query(TASKS, []);
  return Promise.all(
    rows.map(async ({ workspace_id, task_id, state }) => {
      const stored = await store.load(workspace_id as string, task_id as string);
      const image = foldTask(stored!.header, stored!.updates);
      expect(stateOf(image), `the state of ${task_id} beside its log`).toBe(state);
      const before = foldTask(stored!.header, stored!.updates.slice(0, -1));
      expect(isTerminal(stateOf(before)), `${task_id} goes on after its end`).toBe(false);
      return image;
    }),
  );
}
