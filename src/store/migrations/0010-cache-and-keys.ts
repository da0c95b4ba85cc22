import { type Kysely, sql } from "kysely";

/** Requests that are known again by their keys, and results that are given again. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table idempotency_keys (
      workspace_id text collate "C" not null,
      principal_id text collate "C" not null,
      key text collate "C" not null,
      digest bytea not null,
      task_id text collate "C" not null,
      after_seq bigint not null default 0,
      replica_id text collate "C" not null,
      created_at timestamptz(3) not null,
      expires_at timestamptz(3) not null,
      primary key (workspace_id, principal_id, key)
    )`.execute(db);
  await sql`create index idempotency_keys_by_expiry on idempotency_keys (expires_at)`.execute(db);
  await sql`create index idempotency_keys_by_task on idempotency_keys (workspace_id, task_id)`.execute(db);

  await sql`
    create table cached_results (
      workspace_id text collate "C" not null,
      key bytea not null,
      capability_id text collate "C" not null,
      task_id text collate "C" not null,
      ttl_ms bigint not null,
      created_at timestamptz(3) not null,
      expires_at timestamptz(3) not null,
      primary key (workspace_id, key)
    )`.execute(db);
  await sql`create index cached_results_by_expiry on cached_results (expires_at)`.execute(db);
  await sql`create index cached_results_by_age on cached_results (workspace_id, created_at)`.execute(db);
}
