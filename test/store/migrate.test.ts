import { toBinary } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { sql } from "kysely";
import type { Migration } from "kysely/migration";
import { expect, onTestFinished, test } from "vitest";
import { StreamResponseSchema, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { statusUpdate } from "../../src/domain/agent-report.ts";
import { foldTask, stateOf } from "../../src/domain/task-log.ts";
import { createLeaseRepository } from "../../src/store/lease-repository.ts";
import { migrate } from "../../src/store/migrate.ts";
import { migrations } from "../../src/store/migrations/index.ts";
import { openPostgres } from "../../src/store/postgres.ts";
import { createTaskStore } from "../../src/store/task-store.ts";
import { registerReplica } from "../fixtures/replica.ts";
import { headerOf } from "../fixtures/task-header.ts";
import { createDatabase, describeEachBackend, silent } from "./backends.ts";
import { logLines } from "./log-lines.ts";
import { raw } from "./tables.ts";

const adds = (table: string): Migration => ({
  up: async (db) => {
    await sql`create table ${sql.id(table)} (n int)`.execute(db);
  },
});

describeEachBackend("migrate", (ctx) => {
  const tables = async () => {
    const rows = await ctx.db.query(
      { name: "tables", text: "select tablename from pg_tables where schemaname = current_schema()" },
      [],
    );
    return rows.map((row) => row.tablename);
  };

  test("has made the tables, and a second time does nothing", async () => {
    expect(await tables()).toEqual(expect.arrayContaining(["tasks", "task_updates", "agents", "push_configs"]));
    const { log, lines } = logLines();
    await migrate(ctx.db, log);
    expect(lines).toEqual([]);
  });

  test("a migration that fails leaves nothing behind", async () => {
    const failing: Migration = {
      up: async (db) => {
        await sql`select 1 / 0`.execute(db);
      },
    };
    const later = { ...migrations, "9001-fine": adds("fine"), "9002-fails": failing };
    await expect(migrate(ctx.db, silent, later)).rejects.toMatchObject({ code: "22012" });
    expect(await tables()).not.toContain("fine");
    const { log, lines } = logLines();
    await migrate(ctx.db, log, { ...migrations, "9001-fine": adds("fine") });
    expect(lines).toMatchObject([{ migration: "9001-fine" }]);
    expect(await tables()).toContain("fine");
  });

  test("a database that is newer than the program is refused", async () => {
    await migrate(ctx.db, silent, { ...migrations, "9001-fine": adds("fine"), "9003-future": adds("future") });
    await expect(migrate(ctx.db, silent)).rejects.toMatchObject({
      reason: "DATABASE_NEWER",
      message: expect.stringContaining("9001-fine, 9003-future"),
    });
  });
});

describeEachBackend(
  "migrate from the foundation",
  (ctx) => {
    test("leaves every task where clients saw it, and those that ran to be rescued", async () => {
      const foundation = "0001-foundation";
      await migrate(ctx.db, silent, { [foundation]: migrations[foundation]! });
      const { SUBMITTED, WORKING, COMPLETED, INPUT_REQUIRED, AUTH_REQUIRED } = TaskState;
      const states = [SUBMITTED, WORKING, COMPLETED, INPUT_REQUIRED, AUTH_REQUIRED];
      for (const state of states) {
        const header = headerOf({ taskId: `task-${state}` });
        const status = { state, timestamp: timestampFromDate(header.createdAt) };
        await raw(
          ctx.db,
          `insert into tasks (workspace_id, task_id, context_id, agent_id, state, status, status_at, last_seq, disclosed, created_at)
           values ('default', $1, 'c', 'agent', $2, '', now(), 1, true, now())`,
          [header.taskId, state],
        );
        await raw(
          ctx.db,
          `insert into task_updates (workspace_id, task_id, seq, kind, body, created_at) values ('default', $1, 1, 2, $2, now())`,
          [header.taskId, toBinary(StreamResponseSchema, statusUpdate(header, status).body)],
        );
      }
      await migrate(ctx.db, silent);

      const replica = await registerReplica(ctx.db);
      const rescued = await createLeaseRepository(ctx.db).rescue(replica, 10);
      const ran = [SUBMITTED, WORKING, AUTH_REQUIRED].map((state) => `task-${state}`);
      expect(new Set(rescued.map(({ taskId }) => taskId))).toEqual(new Set(ran));
      const store = createTaskStore(ctx.db, { maxWaiting: 10, replicaId: () => replica });
      for (const state of states) {
        const { header, updates } = (await store.load("default", `task-${state}`))!;
        const image = foldTask(header, updates);
        expect(stateOf(image)).toBe(state);
        expect(header.leaseOwner).toBe(ran.includes(header.taskId) ? replica : undefined);
        const { workspaceId, taskId, fence } = header;
        const canceled = { state: TaskState.CANCELED, timestamp: timestampFromDate(header.createdAt) };
        const updated = [statusUpdate(header, canceled)];
        const append = { workspaceId, taskId, fence, expectedSeq: image.seq, updates: updated, at: header.createdAt };
        expect((await store.append(append)) !== undefined).toBe(state !== COMPLETED);
      }
      await store.close();
    });
  },
  { empty: true },
);

test("twenty at once on an empty PostgreSQL", async () => {
  const { url, drop } = await createDatabase({ empty: true });
  const replicas = Array.from({ length: 20 }, () => openPostgres({ url, poolSize: 1, log: silent }));
  onTestFinished(async () => {
    await Promise.all(replicas.map((db) => db.close()));
    await drop();
  });
  const { log, lines } = logLines();
  await Promise.all(replicas.map((db) => migrate(db, log)));
  expect(lines.map((line) => line.migration)).toEqual(Object.keys(migrations));
});
