import { type Kysely, sql } from "kysely";

/**
 * What is held of one attempt, or of one agent, is never another's: it is dropped with either, though the agent had not named the
 * task when its replica died.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`drop trigger tasks_held on tasks`.execute(db);
  await sql`
    create trigger tasks_held before update on tasks for each row when (
      old.has_held and ((new.state = any ('{3, 4, 5, 6, 7, 8}') and new.last_seq > old.last_seq)
                        or new.upstream_task_id is distinct from old.upstream_task_id and old.upstream_task_id is not null
                        or new.attempt > old.attempt or new.agent_id <> old.agent_id)
    ) execute function drop_held_updates()`.execute(db);
}
