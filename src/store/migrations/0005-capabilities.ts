import { type Kysely, sql } from "kysely";

/** What was said of agents' capabilities beside their cards. */
export async function up(db: Kysely<unknown>): Promise<void> {
  // One sequence for all: a capability that was taken back and given anew never has the version that it had.
  await sql`create sequence capability_versions`.execute(db);
  await sql`
    create table capabilities (
      workspace_id text collate "C" not null,
      agent_id text collate "C" not null,
      capability_id text collate "C" not null,
      body bytea not null,
      version bigint not null default nextval('capability_versions'),
      created_at timestamptz(3) not null,
      updated_at timestamptz(3) not null,
      primary key (workspace_id, agent_id, capability_id),
      foreign key (workspace_id, agent_id) references agents on delete cascade
    )`.execute(db);
}
