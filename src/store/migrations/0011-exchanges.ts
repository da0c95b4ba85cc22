import { type Kysely, sql } from "kysely";

/** Exchanges: the messages that belong together, and the quotes that were given in them. */
export async function up(db: Kysely<unknown>): Promise<void> {
  // Its row gives the numbers of its messages, so that they have no gaps, and is what is swept.
  await sql`
    create table exchanges (
      workspace_id text collate "C" not null references workspaces,
      correlation_id text collate "C" not null,
      last_seq integer not null check (last_seq >= 1),
      created_at timestamptz(3) not null,
      last_at timestamptz(3) not null,
      primary key (workspace_id, correlation_id)
    )`.execute(db);
  await sql`create index exchanges_last on exchanges (last_at)`.execute(db);
  await sql`
    create table exchange_messages (
      workspace_id text collate "C" not null,
      correlation_id text collate "C" not null,
      seq integer not null,
      kind smallint not null,
      principal text not null,
      task_id text collate "C",
      body bytea not null,
      omitted_bytes integer not null default 0,
      created_at timestamptz(3) not null,
      primary key (workspace_id, correlation_id, seq),
      foreign key (workspace_id, correlation_id) references exchanges on delete cascade
    )`.execute(db);
  await sql`
    create index exchange_messages_time on exchange_messages (workspace_id, created_at, correlation_id, seq)`.execute(
    db,
  );
  await sql`
    create table exchange_quotes (
      workspace_id text collate "C" not null,
      quote_id text collate "C" not null,
      correlation_id text collate "C" not null,
      body bytea not null,
      primary key (workspace_id, quote_id),
      foreign key (workspace_id, correlation_id) references exchanges on delete cascade
    )`.execute(db);
  await sql`create index exchange_quotes_exchange on exchange_quotes (workspace_id, correlation_id)`.execute(db);
}
