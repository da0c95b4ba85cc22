import { type Kysely, sql } from "kysely";

/** Limits that hold across replicas: each has a slice of them; and tasks that wait for room at their agent. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    alter table agents
      add column max_concurrency integer check (max_concurrency > 0)`.execute(db);

  // A slice counts until it expires, which that of a replica that lives does not.
  await sql`
    create table allotments (
      workspace_id text collate "C" not null,
      limit_key text collate "C" not null,
      replica_id text collate "C" not null,
      granted bigint not null check (granted >= 0),
      wanted bigint not null check (wanted >= 0),
      expires_at timestamptz(3),
      primary key (workspace_id, limit_key, replica_id)
    )`.execute(db);

  // What waits for room at its agent is queued, and due to be claimed by anybody at its deadline only.
  await sql`
    create index tasks_at_agent on tasks (workspace_id, agent_id, priority, created_at)
    where state = 1 and lease_owner is null and wake_at = coalesce(deadline_at, timestamptz '9999-12-31 00:00:00Z')`.execute(
    db,
  );
}
