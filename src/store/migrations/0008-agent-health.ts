import { type Kysely, sql } from "kysely";

/** How agents do: what checks and heartbeats say of each, and what replicas tell each other of them. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`alter table agents add column card_modified text`.execute(db);
  // Written at every check, and so apart from the agents: who reads those finds nothing changed.
  await sql`
    create table agent_health (
      workspace_id text collate "C" not null,
      agent_id text collate "C" not null,
      healthy boolean not null default true,
      reason text not null default '',
      failures integer not null default 0,
      checked_at timestamptz(3),
      succeeded_at timestamptz(3),
      next_check_at timestamptz not null default now(),
      heartbeat_ttl_ms integer,
      heartbeat_expires_at timestamptz(3),
      primary key (workspace_id, agent_id),
      foreign key (workspace_id, agent_id) references agents on delete cascade
    ) with (fillfactor = 70)`.execute(db);
  await sql`create index agent_health_due on agent_health (next_check_at)`.execute(db);
  // What every replica reads each second.
  await sql`
    create index agent_health_troubled on agent_health (workspace_id)
    where not healthy or heartbeat_expires_at is not null`.execute(db);
  await sql`insert into agent_health (workspace_id, agent_id) select workspace_id, agent_id from agents`.execute(db);
  // What is lost with a crash of the database is seen anew a minute later: it needs no log.
  await sql`
    create unlogged table agent_signals (
      workspace_id text collate "C" not null,
      agent_id text collate "C" not null,
      replica_id text collate "C" not null,
      in_flight integer not null,
      succeeded bigint not null,
      failed bigint not null,
      latency_ms float8 not null,
      weight float8 not null,
      failed_weight float8 not null,
      seen_ms_ago float8 not null,
      latencies bytea,
      latencies_ms_ago float8,
      open_ms_left float8,
      openings integer not null,
      updated_at timestamptz not null,
      primary key (workspace_id, agent_id, replica_id)
    ) with (fillfactor = 50)`.execute(db);
}
