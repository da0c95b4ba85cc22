import { type Kysely, sql } from "kysely";

/** What belongs to principals is found by them. */
export async function up(db: Kysely<unknown>): Promise<void> {
  // ListTasks of who sees only its own: by an index, or each page and each count would walk the tasks of everybody. An append that
  // changes a task's status writes into every index of its table anyway, because status_at is in one already: it costs one entry
  // more. As the other indexes for lists it holds what lists ask for, so that no plan for one task takes it for the key.
  await sql`
    create index tasks_by_principal on tasks (workspace_id, principal_id, status_at desc, task_id desc) where disclosed`.execute(
    db,
  );
}
