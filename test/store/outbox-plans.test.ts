/**
 * How PostgreSQL runs the statements of the outbox and of the webhooks: by indexes, also when the tables are large and the
 * planner knows it, and when they were empty as a statement was prepared.
 */

import { create } from "@bufbuild/protobuf";
import { CompiledQuery, sql } from "kysely";
import { afterAll, beforeAll, expect, it } from "vitest";
import { TaskPushNotificationConfigSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import type { Database, Row, Statement } from "../../src/store/database.ts";
import { migrate } from "../../src/store/migrate.ts";
import { createOutboxRepository } from "../../src/store/outbox-repository.ts";
import { openPostgres } from "../../src/store/postgres.ts";
import { createPushConfigRepository } from "../../src/store/push-config-repository.ts";
import { createPushQueue } from "../../src/store/push-queue.ts";
import { createTaskEventReads } from "../../src/store/task-event-reads.ts";
import { createTaskRemoval } from "../../src/store/task-removal.ts";
import { whenReadable, writeRow, writeTask } from "../fixtures/log-rows.ts";
import { registerReplica } from "../fixtures/replica.ts";
import { createDatabase, silent } from "./backends.ts";

const PAGE = 1000;

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

/** What is asked, and with which values. */
type Asked = { statement: Statement; values: readonly unknown[]; did: string }[];

/** Does everything that there is to do, with a page of the log after `xid` and 20 tasks with webhooks. */
async function useAll(xid: string): Promise<Asked> {
  const asked: Asked = [];
  const query: Database["query"] = async (statement, values) => {
    asked.push({ statement, values, did: await explain(`(analyze, costs off, timing off) ${statement.text}`, values) });
    return db.query(statement, values);
  };
  const watched = { ...db, query };
  const [outbox, queue] = [createOutboxRepository(watched), createPushQueue(watched)];
  const replica = await registerReplica(db);
  const news = await Promise.all(
    Array.from({ length: 20 }, async () => {
      const taskId = await writeTask(db.kysely);
      const config = create(TaskPushNotificationConfigSchema, { taskId, id: "hook" });
      await createPushConfigRepository(db).put("default", config, { now: new Date(), most: 1, from: "now" });
      await writeRow(db.kysely, taskId, 2);
      return { workspaceId: "default", taskId, seq: 2 };
    }),
  );
  await whenReadable(db);
  await outbox.enter("duty");
  const { fence } = (await outbox.take("duty", replica))!;
  const position = { xid, workspaceId: "", taskId: "", seq: 0 };
  for (const topic of ["all", "webhooks"] as const) {
    await outbox.read(topic, position, { rows: PAGE, bytes: 1_000_000 });
  }
  await outbox.advance("duty", fence, position);
  await outbox.lag(["duty"]);
  await outbox.release("duty", fence);
  await queue.mark(news);
  const claims = await queue.claim(replica, 10, []);
  expect(claims).toHaveLength(10);
  await queue.next(claims[0]!);
  await Promise.all(claims.map((claim) => queue.settle({ ...claim, verdict: { pauseMs: 60_000 } })));
  await queue.untilDue(1);
  const [events, removal] = [createTaskEventReads(watched), createTaskRemoval(watched)];
  await events.read("default", { xid, taskId: "", seq: 0 }, {}, { rows: PAGE, bytes: 1_000_000 });
  await events.read("default", { xid, taskId: "", seq: 0 }, { agentId: "nobody" }, { rows: PAGE, bytes: 1_000_000 });
  await removal.remove("default", `grown-${news.length}`);
  await removal.removeEnded("default", { before: new Date(), after: "", limit: 100, viewer: undefined });
  return asked;
}

/** Explains in a transaction that is undone, because what is analyzed is also done. */
async function explain(text: string, values: readonly unknown[] = []): Promise<string> {
  const transaction = await db.kysely.startTransaction().execute();
  const { rows } = await transaction.executeQuery<Row>(CompiledQuery.raw(`explain ${text}`, [...values]));
  await transaction.rollback().execute();
  return rows.map((row) => row["QUERY PLAN"]).join("\n");
}

const READS_WHOLE = /Seq Scan on (tasks|task_updates|push_configs)\b/;

/** The plans that are kept for any values, of the statements that read a table whole by them. */
async function wrongForAny(asked: Asked): Promise<string[]> {
  const wrong: string[] = [];
  await sql`set plan_cache_mode = force_generic_plan`.execute(db.kysely);
  for (const { statement, values } of new Map(asked.map((each) => [each.statement.name, each])).values()) {
    const plan = await explain(`execute "${statement.name}" (${values.map(() => "null").join(", ")})`);
    if (READS_WHOLE.test(plan)) wrong.push(`${statement.name}\n${plan}`);
  }
  await sql`reset plan_cache_mode`.execute(db.kysely);
  return wrong;
}

/** The most rows that any step of a plan has touched. */
function mostRows(plan: string): number {
  const steps = [...plan.matchAll(/actual rows=(\d+)(?:\.\d+)? loops=(\d+)/g)];
  const removed = [...plan.matchAll(/Rows Removed by \w+(?: \w+)*: (\d+)/g)];
  return Math.max(
    ...steps.map(([, rows, loops]) => Number(rows) * Number(loops)),
    ...removed.map(([, n]) => Number(n)),
  );
}

it("keep no plan from when the tables were empty that would read them whole", async () => {
  const asked = (await useAll("1")).filter(({ values }) => values.length > 0);
  expect(asked.map(({ statement }) => statement.name)).toContain("outbox-read-webhooks-v1");
  await sql`truncate tasks, task_updates, push_configs`.execute(db.kysely);
  expect(await wrongForAny(asked)).toEqual([]);
});

it("touch what they must only, when the tables are large and analyzed", async () => {
  const { kysely } = db;
  await sql`
    insert into tasks (workspace_id, task_id, context_id, agent_id, state, a2a_state, status, status_at, last_seq,
                       disclosed, created_at)
    select 'default', 'grown-' || n, 'c', 'a', 3, 3, '', now(), 10, true, now() from generate_series(0, 19999) n
  `.execute(kysely);
  await sql`
    insert into push_configs (workspace_id, task_id, config_id, body, created_at)
    select workspace_id, task_id, 'hook', '', now() from tasks`.execute(kysely);
  // Of a few transactions, long ago.
  await sql`
    insert into task_updates (workspace_id, task_id, seq, kind, body, created_at, xid)
    select 'default', 'grown-' || n / 10, n % 10 + 1, 2, '\\x0a00', now(), (n / 500 + 3)::text::xid8
    from generate_series(0, 199999) n`.execute(kysely);
  await sql`analyze tasks, task_updates, push_configs`.execute(kysely);
  for (const xid of ["3", "200", "402"]) {
    const asked = await useAll(xid);
    for (const { statement, did } of asked) {
      expect(did, statement.name).not.toMatch(READS_WHOLE);
      // A lag is counted to ten thousand.
      expect(mostRows(did), `${statement.name}\n${did}`).toBeLessThan(/lag/.test(statement.name) ? 10_001 : 3 * PAGE);
    }
    expect(await wrongForAny(asked.filter(({ values }) => values.length > 0))).toEqual([]);
  }
});
