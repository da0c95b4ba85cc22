import { type Kysely, sql } from "kysely";

/** Takes away what each write of a task cost for nothing. */
export async function up(db: Kysely<unknown>): Promise<void> {
  // A status that says nothing but its state and its time is not stored beside them. Those that are stored stay.
  await sql`alter table tasks alter column status drop not null`.execute(db);

  // The conditions of 0002 in fewer words, because PostgreSQL reads them anew in every statement. That a state is one of the
  // ten follows from what clients see of it.
  await sql`
    alter table tasks
      drop constraint tasks_state_check,
      drop constraint tasks_seen,
      drop constraint tasks_leased,
      add constraint tasks_seen check (a2a_state = state or (state = any ('{1, 9, 10}') and a2a_state = any ('{1, 2}'))),
      add constraint tasks_leased check ((state = any ('{2, 8, 9}')) = (lease_owner is not null) or state = 6)`.execute(
    db,
  );
  await sql`drop trigger tasks_transition on tasks`.execute(db);
  await sql`
    create trigger tasks_transition before update on tasks for each row when (
      (new.state <> old.state and ((${sql.raw(`'{${NEXT_STATES.join(",")}}'::int[]`)})[old.state] >> new.state) & 1 = 0)
      or (old.state = any ('{3, 4, 5, 7}') and new.last_seq <> old.last_seq)
      or new.last_seq < old.last_seq
      or new.fence < old.fence
      or (new.a2a_state = 1 and old.a2a_state <> 1)
    ) execute function refuse_task_change()`.execute(db);
}

/** As in 0002: for each state a number whose bits are the states that may follow. */
const NEXT_STATES = [1714, 1534, 0, 0, 0, 508, 0, 1534, 2046, 1714];
