/** Which task has the result of what was asked for before. The result itself is the log of that task. */
import type { EngineState } from "../domain/task-state.ts";
import type { Recording } from "./audit-trail.ts";
import type { Database, Row, Statement } from "./database.ts";

/** A task that is about to have a result. */
export interface ResultEntry {
  /** SHA-256 of what is asked for. */
  key: Uint8Array;
  capabilityId: string;
  taskId: string;
  /** How long the result is of use from the task's end on, in milliseconds. */
  ttlMs: number;
  createdAt: Date;
}

/** The task under a key, as it stands. */
export interface ResultTask {
  taskId: string;
  createdAt: Date;
  /** Undefined: it is not stored, or not yet. */
  task:
    | {
        agentId: string;
        state: EngineState;
        /** When it came to that state. */
        since: Date;
        /** Bytes of the bodies of its log. */
        bytes: number;
      }
    | undefined;
}

export interface ResultCacheRepository {
  /** Enters a task under a key. Returns the one that is there already; undefined when it is the caller's. */
  enter(workspaceId: string, entry: ResultEntry): Promise<ResultTask | undefined>;
  /** Puts a task in the place of one that is of no use. False when another was faster. */
  replace(workspaceId: string, taskId: string, entry: ResultEntry): Promise<boolean>;
  /** Takes an entry back of which no task came. */
  withdraw(workspaceId: string, entry: ResultEntry): Promise<void>;
  /** How a task stands that may have a result. */
  look(workspaceId: string, taskId: string): Promise<ResultTask["task"]>;
  /** How many entries there are, by capability. */
  count(workspaceId: string, capabilityId?: string): Promise<Map<string, number>>;
  /** Forgets entries, of one capability or all. Returns how many. */
  clear(workspaceId: string, capabilityId?: string, record?: Recording): Promise<number>;
}

const BYTES = `
  (select coalesce(sum(octet_length(u.body)), 0)::float8 from task_updates u
   where u.workspace_id = t.workspace_id and u.task_id = t.task_id)`;

// Where the insert met a row that is younger than the snapshot, neither part sees it: the caller asks again.
const ENTER: Statement = {
  name: "result-enter-v1",
  text: `
    with entered as (
      insert into cached_results (workspace_id, key, capability_id, task_id, ttl_ms, created_at, expires_at)
      values ($1, $2, $3, $4, $5, $6, $7) on conflict do nothing
      returning task_id, created_at
    )
    select true as mine, e.task_id, e.created_at, null as agent_id, null::smallint as state, null::timestamptz as status_at,
           null::float8 as bytes
    from entered e
    union all
    select false, r.task_id, r.created_at, t.agent_id, t.state, t.status_at, ${BYTES}
    from cached_results r left join tasks t on t.workspace_id = r.workspace_id and t.task_id = r.task_id
    where r.workspace_id = $1 and r.key = $2 and not exists (select from entered)`,
};

const REPLACE: Statement = {
  name: "result-replace-v1",
  text: `
    update cached_results set capability_id = $3, task_id = $4, ttl_ms = $5, created_at = $6, expires_at = $7
    where workspace_id = $1 and key = $2 and task_id = $8
    returning true`,
};

const WITHDRAW: Statement = {
  name: "result-withdraw-v1",
  text: "delete from cached_results where workspace_id = $1 and key = $2 and task_id = $3",
};

const LOOK: Statement = {
  name: "result-look-v1",
  text: `
    select t.agent_id, t.state, t.status_at, ${BYTES} as bytes from tasks t
    where t.workspace_id = $1 and t.task_id = $2`,
};

/** A row that appears between two statements is there for the third. */
const MOST_TRIES = 10;

export function createResultCacheRepository(db: Database): ResultCacheRepository {
  const values = (workspaceId: string, { key, capabilityId, taskId, ttlMs, createdAt }: ResultEntry) => {
    const expiresAt = new Date(createdAt.getTime() + ttlMs);
    return [workspaceId, key, capabilityId, taskId, ttlMs, createdAt, expiresAt];
  };
  return {
    async enter(workspaceId, entry) {
      for (let tries = 0; tries < MOST_TRIES; tries++) {
        const [row] = await db.query(ENTER, values(workspaceId, entry));
        if (!row) continue;
        if (row.mine === true) return undefined;
        return { taskId: row.task_id as string, createdAt: row.created_at as Date, task: taskOf(row) };
      }
      throw new Error("an entry of the result cache comes and goes faster than it can be read");
    },
    async replace(workspaceId, taskId, entry) {
      return (await db.query(REPLACE, [...values(workspaceId, entry), taskId])).length === 1;
    },
    async withdraw(workspaceId, { key, taskId }) {
      await db.query(WITHDRAW, [workspaceId, key, taskId]);
    },
    async look(workspaceId, taskId) {
      const [row] = await db.query(LOOK, [workspaceId, taskId]);
      return row && taskOf(row);
    },
    async count(workspaceId, capabilityId) {
      const rows = await db.kysely
        .selectFrom("cached_results")
        .select((eb) => ["capability_id" as const, eb.fn.countAll<number>().as("entries")])
        .where("workspace_id", "=", workspaceId)
        .$if(capabilityId !== undefined, (q) => q.where("capability_id", "=", capabilityId!))
        .groupBy("capability_id")
        .execute();
      return new Map(rows.map((row) => [row.capability_id, row.entries]));
    },
    clear: (workspaceId, capabilityId, record) =>
      db.kysely.transaction().execute(async (tx) => {
        const { numDeletedRows } = await tx
          .deleteFrom("cached_results")
          .where("workspace_id", "=", workspaceId)
          .$if(capabilityId !== undefined, (q) => q.where("capability_id", "=", capabilityId!))
          .executeTakeFirst();
        // That somebody emptied it is of interest though it was empty.
        await record?.(tx, { entries: Number(numDeletedRows) });
        return Number(numDeletedRows);
      }),
  };
}

function taskOf(row: Row): ResultTask["task"] {
  if (row.agent_id === null) return undefined;
  return {
    agentId: row.agent_id as string,
    state: row.state as EngineState,
    since: row.status_at as Date,
    bytes: row.bytes as number,
  };
}
