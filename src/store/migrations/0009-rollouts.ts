import { type Kysely, sql } from "kysely";

/** How traffic is steered: of each workspace as a whole, and of single capabilities. */
export async function up(db: Kysely<unknown>): Promise<void> {
  // The workspace's own has the empty capability. A revision is never used twice: rollouts are changed, and never deleted.
  await sql`
    create table rollouts (
      workspace_id text collate "C" not null references workspaces,
      capability_id text collate "C" not null,
      body bytea not null,
      revision integer not null,
      updated_at timestamptz(3) not null,
      primary key (workspace_id, capability_id)
    )`.execute(db);
}
