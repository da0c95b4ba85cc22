import { type Kysely, sql } from "kysely";

/** Counters of limits that replicas share: calls and tasks a second, open streams, and what workspaces have stored. */
export async function up(db: Kysely<unknown>): Promise<void> {
  // What was drawn of a second's points. A crash of the database may forget it. Rows change often, each in its page.
  await sql`
    create unlogged table rate_windows (
      rate_key text collate "C" primary key,
      points bigint not null check (points >= 0),
      ends_at timestamptz not null
    ) with (fillfactor = 50)`.execute(db);

  // Streams that a replica has open, as it said last.
  await sql`
    create unlogged table open_streams (
      workspace_id text collate "C" not null,
      replica_id text collate "C" not null,
      streams integer not null check (streams >= 0),
      primary key (workspace_id, replica_id)
    )`.execute(db);

  // Of workspaces with quotas that need counting. A pass goes through one table after the other, a page at a time: \`pass_table\` is
  // where it is, \`pass_after\` the key of the last row that was counted, \`pass_bytes\` what was found so far.
  await sql`
    create table workspace_usage (
      workspace_id text collate "C" primary key references workspaces on delete cascade,
      stored_bytes bigint,
      stored_bytes_at timestamptz(3),
      due_at timestamptz(3) not null default '-infinity',
      pass_table smallint not null default 0,
      pass_after text[] collate "C",
      pass_bytes bigint not null default 0,
      uncounted_tasks bigint,
      uncounted_revision integer
    )`.execute(db);
  await sql`create index workspace_usage_due on workspace_usage (due_at)`.execute(db);
}
