import { type Kysely, sql } from "kysely";

/** What tells this database from others: its one row is made here, and stays. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table installation (
      only_one boolean primary key default true check (only_one),
      installation_id uuid not null default gen_random_uuid()
    )`.execute(db);
  await sql`insert into installation default values`.execute(db);
}
