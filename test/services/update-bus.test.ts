/** What every update bus does: that of PGlite, of PostgreSQL and of NATS. */
import { randomUUID } from "node:crypto";
import { rm } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { natsBus } from "../../src/outbound/nats-bus.ts";
import type { OpenUpdateBus, UpdateBus, UpdateListener } from "../../src/services/background/update-bus.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import type { Database } from "../../src/store/database.ts";
import { migrate } from "../../src/store/migrate.ts";
import { openPglite } from "../../src/store/pglite.ts";
import { openPostgres } from "../../src/store/postgres.ts";
import { createInbox, type Inbox } from "../fault/inbox.ts";
import { startTcpProxy, type TcpProxy } from "../fault/tcp-proxy.ts";
import { type HintingReplica, startHintingReplica } from "../fixtures/hinting-replica.ts";
import { hasNatsServer, type NatsServer, startNatsServer, tellOfMissingNats } from "../fixtures/nats-server.ts";
import { createDatabase, pgliteDirectory, silent } from "../store/backends.ts";

const runtime = systemRuntime();

/** What a listener is told, one by one. */
function recorder(): UpdateListener & Inbox<string> {
  const heard = createInbox<string>();
  return Object.assign(heard, {
    onHint: (payload: string) => heard.put(`hint ${payload}`),
    onGap: (connected: boolean) => heard.put(connected ? "connected" : "lost"),
    onResumed: () => heard.put("resumed"),
  });
}

function listen(open: OpenUpdateBus): { bus: UpdateBus; heard: Inbox<string> } {
  const heard = recorder();
  const bus = open(heard);
  onTestFinished(() => bus.close());
  return { bus, heard };
}

test("in the process there is nobody else, and nothing is missed", async () => {
  const dataDir = await pgliteDirectory({ empty: true });
  onTestFinished(() => rm(dataDir, { recursive: true }));
  const db = await openPglite({ dataDir, log: silent });
  onTestFinished(() => db.close());
  const { bus, heard } = listen(db.listen);
  expect(await heard.next()).toBe("connected");
  expect(bus.connected).toBe(true);
  await bus.notify("nobody hears this");
  await bus.close();
  expect(heard.waiting).toBe(0);
});

/** One installation: what its replicas listen with, over a wire of their own each. */
interface Installation {
  connect(): Promise<{ open: OpenUpdateBus; wire: TcpProxy }>;
}

/** What carries hints, for as many installations as a test wants. */
interface Carrier {
  start(): Promise<void>;
  stop(): Promise<void>;
  installation(): Promise<Installation>;
}

async function wireTo(port: number): Promise<TcpProxy> {
  const wire = await startTcpProxy(port);
  onTestFinished(() => wire.close());
  return wire;
}

const postgres: Carrier = {
  async start() {},
  async stop() {},
  async installation() {
    const { url, drop } = await createDatabase();
    onTestFinished(drop);
    return {
      async connect() {
        const target = new URL(url);
        const wire = await wireTo(Number(target.port));
        target.hostname = "127.0.0.1";
        target.port = String(wire.port);
        const db = openPostgres({ url: target.href, poolSize: 2, log: silent });
        onTestFinished(() => db.close());
        return { open: db.listen, wire };
      },
    };
  },
};

let server: NatsServer;
const nats: Carrier = {
  async start() {
    server = await startNatsServer();
  },
  stop: () => server.close(),
  async installation() {
    const installation = randomUUID();
    return {
      async connect() {
        const wire = await wireTo(server.port);
        return { open: natsBus({ url: `nats://127.0.0.1:${wire.port}`, installation, runtime, log: silent }), wire };
      },
    };
  },
};

tellOfMissingNats("the update bus over NATS");
const CARRIERS = [
  { name: "PostgreSQL", carrier: postgres, isThere: true },
  { name: "NATS", carrier: nats, isThere: hasNatsServer },
];

for (const { name, carrier, isThere } of CARRIERS) {
  describe.skipIf(!isThere)(`over ${name}`, () => {
    beforeAll(() => carrier.start());
    afterAll(() => carrier.stop());

    /** Two replicas of one installation that listen. */
    async function openTwo() {
      const installation = await carrier.installation();
      const ways = [await installation.connect(), await installation.connect()] as const;
      const one = { ...listen(ways[0].open), wire: ways[0].wire };
      const two = { ...listen(ways[1].open), wire: ways[1].wire };
      for (const { heard, bus } of [one, two]) {
        expect(await heard.next()).toBe("connected");
        expect(bus.connected).toBe(true);
      }
      return [one, two] as const;
    }

    test("what one tells, all hear in order, itself included", async () => {
      const [one, two] = await openTwo();
      const payloads = ["first", "second", "a'b\\ ü𝄞", "x".repeat(7_999)];
      for (const payload of payloads) await one.bus.notify(payload);
      for (const { heard } of [one, two]) {
        for (const payload of payloads) expect(await heard.next()).toBe(`hint ${payload}`);
      }
    });

    test("what is told while nobody listens is not heard later", async () => {
      const installation = await carrier.installation();
      const one = listen((await installation.connect()).open);
      expect(await one.heard.next()).toBe("connected");
      await one.bus.notify("before");
      const two = listen((await installation.connect()).open);
      expect(await two.heard.next()).toBe("connected");
      await one.bus.notify("after");
      expect(await two.heard.next()).toBe("hint after");
    });

    test("installations do not hear each other", async () => {
      const [ours] = await openTwo();
      const [others] = await openTwo();
      await ours.bus.notify("ours");
      await others.bus.notify("theirs");
      expect(await ours.heard.next()).toBe("hint ours");
      expect(await others.heard.next()).toBe("hint theirs");
      await ours.bus.notify("ours again");
      expect(await ours.heard.next()).toBe("hint ours again");
      expect([ours.heard.waiting, others.heard.waiting]).toEqual([0, 0]);
    });

    test("a wire that is cut is told, what cannot be told rejects, and it all goes on when it is mended", async () => {
      const [one, two] = await openTwo();
      one.wire.sever();
      expect(await one.heard.next()).toBe("lost");
      expect(one.bus.connected).toBe(false);
      await expect(one.bus.notify("lost")).rejects.toThrow();
      one.wire.mend();
      expect(["connected", "resumed"]).toContain(await one.heard.next());
      expect(one.bus.connected).toBe(true);
      await one.bus.notify("again");
      for (const { heard } of [one, two]) expect(await heard.next()).toBe("hint again");
    });

    test.each(["sever", "hush"] as const)("close() while the wire is out (%s) waits for nobody", async (way) => {
      const [one] = await openTwo();
      one.wire[way]();
      if (way === "sever") expect(await one.heard.next()).toBe("lost");
      await one.bus.close();
      expect(one.bus.connected).toBe(false);
      // Also a second time.
      await one.bus.close();
      expect(one.heard.waiting).toBe(0);
    });

    test("close() before there was any wire waits for nobody", async () => {
      const { open, wire } = await (await carrier.installation()).connect();
      wire.sever();
      const { bus, heard } = listen(open);
      expect(bus.connected).toBe(false);
      await expect(bus.notify("to nobody")).rejects.toThrow();
      await bus.close();
      expect(heard.waiting).toBe(0);
    });
  });
}

for (const { name, carrier, isThere } of CARRIERS) {
  describe.skipIf(!isThere)(`replicas over ${name}`, () => {
    let db: Database;
    beforeAll(() => carrier.start());
    afterAll(() => carrier.stop());

    async function start(installation: Installation): Promise<HintingReplica & { wire: TcpProxy }> {
      const { open, wire } = await installation.connect();
      // The slow poll looks once an hour, so that nothing is found by it.
      const replica = await startHintingReplica(db, { open });
      onTestFinished(() => replica.stop());
      expect(await replica.heard.next()).toBe("connected");
      return { ...replica, wire };
    }

    /** On a database that all their installations share, so that only the bus can keep them apart. */
    async function openShared() {
      const { url, drop } = await createDatabase();
      onTestFinished(drop);
      db = openPostgres({ url, poolSize: 5, log: silent });
      onTestFinished(() => db.close());
      await migrate(db, silent);
    }

    test("a commit of one wakes the watchers of another", async () => {
      await openShared();
      const installation = await carrier.installation();
      const one = await start(installation);
      const two = await start(installation);
      await two.hears(({ all }) => all === true);
      const log = await one.begin();
      const seen = two.watch(log.taskId, 21);
      for (let n = 0; n < 20; n++) await log.append();
      expect((await seen).map(({ seq }) => seq)).toEqual(Array.from({ length: 21 }, (_, n) => n + 1));
    });

    test("what was committed while the bus was out is looked for when it is there again, on both sides", async () => {
      await openShared();
      const installation = await carrier.installation();
      const one = await start(installation);
      const two = await start(installation);
      await two.hears(({ all }) => all === true);
      const [here, there] = [await one.begin(), await two.begin()];
      const seen = [two.watch(here.taskId, 3), one.watch(there.taskId, 3)];
      one.wire.sever();
      while ((await one.heard.next()) !== "lost");
      await here.append(2);
      await there.append(2);
      one.wire.mend();
      for (const each of seen) expect((await each).map(({ seq }) => seq)).toEqual([1, 2, 3]);
    });
  });
}
