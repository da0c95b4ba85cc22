/** What replicas on one PostgreSQL tell each other. */
import { create } from "@bufbuild/protobuf";
import { beforeEach, expect, onTestFinished, test } from "vitest";
import { MessageSchema, Role } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { messageUpdate } from "../../src/domain/agent-report.ts";
import { MAX_WAITING } from "../../src/services/background/hint-payload.ts";
import { type Runtime, systemRuntime } from "../../src/services/runtime.ts";
import { REMOVED } from "../../src/services/update-hub.ts";
import type { Database } from "../../src/store/database.ts";
import { migrate } from "../../src/store/migrate.ts";
import { openPostgres } from "../../src/store/postgres.ts";
import { createInbox, type Inbox } from "../fault/inbox.ts";
import { startTcpProxy, type TcpProxy } from "../fault/tcp-proxy.ts";
import { type HintingReplica, type HintingReplicaOptions, startHintingReplica } from "../fixtures/hinting-replica.ts";
import { administer, createDatabase, silent } from "../store/backends.ts";
import { logLines } from "../store/log-lines.ts";

let url: string;
beforeEach(async () => {
  const database = await createDatabase();
  url = database.url;
  const db = openPostgres({ url, poolSize: 1, log: silent });
  await migrate(db, silent);
  await db.close();
  return database.drop;
});

interface Started extends HintingReplica {
  db: Database;
}

/** A replica that listens already. */
async function start(options: HintingReplicaOptions & { at?: string } = {}): Promise<Started> {
  const db = openPostgres({ url: options.at ?? url, poolSize: 3, log: silent });
  const replica = await startHintingReplica(db, options);
  onTestFinished(() => replica.stop().then(() => db.close()));
  expect(await replica.heard.next()).toBe("connected");
  return Object.assign(replica, { db });
}

/** Two that know of each other. */
async function startTwo(): Promise<[Started, Started]> {
  const one = await start();
  const two = await start();
  // The answer to its hello.
  await two.hears(({ all }) => all === true);
  return [one, two];
}

function publish(replica: HintingReplica, taskId: string, seq: number): void {
  const update = { ...messageUpdate(create(MessageSchema, { messageId: "m", role: Role.USER })), seq };
  replica.hub.publish({ workspaceId: "default", taskId, agentId: "agent", updates: [update], hasPush: false });
}

/** The numbers that are hinted at one task. */
function listenTo(replica: HintingReplica, taskId: string): Inbox<number> {
  const hints = createInbox<number>();
  replica.hub.subscribe("default", taskId, {
    // Tasks that are only spoken of here look as if they were removed.
    onHint: (seq) => seq !== REMOVED && hints.put(seq),
  });
  return hints;
}

test("a commit wakes those who listen on another replica, and not those who know it", async () => {
  const [one, two] = await startTwo();
  const [here, there] = [listenTo(one, "a"), listenTo(two, "a")];
  publish(one, "a", 7);
  expect(await there.next()).toBe(7);
  publish(two, "a", 8);
  expect(await here.next()).toBe(8);
  // Its own hint came back to it as well, before the other's.
  expect([here.waiting, there.waiting]).toEqual([0, 0]);
});

test("a replica that is alone says hello, and no more until there is another", async () => {
  const one = await start();
  await one.hears(({ hello }) => hello === true);
  for (let n = 1; n <= 100; n++) publish(one, "a", n);
  one.hub.announceWork();
  expect(one.told).toMatchObject([{ hello: true, tasks: [] }]);

  const two = await start();
  expect(await one.hears(({ hello }) => hello === true)).toMatchObject({ from: two.told[0]?.from });
  await two.hears(({ all }) => all === true);
  publish(one, "a", 101);
  expect(await two.hears(({ tasks }) => tasks.length > 0)).toMatchObject({ tasks: [["default", "a", 101]] });
  // It learned of the other from the answer to its hello.
  publish(two, "a", 102);
  await one.hears(({ tasks }) => tasks[0]?.[2] === 102);
});

test("the heartbeat ends the telling when it has found nobody twice since somebody spoke", async () => {
  const [one, two] = await startTwo();
  await two.stop();
  // This may have been counted before the other came.
  one.hints.setPeers(0);
  publish(one, "a", 1);
  await one.hears(({ tasks }) => tasks.length > 0);
  one.hints.setPeers(0);
  const { length } = one.told;
  publish(one, "a", 2);
  one.hints.setPeers(1);
  publish(one, "b", 3);
  expect(await one.hears(({ tasks }) => tasks.length > 0)).toMatchObject({ tasks: [["default", "b", 3]] });
  expect(one.told).toHaveLength(length + 1);
});

test("ten thousand commits make few notifications, one at a time, and the last number of each task arrives", async () => {
  const [one, two] = await startTwo();
  const before = one.told.length;
  const names = Array.from({ length: 200 }, (_, n) => `task-${n}`);
  const there = names.map((name) => listenTo(two, name));
  for (let seq = 1; seq <= 50; seq++) {
    for (const name of names) publish(one, name, seq);
    // The database answers meanwhile.
    await one.db.ping();
  }
  for (const hints of there) {
    let last = 0;
    while (last < 50) {
      const seq = await hints.next();
      expect(seq).toBeGreaterThan(last);
      last = seq;
    }
  }
  expect(one.mostInFlight).toBe(1);
  expect(one.told.length - before).toBeLessThan(250);
});

test("news is told at whatever moment it comes while the last is being told", async () => {
  const runtime = systemRuntime();
  const rests = createInbox<() => void>();
  const wait: Runtime["wait"] = (ms, signal) =>
    ms === 5 ? new Promise((resolve) => rests.put(resolve)) : runtime.wait(ms, signal);
  const one = await start({ runtime: { ...runtime, wait } });
  // The rest after its hello, and the one after its answer to the other's.
  (await rests.next())();
  const two = await start();
  await two.hears(({ all }) => all === true);
  (await rests.next())();
  const hints = listenTo(two, "a");
  for (let steps = 0, seq = 1; steps < 20; steps++) {
    publish(one, "a", seq++);
    expect(await hints.next()).toBe(seq - 1);
    (await rests.next())();
    for (let step = 0; step < steps; step++) await Promise.resolve();
    publish(one, "a", seq++);
    expect(await hints.next()).toBe(seq - 1);
    (await rests.next())();
  }
});

test("news of more tasks than may wait is that everything may have changed, and makes the others look", async () => {
  const [one, two] = await startTwo();
  const log = await one.begin();
  const hints = listenTo(two, log.taskId);
  for (let n = 0; n <= MAX_WAITING; n++) publish(one, `${n}`, 1);
  expect(await two.hears(({ all }) => all === true)).toMatchObject({ tasks: [] });
  expect(await hints.next()).toBe(1);
});

test("a payload that is not understood makes a replica look", async () => {
  const one = await start();
  const log = await one.begin();
  const hints = listenTo(one, log.taskId);
  const work = new Promise((resolve) => one.hub.onWork(resolve));
  await administer(url, "select pg_notify('signalbox', 'from a version that is yet to come')");
  expect(await hints.next()).toBe(1);
  expect(await work).toBe("elsewhere");
});

test("work that is announced here is announced there, once", async () => {
  const [one, two] = await startTwo();
  const announced: string[] = [];
  one.hub.onWork((origin) => announced.push(`one: ${origin}`));
  two.hub.onWork((origin) => announced.push(`two: ${origin}`));
  one.hub.announceWork();
  await two.hears(({ work }) => work === true);
  publish(two, "a", 1);
  await one.hears(({ tasks }) => tasks.length > 0);
  expect(announced).toEqual(["one: here", "two: elsewhere"]);
});

/** The database behind a wire that can be cut. */
async function behindProxy(): Promise<{ proxy: TcpProxy; at: string }> {
  const target = new URL(url);
  const proxy = await startTcpProxy(Number(target.port));
  onTestFinished(() => proxy.close());
  target.port = String(proxy.port);
  return { proxy, at: target.href };
}

test("a hint that cannot be told is dropped, and when the wire is mended everybody looks", async () => {
  const two = await start();
  const { proxy, at } = await behindProxy();
  const logged = logLines();
  const one = await start({ at, log: logged.log });
  await one.hears(({ all }) => all === true);
  const log = await two.begin();
  const hints = listenTo(one, log.taskId);
  proxy.sever();
  while ((await one.heard.next()) !== "lost");
  publish(one, "a", 1);
  await logged.until("a hint was dropped");
  await log.append(2);
  proxy.mend();
  expect(await hints.next()).toBe(3);
  const there = listenTo(two, "a");
  publish(one, "a", 2);
  expect(await there.next()).toBe(2);
  expect(logged.lines.filter(({ level }) => level >= 50)).toEqual([]);
});

test("what waits when a replica stops is told", async () => {
  const [one, two] = await startTwo();
  publish(one, "a", 1);
  one.hub.announceWork();
  await one.hints.stop();
  expect(await two.hears(({ tasks }) => tasks.length > 0)).toMatchObject({ tasks: [["default", "a", 1]], work: true });
});

test("stopping waits for a database that says nothing for a second, and no longer", async () => {
  const { proxy, at } = await behindProxy();
  const one = await start({ at });
  one.hints.setPeers(1);
  await one.hears(({ hello }) => hello === true);
  proxy.hush();
  publish(one, "a", 1);
  await one.hints.stop();
  proxy.cut();
});
