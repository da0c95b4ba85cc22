import { type Kysely, sql } from "kysely";

/**
 * The task engine: replicas and their leases, fencing tokens, the queue, the ten states and the guard of their
 * transitions, and the numbers by which all logs are read together.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  // A replica is one run of a server. Its tasks are its own as long as it lives, by the database's clock.
  await sql`
    create table replicas (
      replica_id text collate "C" primary key,
      host text not null,
      started_at timestamptz(3) not null default clock_timestamp(),
      expires_at timestamptz(3) not null,
      died_at timestamptz(3)
    )`.execute(db);
  // Whatever an earlier version left running: its owner is dead, so it will be taken up.
  await sql`
    insert into replicas (replica_id, host, expires_at, died_at)
    values ('before-0002', 'earlier version', clock_timestamp(), clock_timestamp())`.execute(db);

  await sql`
    alter table tasks
      drop constraint tasks_state_check,
      add constraint tasks_state_check check (state between 1 and 10),
      add column a2a_state smallint check (a2a_state between 1 and 8),
      add column priority smallint not null default 2 check (priority between 0 and 4),
      add column fence bigint not null default 1 check (fence > 0),
      add column attempt integer not null default 1 check (attempt >= 0),
      add column lease_owner text collate "C",
      add column wake_at timestamptz(3),
      add column deadline_at timestamptz(3),
      add column delivery bytea`.execute(db);
  await sql`update tasks set a2a_state = state`.execute(db);
  await sql`update tasks set state = 9 where state = 1`.execute(db);
  await sql`update tasks set lease_owner = 'before-0002' where state in (2, 8, 9)`.execute(db);
  await sql`
    alter table tasks
      alter column a2a_state set not null,
      add constraint tasks_seen check (a2a_state = state or (state in (1, 9, 10) and a2a_state in (1, 2))),
      add constraint tasks_leased check (case when lease_owner is null then state not in (2, 8, 9) else state in (2, 6, 8, 9) end)`.execute(
    db,
  );

  // A task is looked up by its key alone. The planner of a new database, which knows nothing of its tables yet, takes any
  // index that begins with the workspace for as good as the key, and keeps that plan: so the others hold what only lists ask for.
  await sql`drop index tasks_by_status_time`.execute(db);
  await sql`drop index tasks_by_context`.execute(db);
  await sql`
    create index tasks_by_status_time on tasks (workspace_id, status_at desc, task_id desc) where disclosed`.execute(
    db,
  );
  await sql`
    create index tasks_by_context on tasks (workspace_id, context_id, created_at)
    where disclosed or upstream_context_id is not null`.execute(db);
  // For the same reason it should not learn that they are tiny, because it would not hear soon enough that they no longer are.
  for (const table of ["tasks", "task_updates"])
    await sql`
      alter table ${sql.id(table)} set (autovacuum_analyze_threshold = 5000, autovacuum_vacuum_threshold = 5000,
                                        autovacuum_vacuum_insert_threshold = 5000)`.execute(db);

  // What waits, by workspace, priority and time, and by time alone; and what a replica has.
  await sql`drop index tasks_unfinished`.execute(db);
  await sql`
    create index tasks_waiting on tasks (workspace_id, priority, wake_at)
    where lease_owner is null and wake_at is not null`.execute(db);
  // Only who names the states can read it: others, who look for the waiting tasks of one workspace, must not.
  await sql`
    create index tasks_due on tasks (wake_at)
    where state in (1, 6, 10) and lease_owner is null and wake_at is not null`.execute(db);
  await sql`create index tasks_leased on tasks (lease_owner, created_at) where lease_owner is not null`.execute(db);

  await guardTransitions(db);

  // Who wrote a row, under which token, in which attempt, and what state it brought; and the transaction: rows of many
  // tasks are read in its order, below the oldest transaction that still runs.
  await sql`
    alter table task_updates
      drop constraint task_updates_kind_check,
      add constraint task_updates_kind_check check (kind between 1 and 6),
      add column state smallint check (state between 1 and 10),
      add column fence bigint not null default 0,
      add column attempt integer not null default 1,
      add column written_by text,
      add column xid xid8 not null default pg_current_xact_id()`.execute(db);
  await sql`create index task_updates_by_xid on task_updates (xid)`.execute(db);

  await sql`
    create table outbox_cursors (
      name text collate "C" primary key,
      xid xid8 not null,
      workspace_id text collate "C" not null default '',
      task_id text collate "C" not null default '',
      seq bigint not null default 0,
      fence bigint not null default 1,
      lease_owner text collate "C"
    )`.execute(db);

  await sql`alter table agents add column safe_to_repeat boolean not null default false`.execute(db);
}

/**
 * A copy of the transition table of src/domain/task-state.ts, as it was when this was written: for each state a number
 * whose bits are the states that may follow. A later change of the table is a later migration. The condition is evaluated
 * without a call; only what is refused costs one.
 */
const NEXT_STATES = [1714, 1534, 0, 0, 0, 508, 0, 1534, 2046, 1714];

async function guardTransitions(db: Kysely<unknown>): Promise<void> {
  await sql`
    create function refuse_task_change() returns trigger language plpgsql as $$
    begin
      raise exception 'task % may not go from state % (number %, fence %) to state % (number %, fence %)', old.task_id,
        old.state, old.last_seq, old.fence, new.state, new.last_seq, new.fence
        using errcode = 'check_violation', constraint = 'tasks_transition', table = 'tasks';
    end $$`.execute(db);
  await sql`
    create trigger tasks_transition before update on tasks for each row when (
      (new.state <> old.state and ((${sql.raw(`array[${NEXT_STATES.join(",")}]`)})[old.state] >> new.state) & 1 = 0)
      or (old.state in (3, 4, 5, 7) and new.last_seq <> old.last_seq)
      or new.last_seq < old.last_seq
      or new.fence < old.fence
      or (new.a2a_state = 1 and old.a2a_state <> 1)
    ) execute function refuse_task_change()`.execute(db);
}
