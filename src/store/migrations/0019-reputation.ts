import { type Kysely, sql } from "kysely";

/** How agents stand, by what became of their tasks. */
export async function up(db: Kysely<unknown>): Promise<void> {
  // The agent as a whole has the empty capability. No agent need be registered: one that leaves and comes back is who it was. The
  // transaction tells replicas what has changed since they looked.
  await sql`
    create table reputations (
      workspace_id text collate "C" not null,
      agent_id text collate "C" not null,
      capability_id text collate "C" not null,
      trust float8 not null check (trust between 0 and 1),
      weight float8 not null,
      good_weight float8 not null,
      succeeded bigint not null,
      failed bigint not null,
      at timestamptz(3) not null,
      set_at timestamptz(3),
      windows bytea not null,
      xid xid8 not null default pg_current_xact_id(),
      primary key (workspace_id, agent_id, capability_id)
    ) with (fillfactor = 70)`.execute(db);
  await sql`create index reputations_by_xid on reputations (workspace_id, xid)`.execute(db);
  // What judges have reported is taken in once: their reports are known by these for a while.
  await sql`
    create table reputation_reports (
      workspace_id text collate "C" not null,
      report_id text collate "C" not null,
      created_at timestamptz(3) not null,
      primary key (workspace_id, report_id)
    )`.execute(db);
  await sql`create index reputation_reports_by_age on reputation_reports (created_at)`.execute(db);
}
