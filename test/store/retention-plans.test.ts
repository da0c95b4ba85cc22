/**
 * How PostgreSQL runs the statements of retention: by indexes, also when the tables are large and the planner knows it, and when they
 * were empty as a statement was prepared. Looking costs the same however many tasks are kept.
 */
import { CompiledQuery, sql } from "kysely";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { Database, Row } from "../../src/store/database.ts";
import { migrate } from "../../src/store/migrate.ts";
import { openPostgres } from "../../src/store/postgres.ts";
import { createTaskRetention } from "../../src/store/task-retention.ts";
import { chunk, enterDuty } from "../fixtures/retained-tasks.ts";
import { createDatabase, silent } from "./backends.ts";

const DAY = 86_400_000;
const TASKS = 20_000;
let db: Database;
let drop: () => Promise<void>;

beforeAll(async () => {
  const made = await createDatabase();
  drop = made.drop;
  // One session, so that what was prepared is there when it is explained.
  db = openPostgres({ url: made.url, poolSize: 1, log: silent });
  await migrate(db, silent);
});
afterAll(async () => {
  await db.close();
  await drop();
});

interface Asked {
  name: string;
  count: number;
  plan: string;
}

/** Does everything to the 50 tasks that ended first, and tells how. */
async function useAll(endedBy: Date): Promise<Asked[]> {
  const asked: Asked[] = [];
  const query: Database["query"] = async (statement, values) => {
    const plan = await explain(`(analyze, costs off, timing off) ${statement.text}`, values);
    asked.push({ name: statement.name, count: values.length, plan });
    return db.query(statement, values);
  };
  const retention = createTaskRetention({ ...db, query }, () => "r");
  await retention.takeTurn("r", 1000);
  await retention.oldest();
  const page = { endedBy, after: undefined, limit: 50 };
  const due = await retention.due({ ...page, onlyFull: false });
  await retention.due({ ...page, onlyFull: true, after: due.at(-1) });
  await retention.due({ ...page, endedBy: new Date(endedBy.getTime() - 900 * DAY), onlyFull: false });
  const ids = due.length > 0 ? due.map(({ taskId }) => taskId) : ["nothing"];
  const { rows } = await retention.artifacts("default", ids, undefined, 30);
  const body = chunk("t", "a", false);
  await retention.rewrite("default", rows.length > 0 ? rows : [{ taskId: "nothing", seq: 1, body }]);
  await retention.markEmptied("default", ids.slice(0, 25), ids.slice(0, 5));
  await retention.remove("default", ids);
  await retention.giveTurn("r");
  return asked;
}

async function explain(text: string, values: readonly unknown[] = []): Promise<string> {
  const transaction = await db.kysely.startTransaction().execute();
  const { rows } = await transaction.executeQuery<Row>(CompiledQuery.raw(`explain ${text}`, [...values]));
  await transaction.rollback().execute();
  return rows.map((row) => row["QUERY PLAN"]).join("\n");
}

const READS_WHOLE = /Seq Scan on (tasks|task_updates|push_configs)\b/;

function mostRows(plan: string): number {
  const steps = [...plan.matchAll(/actual rows=(\d+)(?:\.\d+)? loops=(\d+)/g)];
  const removed = [...plan.matchAll(/Rows Removed by \w+(?: \w+)*: (\d+)/g)];
  return Math.max(...steps.map(([, n, loops]) => Number(n) * Number(loops)), ...removed.map(([, n]) => Number(n)));
}

it("keep no plan from when the tables were empty that would read them whole", async () => {
  const asked = await useAll(new Date());
  await sql`set plan_cache_mode = force_generic_plan`.execute(db.kysely);
  const named = new Map(asked.filter(({ name, count }) => name !== "" && count > 0).map((each) => [each.name, each]));
  expect(named.size).toBe(6);
  for (const { name, count } of named.values()) {
    const nulls = Array.from({ length: count }, () => "null").join(", ");
    expect(await explain(`execute "${name}" (${nulls})`), name).not.toMatch(READS_WHOLE);
  }
  await sql`reset plan_cache_mode`.execute(db.kysely);
});

it("touch what they must only, when the tables are large and analyzed", async () => {
  const { kysely } = db;
  await enterDuty(db);
  await sql`
    insert into tasks (workspace_id, task_id, context_id, agent_id, state, a2a_state, status, status_at, last_seq, disclosed,
                       created_at, lease_owner)
    select 'default', 'grown-' || n, 'c', 'a', case when n % 10 = 0 then 2 else 3 end, case when n % 10 = 0 then 2 else 3 end, '',
           now() - n * interval '1 minute', 10, true, now() - interval '1 year', case when n % 10 = 0 then 'r' end
    from generate_series(0, ${TASKS - 1}::int) n`.execute(kysely);
  await sql`
    insert into push_configs (workspace_id, task_id, config_id, body, created_at)
    select workspace_id, task_id, 'hook', '', now() from tasks`.execute(kysely);
  await sql`
    insert into task_updates (workspace_id, task_id, seq, kind, body, created_at, xid)
    select 'default', 'grown-' || n / 10, n % 10 + 1, 2 + n % 2, '', now(), (n / 5000 + 3)::text::xid8
    from generate_series(0, ${TASKS * 10 - 1}::int) n`.execute(kysely);
  await sql`analyze tasks, task_updates, push_configs, outbox_cursors`.execute(kysely);
  for (const _ of [1, 2, 3]) {
    for (const { name, plan } of await useAll(new Date(Date.now() - DAY))) {
      expect(plan, name).not.toMatch(READS_WHOLE);
      expect(mostRows(plan), `${name}\n${plan}`).toBeLessThanOrEqual(600);
    }
    await sql`analyze tasks, task_updates`.execute(kysely);
  }
});
