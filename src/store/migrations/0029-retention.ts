import { type Kysely, sql } from "kysely";

/** What has ended is found by the time of its end, so that it can be removed when it was kept long enough. */
export async function up(db: Kysely<unknown>): Promise<void> {
  // Whether the contents of its artifacts were removed.
  await sql`alter table tasks add column is_emptied boolean not null default false`.execute(db);
  // An entry is written once, when a task ends, and once more when its artifacts are emptied: an append that changes no state of a
  // task's row does not touch it, and all columns that it looks at are in other indexes already. It begins with a flag, and not with
  // the workspace or the time: no statement that asks for one task, or for a list, takes it for its own.
  await sql`
    create index tasks_ended on tasks (is_emptied, status_at) where state in (3, 4, 5, 7)`.execute(db);

  // One replica at a time removes what was kept long enough. One row, by the database's clock.
  await sql`
    create table retention_turn (
      is_one boolean primary key default true check (is_one),
      replica_id text collate "C",
      ends_at timestamptz not null default '-infinity'
    )`.execute(db);
  await sql`insert into retention_turn default values`.execute(db);
}
