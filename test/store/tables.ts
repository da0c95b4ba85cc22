/** Looking at the tables of the engine, and changing them, past the statements that Signalbox has for it. */
import { expect } from "vitest";
import type { EngineState } from "../../src/domain/task-state.ts";
import type { Database, Row } from "../../src/store/database.ts";

/** Runs a text that has no name, and so is not kept. */
export const raw = (db: Database, text: string, values: readonly unknown[] = []): Promise<Row[]> =>
  db.query({ name: "", text }, values);

export const emptyTables = (db: Database): Promise<Row[]> => raw(db, "truncate replicas, tasks, task_updates cascade");

export interface TaskRow {
  workspaceId: string;
  taskId: string;
  state: EngineState;
  a2aState: number;
  seq: number;
  fence: number;
  attempt: number;
  owner: string | undefined;
  /** Whether a replica may claim it: now, later, or not at all. */
  waits: "due" | "later" | undefined;
}

/** The rows of all tasks, by their ids. */
export async function taskRows(db: Database): Promise<Map<string, TaskRow>> {
  const rows = await raw(db, "select *, wake_at <= clock_timestamp() as due from tasks");
  return new Map(
    rows.map((row) => [
      row.task_id as string,
      {
        workspaceId: row.workspace_id as string,
        taskId: row.task_id as string,
        state: row.state as EngineState,
        a2aState: row.a2a_state as number,
        seq: row.last_seq as number,
        fence: row.fence as number,
        attempt: row.attempt as number,
        owner: (row.lease_owner as string | null) ?? undefined,
        waits: row.lease_owner !== null || row.due === null ? undefined : row.due ? "due" : "later",
      },
    ]),
  );
}

/**
 * Checks what must be true of all logs: numbers from 1 to the task's last without gaps, a task's row that says what its log
 * says, tokens and attempts that only grow along a log, and one writer to a token.
 */
export async function expectWholeLogs(db: Database): Promise<void> {
  const wrong = await raw(
    db,
    `with log as (
       select workspace_id, task_id, count(*) as rows, min(seq) as first, max(seq) as last,
              (array_agg(state order by seq desc) filter (where state is not null))[1] as state,
              bool_or(shrinks) as shrinks
       from (select *, fence < lag(fence) over w or attempt < lag(attempt) over w as shrinks from task_updates
             window w as (partition by workspace_id, task_id order by seq)) u
       group by workspace_id, task_id
     )
     select t.task_id, t.last_seq, t.state as now, log.* from tasks t full join log using (workspace_id, task_id)
     where (rows, first, last, log.state, coalesce(shrinks, false))
       is distinct from (last_seq, 1::bigint, last_seq, t.state, false)`,
  );
  expect(wrong, "logs that are not whole").toEqual([]);
  const shared = await raw(
    db,
    `select task_id, fence, array_agg(distinct written_by) as writers from task_updates
     group by workspace_id, task_id, fence having count(distinct written_by) > 1`,
  );
  expect(shared, "tokens under which more than one replica wrote").toEqual([]);
}
