/** How far many logs have come, in one statement. */
import { sql } from "kysely";
import { beforeAll, expect, test } from "vitest";
import type { Database } from "../../src/store/database.ts";
import { lastNumbers, type TaskKey } from "../../src/store/task-reads.ts";
import { type HintingReplica, startHintingReplica } from "../fixtures/hinting-replica.ts";
import { describeEachBackend } from "./backends.ts";

const keysOf = (...taskIds: string[]): TaskKey[] => taskIds.map((taskId) => ({ workspaceId: "default", taskId }));

describeEachBackend("the last numbers of logs", (context) => {
  let replica: HintingReplica;
  beforeAll(async () => {
    replica = await startHintingReplica(context.db);
    return () => replica.stop();
  });

  test("are those of the tasks that exist, in their workspace alone", async () => {
    const [one, two] = [await replica.begin(), await replica.begin()];
    await two.append(3);
    const numbers = await replica.store.lastNumbers([
      ...keysOf(two.taskId, "unknown", one.taskId),
      { workspaceId: "stranger", taskId: one.taskId },
    ]);
    expect(new Set(numbers)).toEqual(
      new Set([
        { workspaceId: "default", taskId: one.taskId, seq: 1 },
        { workspaceId: "default", taskId: two.taskId, seq: 4 },
      ]),
    );
    expect(await replica.store.lastNumbers([])).toEqual([]);
  });

  test("are read by key, however the tables have grown since their statistics were made", async () => {
    const { db } = context;
    await sql`
      insert into tasks (workspace_id, task_id, context_id, agent_id, state, a2a_state, status, status_at, last_seq,
                         disclosed, created_at)
      select 'default', 'grown-' || n, 'c', 'agent', 3, 3, '', now(), 1, true, now()
      from generate_series(1, 20000) as n`.execute(db.kysely);
    await sql`analyze tasks`.execute(db.kysely);
    const plans: string[] = [];
    const explaining: Database = {
      ...db,
      async query({ name, text }, values) {
        const rows = await db.query({ name: `explain-${name}`, text: `explain (costs off) ${text}` }, values);
        plans.push(rows.map((row) => row["QUERY PLAN"]).join("\n"));
        return db.query({ name, text }, values);
      },
    };
    const keys = keysOf(...Array.from({ length: 500 }, (_, n) => `grown-${n + 1}`));
    expect(await lastNumbers(explaining, keys)).toHaveLength(500);
    expect(plans).toEqual([expect.stringMatching(/Index Scan using tasks_pkey/)]);
    expect(plans).toEqual([expect.not.stringMatching(/Join|Seq Scan/)]);
  });
});
