import { type Kysely, sql } from "kysely";

/**
 * How long keys were made to last: the time at which one ends says it no more once it was rotated. And an index to sweep those by that
 * have ended.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`alter table api_keys add column lasts_ms bigint check (lasts_ms > 0)`.execute(db);
  await sql`update api_keys set lasts_ms = greatest(1, extract(epoch from expires_at - created_at) * 1000)
    where expires_at is not null`.execute(db);
  await sql`create index api_keys_ended on api_keys ((coalesce(revoked_at, expires_at)))
    where coalesce(revoked_at, expires_at) is not null`.execute(db);
}
