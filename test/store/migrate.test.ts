import { sql } from "kysely";
import type { Migration } from "kysely/migration";
import { expect, onTestFinished, test } from "vitest";
import { migrate } from "../../src/store/migrate.ts";
import { migrations } from "../../src/store/migrations/index.ts";
import { openPostgres } from "../../src/store/postgres.ts";
import { createDatabase, describeEachBackend, silent } from "./backends.ts";
import { logLines } from "./log-lines.ts";

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

test("twenty at once on an empty PostgreSQL", async () => {
  const { url, drop } = await createDatabase();
  const replicas = Array.from({ length: 20 }, () => openPostgres({ url, poolSize: 1, log: silent }));
  onTestFinished(async () => {
    await Promise.all(replicas.map((db) => db.close()));
    await drop();
  });
  const { log, lines } = logLines();
  await Promise.all(replicas.map((db) => migrate(db, log)));
  expect(lines.map((line) => line.migration)).toEqual(Object.keys(migrations));
});
