import { type Kysely, sql } from "kysely";

/** Tasks that wait until somebody has approved them. */
export async function up(db: Kysely<unknown>): Promise<void> {
  // States are those of signalbox.v1.ApprovalState: 1 waits, 2 approved, 3 rejected, 4 expired, 5 withdrawn.
  await sql`
    create table approvals (
      workspace_id text collate "C" not null,
      approval_id text collate "C" not null,
      task_id text collate "C" not null,
      state smallint not null default 1 check (state between 1 and 5),
      agent_id text collate "C" not null,
      capability_id text collate "C",
      principal_id text collate "C" not null,
      rule text not null,
      description text not null,
      policy_version integer not null,
      approvers jsonb not null,
      self boolean not null,
      created_at timestamptz(3) not null,
      expires_at timestamptz(3) not null,
      decided_at timestamptz(3),
      decided_by text,
      comment text,
      primary key (workspace_id, approval_id),
      constraint approvals_decided check ((state = 1) = (decided_at is null))
    )`.execute(db);
  await sql`create index approvals_by_task on approvals (workspace_id, task_id)`.execute(db);
  await sql`create index approvals_pending on approvals (workspace_id, approval_id) where state = 1`.execute(db);

  // As in 0004, with the ways to the approval of a task that waits (1 to 6) and from there to its first attempt (6 to 1), which
  // is no way for what has been with its agent.
  await sql`drop trigger tasks_transition on tasks`.execute(db);
  await sql`
    create trigger tasks_transition before update on tasks for each row when (
      (new.state <> old.state and ((${sql.raw(`'{${NEXT_STATES.join(",")}}'::int[]`)})[old.state] >> new.state) & 1 = 0)
      or (old.state = 6 and new.state = 1 and old.attempt > 0)
      or (old.state = any ('{3, 4, 5, 7}') and new.last_seq <> old.last_seq)
      or new.last_seq < old.last_seq
      or new.fence < old.fence
      or (new.a2a_state = 1 and old.a2a_state <> 1)
    ) execute function refuse_task_change()`.execute(db);

  // Whatever ends a task that waits for its approval settles that in the same transaction; and no task goes on without it.
  // Only what nobody has brought to an agent, in attempt 0, waits so: other tasks do not come here.
  await sql`
    create function settle_approval() returns trigger language plpgsql as $$
    begin
      if new.state in (3, 4, 5, 7) then
        update approvals set state = case new.state when 7 then 4 else 5 end, decided_at = clock_timestamp()
        where workspace_id = new.workspace_id and task_id = new.task_id and state = 1;
      elsif exists (
        select from approvals where workspace_id = new.workspace_id and task_id = new.task_id and state = 1
      ) then
        raise exception 'task % may not go on before it is approved', new.task_id
          using errcode = 'check_violation', constraint = 'tasks_approved', table = 'tasks';
      end if;
      return null;
    end $$`.execute(db);
  await sql`
    create trigger tasks_approved after update on tasks for each row when (
      old.state = 6 and old.attempt = 0 and new.state <> 6
    ) execute function settle_approval()`.execute(db);
}

/** As in 0002: for each state a number whose bits are the states that may follow. */
const NEXT_STATES = [1778, 1534, 0, 0, 0, 510, 0, 1534, 2046, 1714];
