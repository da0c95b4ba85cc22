import { type Kysely, sql } from "kysely";

/** Each task remembers the capability that it was given to, and how its agent was chosen. */
export async function up(db: Kysely<unknown>): Promise<void> {
  // Both stay null for tasks that there are: they were given to agents, and nobody wrote down why.
  await sql`
    alter table tasks
      add column capability_id text collate "C",
      add column route_decision bytea`.execute(db);
}
