/** A database that fails under way: what callers are told, and that it heals. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { rm } from "node:fs/promises";
import { type AddressInfo, createServer, type Socket } from "node:net";
import type { Worker } from "node:worker_threads";
import { sql } from "kysely";
import { afterEach, beforeEach, describe, expect, inject, onTestFinished, test } from "vitest";
import type { Database } from "../../src/store/database.ts";
import { isOutcomeUnknown, isUnavailable } from "../../src/store/database-errors.ts";
import { openPglite } from "../../src/store/pglite.ts";
import { openPostgres } from "../../src/store/postgres.ts";
import { startEmbeddedPostgres } from "../setup/embedded-postgres.ts";
import { administer, createDatabase, pgliteDirectory, silent } from "./backends.ts";
import { type LogLines, logLines } from "./log-lines.ts";

const one = { name: "one", text: "select 1 as one" };
const pid = { name: "pid", text: "select pg_backend_pid() as pid" };
const caught = (promise: Promise<unknown>) => promise.catch((error: unknown) => error);

describe("postgres", () => {
  let url: string;
  let drop: () => Promise<void>;
  let db: Database;
  let logged: LogLines;
  beforeEach(async () => {
    ({ url, drop } = await createDatabase());
    logged = logLines();
    db = openPostgres({ url, poolSize: 2, log: logged.log });
  });
  afterEach(async () => {
    await db.close();
    await drop();
  });

  test("a backend that dies in mid statement leaves the outcome unknown, and the next statement works", async () => {
    await sql`create table locked (n int)`.execute(db.kysely);
    const holder = openPostgres({ url, poolSize: 2, log: silent });
    await holder.kysely.transaction().execute(async (tx) => {
      await sql`lock table locked`.execute(tx);
      const waiting = caught(db.query({ name: "insert", text: "insert into locked values (1)" }, []));
      await killWaiting(holder);
      const error = await waiting;
      expect(isUnavailable(error)).toBe(true);
      expect(isOutcomeUnknown(error)).toBe(true);
    });
    await holder.close();
    await expect(db.query(one, [])).resolves.toEqual([{ one: 1 }]);
  });

  test("an idle connection that dies is only a line in the log", async () => {
    const [row] = await db.query(pid, []);
    await administer(url, `select pg_terminate_backend(${row?.pid})`);
    await logged.until("an idle database connection was lost");
    await expect(db.query(one, [])).resolves.toEqual([{ one: 1 }]);
  });

  test("a connection that dies between two statements of a transaction fails the transaction only", async () => {
    const error = await caught(
      db.kysely.transaction().execute(async (tx) => {
        const { rows } = await sql<{ pid: number }>`select pg_backend_pid() as pid`.execute(tx);
        await administer(url, `select pg_terminate_backend(${rows[0]?.pid})`);
        await logged.until("database connection lost");
        await sql`select 1`.execute(tx);
      }),
    );
    expect(isUnavailable(error)).toBe(true);
    await expect(db.query(one, [])).resolves.toEqual([{ one: 1 }]);
  });

  test("a server that is out of connections is unavailable, and nothing was done", async () => {
    await administer(inject("postgresUrl"), `alter database ${new URL(url).pathname.slice(1)} connection limit 0`);
    // The limit does not bind a superuser, so somebody else must come.
    await administer(url, "create role crowd login password 'crowd'");
    onTestFinished(() => administer(inject("postgresUrl"), "drop role if exists crowd"));
    const crowd = new URL(url);
    crowd.username = crowd.password = "crowd";
    const refused = openPostgres({ url: crowd.href, poolSize: 1, log: silent });
    const error = await caught(refused.query(one, []));
    await refused.close();
    expect(isUnavailable(error)).toBe(true);
    expect(isOutcomeUnknown(error)).toBe(false);
  });

  test("a server that accepts and says nothing does not answer the ping", async () => {
    const sockets: Socket[] = [];
    const mute = createServer((socket) => sockets.push(socket)).listen(0, "127.0.0.1");
    await once(mute, "listening");
    const { port } = mute.address() as AddressInfo;
    const unheard = openPostgres({ url: `postgres://nobody@127.0.0.1:${port}/none`, poolSize: 1, log: silent });
    expect(isUnavailable(await caught(unheard.ping()))).toBe(true);
    for (const socket of sockets) socket.destroy();
    mute.close();
    await unheard.close();
  });
});

test("postgres goes and comes back", async () => {
  const server = await startEmbeddedPostgres();
  onTestFinished(() => server.remove());
  const db = openPostgres({ url: server.url, poolSize: 3, log: silent });
  await sql`create table kept (n int)`.execute(db.kysely);
  const insert = { name: "keep", text: "insert into kept values ($1)" };

  for (const [round, how] of (["fast", "kill"] as const).entries()) {
    await db.query(insert, [round]);
    await server.stop(how);
    const error = await caught(db.query(insert, [-1]));
    expect(isUnavailable(error)).toBe(true);
    expect(isUnavailable(await caught(db.ping()))).toBe(true);
    expect(isUnavailable(await caught(sql`select 1`.execute(db.kysely)))).toBe(true);
    await server.start();
    await db.ping();
  }
  expect(await db.query({ name: "kept", text: "select n from kept order by n" }, [])).toEqual([{ n: 0 }, { n: 1 }]);
  await db.close();
});

test("pglite whose thread ends is unavailable to all, now and later, and says so once", async () => {
  const dataDir = await pgliteDirectory();
  onTestFinished(() => rm(dataDir, { recursive: true }));
  const logged = logLines();
  const started = once(process, "worker") as Promise<[Worker]>;
  const db = await openPglite({ dataDir, log: logged.log });
  const [worker] = await started;
  await db.query({ name: "make", text: "create table kept (n int)" }, []);

  const pending = [
    db.query({ name: "keep", text: "insert into kept select generate_series(1, 300000)" }, []),
    db.query(one, []),
    db.kysely.transaction().execute((tx) => sql`select 1`.execute(tx)),
  ].map(caught);
  await worker.terminate();
  for (const error of await Promise.all(pending)) expect(isUnavailable(error)).toBe(true);
  expect(isUnavailable(await caught(db.query(one, [])))).toBe(true);
  expect(isUnavailable(await caught(db.ping()))).toBe(true);
  expect(logged.lines.filter(({ msg }) => msg.includes("PGlite has died"))).toHaveLength(1);

  await db.close();
  const again = await openPglite({ dataDir, log: silent });
  await expect(again.query(one, [])).resolves.toEqual([{ one: 1 }]);
  await again.close();
});

test("pglite keeps what it acknowledged when its process is killed", async () => {
  const dataDir = await pgliteDirectory();
  onTestFinished(() => rm(dataDir, { recursive: true }));
  const writer = `
    const { openPglite } = await import("${new URL("../../src/store/pglite.ts", import.meta.url).href}");
    const db = await openPglite({ dataDir: "${dataDir}", log: console });
    await db.query({ name: "make", text: "create table kept (n int primary key)" }, []);
    for (let n = 1; ; n += 1) {
      await db.query({ name: "keep", text: "insert into kept values ($1)" }, [n]);
      console.log(n);
    }`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", writer], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let acknowledged = "";
  for await (const chunk of child.stdout) {
    acknowledged += chunk;
    if (acknowledged.length > 2000) child.kill("SIGKILL");
  }
  // The last line may be cut: what counts is the last that is whole.
  const last = Number(acknowledged.split("\n").at(-2));
  expect(last).toBeGreaterThan(100);

  const db = await openPglite({ dataDir, log: silent });
  const rows = await db.query({ name: "kept", text: "select n from kept order by n" }, []);
  await db.close();
  expect(rows.map((row) => row.n).slice(0, last)).toEqual(Array.from({ length: last }, (_, i) => i + 1));
});

/** Ends the backend that waits for a lock in this database, as soon as there is one. */
async function killWaiting(db: Database): Promise<void> {
  const kill = {
    name: "kill-waiting",
    text: `select pg_terminate_backend(pid) from pg_stat_activity
           where datname = current_database() and wait_event_type = 'Lock'`,
  };
  while ((await db.query(kill, [])).length === 0);
}
