import { type Kysely, sql } from "kysely";

/** What is claimed for all workspaces asks which of them are suspended, and seldom is any. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create index workspaces_suspended on workspaces (workspace_id) where suspended_at is not null`.execute(db);
}
