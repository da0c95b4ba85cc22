import { type Kysely, sql } from "kysely";

/** Budgets, whose windows replicas share in slices; and tasks that are sent on behalf of others. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    alter table tasks
      add column holds jsonb,
      add column parent_task_id text collate "C",
      add column parent_agent_id text collate "C",
      add column delegation_depth smallint`.execute(db);

  // What a replica may have reserved and used of a window. 0: it is its replica's; 1: that one is dead, and tasks have of it; 2:
  // nothing will change it any more.
  await sql`
    create table budget_slices (
      workspace_id text collate "C" not null,
      limit_key text collate "C" not null,
      replica_id text collate "C" not null,
      granted bigint not null check (granted >= 0),
      wanted bigint not null default 0 check (wanted >= 0),
      limit_units bigint not null check (limit_units >= 0),
      ends_at timestamptz(3) not null,
      state smallint not null default 0,
      primary key (workspace_id, limit_key, replica_id)
    )`.execute(db);
  await sql`create index budget_slices_open on budget_slices (replica_id) where state < 2`.execute(db);
  await sql`create index budget_slices_wanted on budget_slices (workspace_id, limit_key) where wanted > 0`.execute(db);
  await sql`create index budget_slices_by_end on budget_slices (ends_at)`.execute(db);

  // What tasks were given of a slice, in all, by the statements that store them. Once it is closed it cannot grow: a replica that is
  // dead, and does not know yet, stores nothing more.
  await sql`
    create table budget_reservations (
      workspace_id text collate "C" not null,
      limit_key text collate "C" not null,
      replica_id text collate "C" not null,
      units bigint not null check (units >= 0),
      closed_units bigint,
      primary key (workspace_id, limit_key, replica_id),
      constraint budget_reservations_closed check (closed_units is null or units <= closed_units)
    )`.execute(db);

  // What came of it, by the statements that end tasks: in rows of their own for each replica that writes, so that none waits for
  // another. \`extra\` was taken of the slice beyond what its tasks had reserved.
  await sql`
    create table budget_settlements (
      workspace_id text collate "C" not null,
      limit_key text collate "C" not null,
      replica_id text collate "C" not null,
      written_by text collate "C" not null,
      released bigint not null default 0 check (released >= 0),
      charged bigint not null default 0 check (charged >= 0),
      extra bigint not null default 0 check (extra >= 0),
      overrun bigint not null default 0 check (overrun >= 0),
      is_closed boolean not null default false,
      primary key (workspace_id, limit_key, replica_id, written_by)
    )`.execute(db);
}
