import { type Kysely, sql } from "kysely";

/** What belongs to principals is found by them. */
export async function up(db: Kysely<unknown>): Promise<void> {
  // ListTasks of who sees only its own: by an index, or each page and each count would walk the tasks of everybody. An append that
  // changes a task's status writes into every index of its table anyway, because status_at is in one already: it costs one entry
  // more. Measured with batches of 100 on PostgreSQL, alternating with a database without it: submits the same, appends 0 to 15 % slower,
  // about a tenth. As the other indexes for lists it holds what lists ask for, so that no plan for one task takes it for the key.
  await sql`
    create index tasks_by_principal on tasks (workspace_id, principal_id, status_at desc, task_id desc) where disclosed`.execute(
    db,
  );

  // Exchanges of one correlation id, which clients choose, are as many as there are principals who began one.
  await sql`alter table exchange_messages drop constraint exchange_messages_workspace_id_correlation_id_fkey`.execute(
    db,
  );
  await sql`alter table exchange_quotes drop constraint exchange_quotes_workspace_id_correlation_id_fkey`.execute(db);
  for (const table of ["exchanges", "exchange_messages", "exchange_quotes"]) {
    await sql`alter table ${sql.id(table)} add column owner_id text collate "C" not null default 'anonymous'`.execute(
      db,
    );
    await sql`alter table ${sql.id(table)} alter column owner_id drop default`.execute(db);
  }
  await sql`
    alter table exchanges drop constraint exchanges_pkey,
      add primary key (workspace_id, correlation_id, owner_id)`.execute(db);
  await sql`
    alter table exchange_messages drop constraint exchange_messages_pkey,
      add primary key (workspace_id, correlation_id, owner_id, seq),
      add foreign key (workspace_id, correlation_id, owner_id) references exchanges on delete cascade`.execute(db);
  await sql`
    alter table exchange_quotes
      add foreign key (workspace_id, correlation_id, owner_id) references exchanges on delete cascade`.execute(db);
  await sql`drop index exchange_quotes_exchange`.execute(db);
  await sql`create index exchange_quotes_exchange on exchange_quotes (workspace_id, correlation_id, owner_id)`.execute(
    db,
  );
  await sql`drop index exchange_messages_time`.execute(db);
  await sql`
    create index exchange_messages_time on exchange_messages (workspace_id, created_at, correlation_id, owner_id, seq)`.execute(
    db,
  );
  await sql`
    create index exchange_messages_own on exchange_messages (workspace_id, owner_id, created_at, correlation_id, seq)`.execute(
    db,
  );
}
