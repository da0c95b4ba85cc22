import { type Kysely, sql } from "kysely";

/** A task that goes to another agent remembers who had it before, and what it was given to. */
export async function up(db: Kysely<unknown>): Promise<void> {
  // Both stay null until then. A task that was given to an agent by its name has no capability to remember.
  await sql`
    alter table tasks
      add column earlier_agent_ids text[] collate "C",
      add column given_capability_id text collate "C"`.execute(db);
}
