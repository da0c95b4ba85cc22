/** The session in which a replica hears of the others, and what becomes of it. */
import { once } from "node:events";
import { rm } from "node:fs/promises";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { beforeEach, describe, expect, inject, onTestFinished, test } from "vitest";
import type { Database, NotificationListener, Notifications } from "../../src/store/database.ts";
import { openNotifications } from "../../src/store/notifications.ts";
import { openPglite } from "../../src/store/pglite.ts";
import { openPostgres } from "../../src/store/postgres.ts";
import { createInbox, type Inbox } from "../fault/inbox.ts";
import { startTcpProxy, type TcpProxy } from "../fault/tcp-proxy.ts";
import { startEmbeddedPostgres } from "../setup/embedded-postgres.ts";
import { administer, createDatabase, pgliteDirectory, silent } from "./backends.ts";

/** What a listener is told, one by one. */
function recorder(): NotificationListener & Inbox<string> {
  const heard = createInbox<string>();
  return Object.assign(heard, {
    onHint: (payload: string) => heard.put(`hint ${payload}`),
    onGap: (connected: boolean) => heard.put(connected ? "connected" : "lost"),
  });
}

const KILL = `
  select pg_terminate_backend(pid) from pg_stat_activity
  where datname = current_database() and application_name = 'signalbox-listener'`;

/** When the session was last asked whether it lives. */
const ASKED = {
  name: "asked",
  text: `
    select query_start as at from pg_stat_activity
    where datname = current_database() and application_name = 'signalbox-listener' and query = 'select 1'`,
};

test("on PGlite there is one process, and nobody to hear", async () => {
  const dataDir = await pgliteDirectory();
  onTestFinished(() => rm(dataDir, { recursive: true }));
  const db = await openPglite({ dataDir, log: silent });
  const heard = recorder();
  const notifications = db.listen(heard);
  expect(await heard.next()).toBe("connected");
  expect(notifications.connected).toBe(true);
  await notifications.notify("nobody hears this");
  await notifications.close();
  await db.close();
  expect(heard.waiting).toBe(0);
});

describe("on PostgreSQL", () => {
  let url: string;
  let db: Database;
  beforeEach(async () => {
    const database = await createDatabase();
    url = database.url;
    db = openPostgres({ url, poolSize: 2, log: silent });
    return async () => {
      await db.close();
      await database.drop();
    };
  });

  function open(target = db, heard = recorder()) {
    const notifications = target.listen(heard);
    onTestFinished(() => notifications.close());
    return { heard, notifications };
  }

  /** The same database behind a wire that can be cut. */
  async function behindProxy(): Promise<{ proxy: TcpProxy; session: { connectionString: string } }> {
    const target = new URL(url);
    const proxy = await startTcpProxy(Number(target.port));
    onTestFinished(() => proxy.close());
    target.port = String(proxy.port);
    return { proxy, session: { connectionString: target.href } };
  }

  test("what one replica tells, all hear in order, itself included", async () => {
    const one = open();
    const two = open();
    for (const { heard } of [one, two]) expect(await heard.next()).toBe("connected");
    for (const payload of ["first", "second", "", "a'b\\ ü𝄞"]) await one.notifications.notify(payload);
    for (const { heard } of [one, two]) {
      for (const payload of ["first", "second", "", "a'b\\ ü𝄞"]) expect(await heard.next()).toBe(`hint ${payload}`);
    }
  });

  test("takes payloads up to its limit, and says of longer ones that they are too long", async () => {
    const { heard, notifications } = open();
    expect(await heard.next()).toBe("connected");
    await notifications.notify("x".repeat(7_999));
    expect(await heard.next()).toBe(`hint ${"x".repeat(7_999)}`);
    await expect(notifications.notify("x".repeat(8_000))).rejects.toThrow("payload string too long");
  });

  test("a URL with options of its own works as it does for the pool", async () => {
    const target = new URL(url);
    target.searchParams.set("options", "-c statement_timeout=1234");
    const other = openPostgres({ url: target.href, poolSize: 1, log: silent });
    const { heard, notifications } = open(other);
    expect(await heard.next()).toBe("connected");
    await notifications.notify("options");
    expect(await heard.next()).toBe("hint options");
    await notifications.close();
    await other.close();
  });

  test("a session that is terminated is a gap, and another takes its place", async () => {
    const { heard, notifications } = open();
    expect(await heard.next()).toBe("connected");
    for (let round = 0; round < 3; round++) {
      await administer(url, KILL);
      expect(await heard.next()).toBe("lost");
      expect(notifications.connected).toBe(false);
      expect(await heard.next()).toBe("connected");
      expect(notifications.connected).toBe(true);
      await notifications.notify(`${round}`);
      expect(await heard.next()).toBe(`hint ${round}`);
    }
  });

  test("a wire that is cut, and stays cut for a while, is a gap", async () => {
    const { proxy, session } = await behindProxy();
    const heard = recorder();
    const notifications = openNotifications({ session, query: db.query, log: silent }, heard);
    onTestFinished(() => notifications.close());
    expect(await heard.next()).toBe("connected");
    proxy.sever();
    expect(await heard.next()).toBe("lost");
    await notifications.notify("nobody hears this");
    proxy.mend();
    expect(await heard.next()).toBe("connected");
    await notifications.notify("again");
    expect(await heard.next()).toBe("hint again");
  });

  test("a wire that is gone without a word is found by asking", async () => {
    const { proxy, session } = await behindProxy();
    const heard = recorder();
    const times = { silenceMs: 100, answerMs: 100 };
    const notifications = openNotifications({ session, query: db.query, log: silent, ...times }, heard);
    onTestFinished(() => notifications.close());
    expect(await heard.next()).toBe("connected");
    proxy.hush();
    expect(await heard.next()).toBe("lost");
    expect(await heard.next()).toBe("connected");
  });

  test("a session that is quiet and well is left alone", async () => {
    const heard = recorder();
    const session = { connectionString: url };
    const notifications = openNotifications({ session, query: db.query, log: silent, silenceMs: 1 }, heard);
    onTestFinished(() => notifications.close());
    expect(await heard.next()).toBe("connected");
    const asked = new Set<number>();
    while (asked.size < 5) for (const { at } of await db.query(ASKED, [])) asked.add((at as Date).getTime());
    expect(notifications.connected).toBe(true);
    await notifications.notify("still there");
    expect(await heard.next()).toBe("hint still there");
  });
});

test("a server that restarts is waited for", async () => {
  const server = await startEmbeddedPostgres();
  onTestFinished(() => server.remove());
  const db = openPostgres({ url: server.url, poolSize: 1, log: silent });
  onTestFinished(() => db.close());
  const heard = recorder();
  const notifications = db.listen(heard);
  onTestFinished(() => notifications.close());
  expect(await heard.next()).toBe("connected");
  await server.stop("kill");
  expect(await heard.next()).toBe("lost");
  await expect(notifications.notify("nobody")).rejects.toMatchObject({ reason: "DATABASE_UNAVAILABLE" });
  await server.start();
  expect(await heard.next()).toBe("connected");
});

describe("closing needs no answer", () => {
  const listenTo = (connectionString: string): Notifications => {
    const query: Database["query"] = () => Promise.reject(new Error("not asked here"));
    return openNotifications({ session: { connectionString }, query, log: silent }, recorder());
  };

  test("of a server that accepts and says nothing", async () => {
    const sockets: Socket[] = [];
    const mute = createServer((socket) => sockets.push(socket)).listen(0, "127.0.0.1");
    onTestFinished(() => void mute.close());
    await once(mute, "listening");
    const { port } = mute.address() as AddressInfo;
    const notifications = listenTo(`postgres://nobody@127.0.0.1:${port}/none`);
    await once(mute, "connection");
    await notifications.close();
    expect(notifications.connected).toBe(false);
  });

  test("of a server that is away", async () => {
    await listenTo("postgres://nobody@127.0.0.1:1/none").close();
  });

  test("of a server that is well", async () => {
    const db = openPostgres({ url: inject("postgresUrl"), poolSize: 1, log: silent });
    const heard = recorder();
    const notifications = db.listen(heard);
    expect(await heard.next()).toBe("connected");
    await notifications.close();
    expect(notifications.connected).toBe(false);
    await db.close();
  });
});
