import { type Kysely, sql } from "kysely";

/** Sweeps find what dead replicas have of budgets without reading what living ones have, or what is settled. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`drop index budget_slices_open`.execute(db);
  await sql`create index budget_slices_open on budget_slices (replica_id) where state = 0`.execute(db);
  await sql`
    create index budget_slices_closed on budget_slices (workspace_id, limit_key, replica_id) where state = 1`.execute(
    db,
  );
  await sql`
    create index budget_slices_done on budget_slices (replica_id) where state = 2 and replica_id <> ''`.execute(db);
}
