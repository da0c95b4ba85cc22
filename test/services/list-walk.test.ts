/**
 * Walks of lists by pages while tasks are added and change. `SIGNALBOX_WALK_TASKS=1000000 npx vitest run
 * test/services/list-walk.test.ts` does it at that size, which takes about ten minutes.
 */
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { beforeAll, describe, expect, test } from "vitest";
import { ListTasksRequestSchema, MessageSchema, Role, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { loadConfig } from "../../src/config/load.ts";
import { messageUpdate, statusUpdate } from "../../src/domain/agent-report.ts";
import { EngineState } from "../../src/domain/task-state.ts";
import { type Engine, startEngine } from "../../src/engine.ts";
import type { RequestContext } from "../../src/services/request-context.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import type { Database } from "../../src/store/database.ts";
import { openPostgres } from "../../src/store/postgres.ts";
import { createTaskStore, type TaskStore } from "../../src/store/task-store.ts";
import { CROWD, FEW, storeManyTasks } from "../fixtures/many-tasks.ts";
import { registerReplica } from "../fixtures/replica.ts";
import { headerOf } from "../fixtures/task-header.ts";
import { createDatabase, silent } from "../store/backends.ts";
import { raw } from "../store/tables.ts";
import { by } from "./workspaces-lab.ts";

const COUNT = Number(process.env.SIGNALBOX_WALK_TASKS ?? 20_000);
const EXACT = 10_000;
/** For what takes longest: so many milliseconds a task, and at least as long as any test. */
const TIME_LIMIT_MS = 60_000 + COUNT;

let db: Database;
let engine: Engine;
let store: TaskStore;

beforeAll(async () => {
  const { url, drop } = await createDatabase();
  db = openPostgres({ url, poolSize: 3, log: silent });
  await storeManyTasks(db, { count: COUNT });
  await storeManyTasks(db, { workspaceId: "beside", count: 1_000 });
  await raw(db, "analyze tasks");
  const config = loadConfig({ flags: { "database.url": url }, env: {}, cwd: import.meta.dirname });
  engine = await startEngine({ config, log: silent, runtime: systemRuntime() });
  const replica = await registerReplica(db);
  store = createTaskStore(db, { maxWaiting: 100, replicaId: () => replica });
  return async () => {
    await store.close();
    await engine.stop(0);
    await db.close();
    await drop();
  };
}, TIME_LIMIT_MS);

const admin = by("default");
const crowd = by("default", { id: CROWD, roles: ["caller"] });

type Filter = Omit<NonNullable<Parameters<typeof create<typeof ListTasksRequestSchema>>[1]>, "$typeName">;

const listed = (context: RequestContext, filter: Filter = {}) =>
  engine.tasks.list(context, create(ListTasksRequestSchema, { pageSize: 100, historyLength: 0, ...filter }));

/** The ids of a list, page after page; `between` is done while each page is read. */
async function walk(context: RequestContext, filter: Filter, between: () => Promise<void>): Promise<string[]> {
  const ids: string[] = [];
  for (let pageToken = ""; ; ) {
    const [page] = await Promise.all([listed(context, { ...filter, pageToken }), between()]);
    ids.push(...page.tasks.map(({ id }) => id));
    if (page.nextPageToken === "") return ids;
    pageToken = page.nextPageToken;
  }
}

/** The ids of stored tasks that a condition holds of. */
const idsWhere = async (condition: string): Promise<string[]> =>
  (await raw(db, `select task_id from tasks where workspace_id = 'default' and ${condition}`)).map(
    ({ task_id }) => task_id as string,
  );

describe("a walk through a list, while tasks are added and change", () => {
  const added: string[] = [];
  const changed = new Set<string>();
  let waiting: string[];

  beforeAll(async () => {
    waiting = await idsWhere(`state = ${EngineState.INPUT_REQUIRED}`);
  });

  /** Adds a task that runs, and ends one that waited for its client, anywhere in the list. */
  async function goOn(): Promise<void> {
    const header = headerOf({ owner: CROWD, agentId: "agent-3", createdAt: new Date() });
    const hello = messageUpdate(create(MessageSchema, { messageId: "1", role: Role.USER }));
    added.push(header.taskId);
    await store.submit({ header, updates: [{ ...hello, state: EngineState.ASSIGNED }] });
    const [taskId] = waiting.splice((changed.size * 7919) % waiting.length, 1);
    if (taskId === undefined) return;
    changed.add(taskId);
    const at = new Date();
    const update = statusUpdate(
      { taskId, contextId: "c" },
      { state: TaskState.CANCELED, timestamp: timestampFromDate(at) },
    );
    const append = { workspaceId: "default", taskId, expectedSeq: 3, fence: 1, at, updates: [update] };
    expect(await store.append(append)).toBeDefined();
  }

  const walks: readonly [name: string, context: RequestContext, filter: Filter, condition: string][] = [
    ["of all", admin, {}, "true"],
    ["of one's own", crowd, {}, `principal_id = '${CROWD}'`],
    ["of one status", admin, { status: TaskState.FAILED }, `a2a_state = ${TaskState.FAILED}`],
    [
      "of one's own with one status",
      crowd,
      { status: TaskState.COMPLETED },
      `principal_id = '${CROWD}' and a2a_state = ${TaskState.COMPLETED}`,
    ],
  ];

  test.each(walks)(
    "%s misses none that stayed as it was, and has none twice",
    async (_, context, filter, condition) => {
      const before = await idsWhere(condition);
      const ids = await walk(context, filter, goOn);
      const seen = new Set(ids);
      expect(seen.size).toBe(ids.length);
      expect(before.filter((id) => !seen.has(id) && !changed.has(id))).toEqual([]);
      const known = new Set([...before, ...added, ...changed]);
      expect(ids.filter((id) => !known.has(id))).toEqual([]);
    },
    TIME_LIMIT_MS,
  );

  test("tells how many there are exactly up to 10,000, and about how many beyond", async () => {
    const conditions: readonly [RequestContext, Filter, string][] = [
      ...walks.map(([, context, filter, condition]): [RequestContext, Filter, string] => [context, filter, condition]),
      [admin, { contextId: FEW.context }, `context_id = '${FEW.context}'`],
      [admin, { status: TaskState.WORKING }, `a2a_state = ${TaskState.WORKING}`],
      [by("default", { id: FEW.principal, roles: ["caller"] }), {}, `principal_id = '${FEW.principal}'`],
      [by("default", { id: "nobody", roles: ["caller"] }), {}, "false"],
    ];
    for (const [context, filter, condition] of conditions) {
      const there = (await idsWhere(condition)).length;
      const { totalSize } = await listed(context, filter);
      if (there <= EXACT) expect(totalSize).toBe(there);
      else {
        expect(totalSize).toBeGreaterThan(EXACT);
        expect(Math.abs(totalSize / there - 1)).toBeLessThan(0.5);
      }
    }
    expect((await listed(by("beside"))).totalSize).toBe(1_000);
  });
});
