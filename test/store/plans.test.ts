/**
 * How PostgreSQL runs the statements of the engine: by indexes, also when the table is large and the planner knows it, and
 * when it was empty as the statement was prepared. A hash or merge join over all tasks would make each write cost what the
 * whole table costs.
 */
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { MessageSchema, Role, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { messageUpdate, statusUpdate } from "../../src/domain/agent-report.ts";
import { EngineState } from "../../src/domain/task-state.ts";
import type { Database, Statement } from "../../src/store/database.ts";
import { createLeaseRepository } from "../../src/store/lease-repository.ts";
import { migrate } from "../../src/store/migrate.ts";
import { openPostgres } from "../../src/store/postgres.ts";
import { lastNumbers, loadBatch, readUpdates, type TaskKey } from "../../src/store/task-reads.ts";
import { appendBatch, submitBatch } from "../../src/store/task-writes.ts";
import { registerReplica } from "../fixtures/replica.ts";
import { headerOf } from "../fixtures/task-header.ts";
import { createDatabase, silent } from "./backends.ts";
import { emptyTables, raw } from "./tables.ts";

const TASKS = 200_000;
const LARGEST_BATCH = 500;
const at = new Date("2026-01-01T00:00:00.123Z");

interface Plan {
  "Node Type": string;
  "Relation Name"?: string;
  "Index Name"?: string;
  "Index Cond"?: string;
  "Parent Relationship"?: string;
  Plans?: Plan[];
}

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

/** Most tasks have ended; some are a living replica's or a dead one's, and some wait, in 1,000 workspaces. */
async function grow(living: string, dead: string): Promise<void> {
  await raw(
    db,
    `insert into tasks (workspace_id, task_id, context_id, agent_id, state, a2a_state, status, status_at, last_seq,
                        disclosed, created_at, lease_owner, wake_at, priority)
     select 'w' || n % 1000, 'task-' || n, 'c' || n, 'agent', state, case state when 1 then 1 else state end,
            '\\x0801', now(), 1, true, now(), case when state = 2 then case when n % 2 = 0 then $2 else $3 end end,
            case when state = 1 then now() - n * interval '1 ms' end, n % 5
     from (select n, case when n % 50 = 0 then 1 when n % 50 < 3 then 2 else 3 end as state
           from generate_series(1, $1::int) as n) as made`,
    [TASKS, living, dead],
  );
  await raw(
    db,
    `insert into task_updates (workspace_id, task_id, seq, kind, body, state, created_at, fence)
     select workspace_id, task_id, 1, 1, '', 9, now(), 1 from tasks where task_id like 'task-%'`,
  );
}

/** Does everything that the engine does, in small batches and in the largest. */
async function useEngine(engine: Database, living: string): Promise<void> {
  const leases = createLeaseRepository(engine);
  for (const size of [1, LARGEST_BATCH]) {
    const headers = Array.from({ length: size }, () => headerOf({ workspaceId: "w1" }));
    const hello = messageUpdate(create(MessageSchema, { messageId: "1", role: Role.USER }));
    const updates = [{ ...hello, state: EngineState.ASSIGNED }];
    await submitBatch(
      engine,
      living,
      headers.map((header) => ({ header, updates })),
    );
    const appends = headers.map(({ workspaceId, taskId, contextId, fence }) => {
      const status = { state: TaskState.WORKING, timestamp: timestampFromDate(at) };
      const working = statusUpdate({ taskId, contextId }, status);
      return { workspaceId, taskId, fence, expectedSeq: 1, at, updates: [working] };
    });
    expect((await appendBatch(engine, living, appends)).every(Boolean)).toBe(true);
    const keys: TaskKey[] = headers.map(({ workspaceId, taskId }) => ({ workspaceId, taskId }));
    await loadBatch(engine, keys);
    await lastNumbers(engine, keys);
    await readUpdates(engine, keys[0]!, 0, 100);
    await leases.reap(1);
    await leases.rescue(living, size);
    await leases.claim(living, size, { running: new Map([["w1", 3]]), last: "w2" });
    await leases.waiting(size);
    await leases.held(living);
  }
}

/** What the engine asks, and with which values. */
type Asked = { statement: Statement; values: readonly unknown[] }[];

async function asked(living: string): Promise<Asked> {
  const made: Asked = [];
  const query: Database["query"] = (statement, values) => {
    made.push({ statement, values });
    return db.query(statement, values);
  };
  await useEngine({ ...db, query }, living);
  return made;
}

async function explain(text: string, values: readonly unknown[] = []): Promise<Plan> {
  const [row] = await raw(db, `explain (format json) ${text}`, values);
  return (row!["QUERY PLAN"] as [{ Plan: Plan }])[0].Plan;
}

/** What is wrong with the plans that PostgreSQL makes for the values. */
async function wrongForValues(made: Asked): Promise<object[]> {
  const wrong: object[] = [];
  for (const { statement, values } of made) {
    const reads = wholeReads(await explain(statement.text, values));
    if (reads.length > 0)
      wrong.push({ statement: statement.name, sizes: values.map((v) => Array.isArray(v) && v.length), reads });
  }
  return wrong;
}

/** What is wrong with the plans that it keeps for any values. */
async function wrongForAny(made: Asked): Promise<object[]> {
  const wrong: object[] = [];
  await raw(db, "set plan_cache_mode = force_generic_plan");
  for (const { statement, values } of new Map(made.map((each) => [each.statement.name, each])).values()) {
    const nulls = values.map(() => "null").join(", ");
    const reads = wholeReads(await explain(`execute "${statement.name}" ${nulls && `(${nulls})`}`));
    if (reads.length > 0) wrong.push({ statement: statement.name, reads });
  }
  await raw(db, "reset plan_cache_mode");
  return wrong;
}

/** What is read whole, or may be: tables, and indexes of which no part is named. */
function wholeReads({ Plans = [], ...plan }: Plan, joined = false): string[] {
  const type = plan["Node Type"];
  const relation = plan["Relation Name"] ?? "";
  const read: string[] = [];
  if (relation === "tasks" || relation === "task_updates") {
    if (type === "Seq Scan") read.push(`all of ${relation}`);
    if (type.endsWith("Scan") && joined) read.push(`${relation} by a join`);
    // Lists have those: to find one task by its key, they would read all of its workspace.
    if (/^tasks_by_/.test(plan["Index Name"] ?? "")) read.push(`${plan["Index Name"]}`);
    // The index of all that is due tells nothing about the tasks of one workspace.
    if (plan["Index Name"] === "tasks_due" && plan["Parent Relationship"] === "Inner")
      read.push("tasks_due for one task");
    // Those that hold a few tasks only, which a limit reads from their beginning.
    const small = /^tasks_(waiting|due|leased)$/.test(plan["Index Name"] ?? "");
    if (/^Index.* Scan$/.test(type) && plan["Index Cond"] === undefined && !small)
      read.push(`all of ${plan["Index Name"]}`);
  }
  const joins = type === "Hash Join" || type === "Merge Join";
  for (const child of Plans) {
    const apart = /^(InitPlan|SubPlan)$/.test(child["Parent Relationship"] ?? "");
    read.push(...wholeReads(child, !apart && (joined || joins)));
  }
  return read;
}

it("keeps no plan from when the tables were empty that would read them whole", async () => {
  const made = await asked(await registerReplica(db));
  await emptyTables(db);
  expect(await wrongForAny(made)).toEqual([]);
});

describe("with 200,000 tasks", () => {
  let living: string;
  let dead: string;
  beforeAll(async () => {
    await emptyTables(db);
    [living, dead] = [await registerReplica(db), await registerReplica(db)];
    await grow(living, dead);
    await createLeaseRepository(db).release(dead);
  });

  // As it stays on PGlite, where nobody does it.
  it("reads no table whole before they were analyzed", async () => {
    const made = await asked(living);
    expect(await wrongForValues(made)).toEqual([]);
    expect(await wrongForAny(made)).toEqual([]);
  });

  it("reads no table whole after that", async () => {
    await raw(db, "analyze tasks, task_updates, replicas");
    const made = await asked(living);
    expect(new Set(made.map(({ statement }) => statement.name)).size).toBeGreaterThan(8);
    expect(await wrongForValues(made)).toEqual([]);
    expect(await wrongForAny(made)).toEqual([]);
  });
});
