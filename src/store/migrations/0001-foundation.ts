import { type Kysely, sql } from "kysely";

/** Workspaces, agents, tasks with their update log, and push notification configs. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table workspaces (
      workspace_id text collate "C" primary key,
      default_agent_id text collate "C"
    )`.execute(db);
  await sql`insert into workspaces (workspace_id) values ('default')`.execute(db);

  await sql`
    create table agents (
      workspace_id text collate "C" not null references workspaces,
      agent_id text collate "C" not null,
      card bytea not null,
      card_url text,
      card_etag text,
      revision integer not null default 1,
      created_at timestamptz(3) not null,
      updated_at timestamptz(3) not null,
      card_fetched_at timestamptz(3) not null,
      primary key (workspace_id, agent_id)
    )`.execute(db);

  // No foreign keys on the hot path: the one statement that writes a task writes its log too.
  await sql`
    create table tasks (
      workspace_id text collate "C" not null,
      task_id text collate "C" not null,
      context_id text collate "C" not null,
      agent_id text collate "C" not null,
      state smallint not null check (state between 1 and 8),
      status bytea not null,
      status_at timestamptz(3) not null,
      last_seq bigint not null check (last_seq >= 0),
      disclosed boolean not null,
      has_push boolean not null default false,
      metadata bytea,
      upstream_task_id text collate "C",
      upstream_context_id text collate "C",
      created_at timestamptz(3) not null,
      primary key (workspace_id, task_id)
    )`.execute(db);
  // ListTasks: newest status first (A2A specification, section 3.1.4).
  await sql`create index tasks_by_status_time on tasks (workspace_id, status_at desc, task_id desc)`.execute(db);
  await sql`create index tasks_by_context on tasks (workspace_id, context_id, created_at)`.execute(db);
  await sql`
    create index tasks_by_upstream on tasks (workspace_id, agent_id, upstream_task_id)
    where upstream_task_id is not null`.execute(db);
  // Recovery after a restart: the tasks that have not ended (states 1, 2, 6 and 8).
  await sql`create index tasks_unfinished on tasks (workspace_id, task_id) where state in (1, 2, 6, 8)`.execute(db);

  await sql`
    create table task_updates (
      workspace_id text collate "C" not null,
      task_id text collate "C" not null,
      seq bigint not null check (seq > 0),
      kind smallint not null check (kind between 1 and 5),
      body bytea not null,
      cause text,
      created_at timestamptz(3) not null,
      primary key (workspace_id, task_id, seq)
    )`.execute(db);

  await sql`
    create table push_configs (
      workspace_id text collate "C" not null,
      task_id text collate "C" not null,
      config_id text collate "C" not null,
      body bytea not null,
      created_at timestamptz(3) not null,
      primary key (workspace_id, task_id, config_id),
      foreign key (workspace_id, task_id) references tasks on delete cascade
    )`.execute(db);
}
