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
import { createAgentQueueRepository } from "../../src/store/agent-queue-repository.ts";
import { createAllotmentRepository } from "../../src/store/allotment-repository.ts";
import { appendBatch } from "../../src/store/append-batch.ts";
import type { Database, Statement } from "../../src/store/database.ts";
import { createLeaseRepository } from "../../src/store/lease-repository.ts";
import { migrate } from "../../src/store/migrate.ts";
import { openPostgres } from "../../src/store/postgres.ts";
import { readDecidedTasks, readDecision } from "../../src/store/route-reads.ts";
import { submitBatch } from "../../src/store/submit-batch.ts";
import { lastNumbers, loadBatch, readUpdates, type TaskKey } from "../../src/store/task-reads.ts";
import { registerReplica } from "../fixtures/replica.ts";
import { headerOf } from "../fixtures/task-header.ts";
import { createDatabase, silent } from "./backends.ts";
import { emptyTables, raw } from "./tables.ts";

const LARGEST_BATCH = 500;
const at = new Date("2026-01-01T00:00:00.123Z");

interface Plan {
  "Node Type": string;
  "Relation Name"?: string;
  "Index Name"?: string;
  "Index Cond"?: string;
  "Join Filter"?: string;
  Alias?: string;
  "Plan Rows": number;
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

/** Adds tasks in 1,000 workspaces, with a row of log each. Those in QUEUED are due. */
async function addTasks(prefix: string, count: number, state: EngineState, owner: string | null = null): Promise<void> {
  await raw(
    db,
    `with stored as (
       insert into tasks (workspace_id, task_id, context_id, agent_id, state, a2a_state, status, status_at, last_seq,
                          disclosed, created_at, lease_owner, wake_at, priority)
       select 'w' || n % 1000, $1 || n, 'c' || n, 'agent', $3::int, $3::int, '\\x0801', now(), 1, true, now(), $4::text,
              case when $3::int = 1 then now() - n * interval '1 ms' end, n % 5
       from generate_series(1, $2::int) as n
       returning workspace_id, task_id, state
     )
     insert into task_updates (workspace_id, task_id, seq, kind, body, state, created_at, fence)
     select workspace_id, task_id, 1, 1, '', state, now(), 1 from stored`,
    [prefix, count, state, owner],
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
      headers.map((header, i) => ({ header, updates, ...(i % 2 === 0 && { decision: new Uint8Array([i % 256]) }) })),
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
    await readDecision(engine, keys[0]!.workspaceId, keys[0]!.taskId);
    const hour = {
      fromMs: at.getTime(),
      beforeMs: at.getTime() + 3_600_000,
      capabilityId: undefined,
      after: undefined,
    };
    await readDecidedTasks(engine, keys[0]!.workspaceId, { ...hour, limit: size, viewer: undefined });
    await readUpdates(engine, keys[0]!, 0, 100);
    await leases.reap(1);
    await leases.rescue(living, size);
    await leases.claim(living, size, { running: new Map([["w1", 3]]), last: "w2" });
    await leases.waiting(size);
    await leases.held(living);
    const agentQueue = createAgentQueueRepository(engine);
    const room = {
      workspaceId: "w2",
      agentId: "agent",
      units: size,
      capabilities: new Map([
        ["one", 0],
        ["two", 1],
      ]),
    };
    await agentQueue.claim(living, [room, { ...room, workspaceId: "w3", capabilities: new Map() }]);
    await agentQueue.park(
      living,
      headers.map(({ workspaceId, taskId, fence, agentId }) => ({ workspaceId, taskId, fence, agentId })),
    );
    await agentQueue.crowded({ workspaceId: "", agentId: "" }, size, size);
    await createAllotmentRepository(engine).sweep(1);
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
    const found = faults(await explain(statement.text, values));
    if (found.length > 0)
      wrong.push({ statement: statement.name, sizes: values.map((v) => Array.isArray(v) && v.length), found });
  }
  return wrong;
}

/** What is wrong with the plans that it keeps for any values. */
async function wrongForAny(made: Asked): Promise<object[]> {
  const wrong: object[] = [];
  await raw(db, "set plan_cache_mode = force_generic_plan");
  for (const { statement, values } of new Map(made.map((each) => [each.statement.name, each])).values()) {
    const nulls = values.map(() => "null").join(", ");
    const found = faults(await explain(`execute "${statement.name}" ${nulls && `(${nulls})`}`));
    if (found.length > 0) wrong.push({ statement: statement.name, found });
  }
  await raw(db, "reset plan_cache_mode");
  return wrong;
}

/** What each index is for. To look for anything else in it means to read the tasks of a workspace, or all. */
const SOUGHT: Record<string, RegExp> = {
  tasks_pkey: /task_id/,
  tasks_waiting: /priority|workspace_id > /,
  tasks_leased: /lease_owner/,
  tasks_at_agent: /agent_id/,
  tasks_due: /^\(wake_at <= now\(\)\)$/,
  task_updates_pkey: /task_id/,
};

/** What is wrong with how a plan reads tasks and their logs. */
function faults({ Plans = [], ...plan }: Plan, joined = false): string[] {
  const type = plan["Node Type"];
  const relation = plan["Relation Name"] ?? "";
  const index = plan["Index Name"];
  const condition = plan["Index Cond"];
  const found: string[] = [];
  if (type.endsWith("Scan") && (relation === "tasks" || relation === "task_updates")) {
    if (index === undefined && type !== "Bitmap Heap Scan") found.push(`${relation} by ${type}`);
    if (joined) found.push(`${relation} by a join`);
  }
  if (index?.startsWith("task")) {
    // The first of all that wait is found at the index's beginning.
    const first = index === "tasks_waiting" && condition === undefined;
    if (!first && !SOUGHT[index]?.test(condition ?? "")) found.push(`${index} for ${condition}`);
    if (index === "tasks_due" && plan["Parent Relationship"] === "Inner") found.push("tasks_due for one task");
  }
  // The rows of a batch's logs, all of them for each of its tasks: that costs the square of the batch.
  const again = Plans.some((child) => child.Alias === "r" && child["Plan Rows"] > 1);
  if (again && type === "Nested Loop" && plan["Join Filter"]) found.push("a batch's rows again for each task");
  const joins = type === "Hash Join" || type === "Merge Join";
  for (const child of Plans) {
    const apart = /^(InitPlan|SubPlan)$/.test(child["Parent Relationship"] ?? "");
    found.push(...faults(child, !apart && (joined || joins)));
  }
  return found;
}

it("keeps no plan from when the tables were empty that would be slow when they are not", async () => {
  const made = await asked(await registerReplica(db));
  await emptyTables(db);
  expect(await wrongForAny(made)).toEqual([]);
});

describe("with 200,000 tasks, reads none but by its key or its turn", () => {
  let living: string;
  let dead: string;
  beforeAll(async () => {
    await emptyTables(db);
    [living, dead] = [await registerReplica(db), await registerReplica(db)];
    await createLeaseRepository(db).release(dead);
    await addTasks("ended-", 190_000, EngineState.COMPLETED);
  });

  async function expectGoodPlans(): Promise<void> {
    const made = await asked(living);
    expect(new Set(made.map(({ statement }) => statement.name)).size).toBeGreaterThan(8);
    expect(await wrongForValues(made)).toEqual([]);
    expect(await wrongForAny(made)).toEqual([]);
  }

  // As they stay on PGlite, where nobody does it.
  it("before they were analyzed", expectGoodPlans);

  it("when the planner knows of none that run or wait, and some do", async () => {
    await raw(db, "delete from tasks where state <> $1", [EngineState.COMPLETED]);
    await raw(db, "analyze");
    await addTasks("waiting-", 6_000, EngineState.QUEUED);
    await addTasks("running-", 2_000, EngineState.WORKING, living);
    await addTasks("left-", 2_000, EngineState.WORKING, dead);
    await expectGoodPlans();
  });

  it("when the planner knows them all", async () => {
    await raw(db, "analyze");
    await expectGoodPlans();
  });
});
