/** What is held back of tasks until the policy has decided about it. It goes with the rest, or the end, of its task. */
import type { NewUpdate } from "../domain/task-log.ts";
import type { Database } from "./database.ts";
import { byteaArray, int2Array, int4Array, textArray } from "./pg-arrays.ts";
import { decodeUpdate, encodeBody, encodeCause, kindNumber } from "./task-codec.ts";
import { LEASED } from "./task-sql.ts";

/** Whose task it is, by the writer's knowledge. */
export interface Holder {
  workspaceId: string;
  taskId: string;
  fence: number;
  replicaId: string;
}

export interface HeldUpdates {
  /** What is held of a task, in order. */
  read(workspaceId: string, taskId: string): Promise<NewUpdate[]>;
  /**
   * Holds more, from number `from` on. Doing it again changes nothing. False when the task is another's, or rests: nothing was held.
   */
  hold(holder: Holder, from: number, updates: readonly NewUpdate[]): Promise<boolean>;
}

const READ = {
  name: "held-read-v1",
  text: `
    select n::bigint as seq, kind, body, cause, state from held_updates where workspace_id = $1 and task_id = $2 order by n`,
};

// The row of the task is held until this is committed: nobody takes the task over between the two.
const HOLD = {
  name: "held-add-v1",
  text: `
    with holder as (
      update tasks set has_held = true
      where workspace_id = $1 and task_id = $2 and fence = $3 and lease_owner = $4 and state in (${LEASED})
      returning workspace_id, task_id
    ), held as (
      insert into held_updates (workspace_id, task_id, n, kind, body, cause, state)
      select h.workspace_id, h.task_id, u.n, u.kind, u.body, u.cause, u.state
      from holder h cross join unnest($5::integer[], $6::smallint[], $7::bytea[], $8::text[], $9::smallint[])
        as u(n, kind, body, cause, state)
      on conflict do nothing
    )
    select 1 from holder`,
};

export function createHeldUpdates(db: Database): HeldUpdates {
  return {
    async read(workspaceId, taskId) {
      return (await db.query(READ, [workspaceId, taskId])).map((row) => {
        const { seq: _, ...update } = decodeUpdate(row);
        return update;
      });
    },
    async hold({ workspaceId, taskId, fence, replicaId }, from, updates) {
      const numbered = updates.map((update, i) => ({ update, n: from + i }));
      const done = await db.query(HOLD, [
        workspaceId,
        taskId,
        fence,
        replicaId,
        int4Array(numbered, ({ n }) => n),
        int2Array(numbered, ({ update }) => kindNumber(update.kind)),
        byteaArray(numbered, ({ update }) => encodeBody(update)),
        textArray(numbered, ({ update }) => encodeCause(update)),
        int2Array(numbered, ({ update }) => update.state),
      ]);
      return done.length === 1;
    },
  };
}
