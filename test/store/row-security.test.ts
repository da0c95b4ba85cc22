/** The second wall between workspaces: what is read for one shows nothing of another, whatever is asked for. */
import { sql } from "kysely";
import { pino } from "pino";
import { beforeAll, expect, onTestFinished, test } from "vitest";
import type { Database } from "../../src/store/database.ts";
import { openPostgres } from "../../src/store/postgres.ts";
import { raiseWall } from "../../src/store/row-security.ts";
import { createDatabase, describeEachBackend, silent } from "./backends.ts";
import { raw } from "./tables.ts";

const policy = (workspaceId: string) => [workspaceId, `policy of ${workspaceId}`];

async function fill(db: Database): Promise<void> {
  await raw(db, "insert into workspaces (workspace_id) values ('a'), ('b'), ('c') on conflict do nothing");
  for (const id of ["a", "b"])
    await raw(
      db,
      `insert into policy_versions (workspace_id, version, document, digest, rule_count, budget_count, author, comment, created_at)
       values ($1, 1, $2, 'x', 0, 0, 'x', '', now()) on conflict do nothing`,
      policy(id),
    );
  await raw(
    db,
    `insert into grants (provider_workspace_id, grant_id, consumer_workspace_id, agent_id, created_at, offered_by)
     values ('a', 'g', 'b', 'x', now(), 'x') on conflict do nothing`,
  );
}

const documents = (db: Database, workspaceId: string, where = "true") =>
  db.reading(workspaceId, async (reader) =>
    (await reader.query({ name: "", text: `select document from policy_versions where ${where} order by 1` }, [])).map(
      ({ document }) => document,
    ),
  );

describeEachBackend("row-level security", (ctx) => {
  beforeAll(async () => {
    await raiseWall(ctx.db, "required", silent);
    await fill(ctx.db);
  });

  test("is on every table that has a workspace", async () => {
    const tables = await raw(
      ctx.db,
      `select c.relname as name, c.relrowsecurity as is_on, has_table_privilege('signalbox_reader', c.oid, 'select') as reads,
              has_table_privilege('signalbox_reader', c.oid, 'insert, update, delete, truncate') as writes,
              (select count(*)::int from pg_policy p where p.polrelid = c.oid) as policies
       from pg_class c
       where c.relnamespace = current_schema()::regnamespace and c.relkind in ('r', 'p') and exists (
         select from pg_attribute a where a.attrelid = c.oid and a.attname like '%workspace_id'
       )`,
    );
    expect(tables.length).toBeGreaterThan(30);
    for (const { name, ...table } of tables)
      expect([name, table]).toEqual([name, { is_on: true, reads: true, writes: false, policies: 1 }]);
  });

  test("shows what is the workspace's own, and nothing else, whatever the condition says", async () => {
    const { db } = ctx;
    expect(await documents(db, "a")).toEqual(["policy of a"]);
    expect(await documents(db, "b")).toEqual(["policy of b"]);
    expect(await documents(db, "a", "workspace_id = 'b'")).toEqual([]);
    expect(await documents(db, "a", "workspace_id = 'b' or true")).toEqual(["policy of a"]);
    expect(await documents(db, "")).toEqual([]);
    const typed = await db.reading("a", ({ kysely }) =>
      kysely.selectFrom("policy_versions").select("document").where("workspace_id", "=", "b").execute(),
    );
    expect(typed).toEqual([]);
    // What neither says nor knows a workspace sees all that there is.
    expect(await raw(db, "select from policy_versions")).toHaveLength(2);
  });

  test("shows a grant to both of its sides, and to nobody else", async () => {
    const grants = (workspaceId: string) =>
      ctx.db.reading(workspaceId, ({ kysely }) => kysely.selectFrom("grants").select("grant_id").execute());
    expect(await Promise.all(["a", "b", "c"].map(grants))).toEqual([[{ grant_id: "g" }], [{ grant_id: "g" }], []]);
  });

  test("lets nothing be written, and is over with the reading, also with one that failed", async () => {
    const { db } = ctx;
    const write = db.reading("a", ({ kysely }) => sql`delete from policy_versions`.execute(kysely));
    await expect(write).rejects.toThrow(/permission denied/);
    await expect(
      db.reading("a", ({ kysely }) =>
        kysely
          .selectFrom("kysely_migration" as never)
          .selectAll()
          .execute(),
      ),
    ).rejects.toThrow(/permission denied/);
    expect(
      await raw(db, "select current_user = session_user as is_self, current_setting('signalbox.workspace', true) as w"),
    ).toMatchObject([{ is_self: true }]);
    expect(await raw(db, "delete from policy_versions where workspace_id = 'c'")).toEqual([]);
  });

  test("covers a table that comes later at the next start, and is off where that is wanted", async () => {
    const { db } = ctx;
    await raw(db, "create table later (workspace_id text not null)");
    await raw(db, "insert into later values ('a'), ('b')");
    await raiseWall(db, "auto", silent);
    const later = () => db.reading("a", ({ query }) => query({ name: "", text: "select * from later" }, []));
    expect(await later()).toEqual([{ workspace_id: "a" }]);
    await raiseWall(db, "off", silent);
    expect(await later()).toHaveLength(2);
    await raw(db, "drop table later");
    await raiseWall(db, "required", silent);
  });
});

test("where the database's user may not make roles, is gone without, or refused where it is required", async () => {
  const { url, drop } = await createDatabase();
  onTestFinished(drop);
  const admin = openPostgres({ url, poolSize: 1, log: silent });
  const name = `plain_${crypto.randomUUID().slice(0, 8)}`;
  await raw(admin, `create role ${name} login password 'x'`);
  await raw(admin, "create schema signalbox");
  await raw(admin, `alter schema signalbox owner to ${name}`);
  onTestFinished(async () => {
    await raw(admin, `drop owned by ${name}`);
    await raw(admin, `drop role ${name}`);
    await admin.close();
  });
  const theirs = new URL(url);
  theirs.username = name;
  theirs.password = "x";
  theirs.searchParams.set("options", "-c search_path=signalbox");
  const db = openPostgres({ url: theirs.href, poolSize: 1, log: silent });
  onTestFinished(() => db.close());
  await raw(db, "create table policy_versions (workspace_id text, document text)");
  await raw(db, "insert into policy_versions values ('b', 'policy of b')");
  // The role is there already, by another database of the server, and this user is none of its.
  await raw(admin, "do $$ begin create role signalbox_reader nologin; exception when others then null; end $$");
  const lines: string[] = [];
  const log = pino({ level: "warn" }, { write: (line) => void lines.push(line) });
  await raiseWall(db, "auto", log);
  expect(lines).toHaveLength(1);
  expect(lines[0]).toContain("without row-level security");
  expect(await documents(db, "a")).toEqual(["policy of b"]);
  await expect(raiseWall(db, "required", silent)).rejects.toMatchObject({ reason: "ROW_SECURITY_MISSING" });
  // Its owner has given it.
  await raw(admin, `grant signalbox_reader to ${name}`);
  await raiseWall(db, "required", silent);
  expect(await documents(db, "a")).toEqual([]);
  expect(await documents(db, "b")).toEqual(["policy of b"]);
});
