import { type Kysely, sql } from "kysely";

/** What agents say of tasks whose output is looked at before it leaves. No reader of the log knows of it. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table held_updates (
      workspace_id text collate "C" not null,
      task_id text collate "C" not null,
      n integer not null,
      kind smallint not null,
      body bytea not null,
      cause text,
      state smallint,
      primary key (workspace_id, task_id, n)
    )`.execute(db);
  await sql`alter table tasks add column has_held boolean not null default false`.execute(db);
  // At every rest and end all of it is released, or none: whatever brings the task there, nothing stays held. Nor does what an
  // agent said that begins anew, or has no part in the task any more: nobody has seen it.
  await sql`
    create function drop_held_updates() returns trigger language plpgsql as $$
    begin
      delete from held_updates where workspace_id = new.workspace_id and task_id = new.task_id;
      new.has_held := false;
      return new;
    end $$`.execute(db);
  await sql`
    create trigger tasks_held before update on tasks for each row when (
      old.has_held and ((new.state = any ('{3, 4, 5, 6, 7, 8}') and new.last_seq > old.last_seq)
                        or new.upstream_task_id is distinct from old.upstream_task_id and old.upstream_task_id is not null)
    ) execute function drop_held_updates()`.execute(db);
}
