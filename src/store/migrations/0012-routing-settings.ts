import { type Kysely, sql } from "kysely";

/** How each workspace routes. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table routing_settings (
      workspace_id text collate "C" primary key references workspaces on delete cascade,
      body bytea not null,
      revision integer not null check (revision > 0),
      updated_at timestamptz(3) not null
    )`.execute(db);
}
