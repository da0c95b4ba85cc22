import { type Kysely, sql } from "kysely";

/** The policy of each workspace: every version that it ever had. */
export async function up(db: Kysely<unknown>): Promise<void> {
  // Rows are added and never changed: the key is what lets one of two who want to be the next version be it. Documents compress
  // well and stand outside the row, so that finding the last version reads none.
  await sql`
    create table policy_versions (
      workspace_id text collate "C" not null references workspaces on delete cascade,
      version integer not null check (version > 0),
      document text not null,
      digest text not null,
      rule_count integer not null,
      budget_count integer not null,
      author text not null,
      comment text not null,
      created_at timestamptz(3) not null,
      primary key (workspace_id, version)
    )`.execute(db);
}
