/**
 * Three replicas share an agent's limit under load, while one is killed, another loses its database for longer than a lease, and
 * the limit changes: the agent counts what it has at once, and nothing is lost.
 */

import { rm } from "node:fs/promises";
import { setTimeout as after } from "node:timers/promises";
import { expect, onTestFinished, test } from "vitest";
import { createSignalboxClient, type SignalboxClient } from "../../src/sdk/client.ts";
import { startRemotePuppet } from "../agents/remote-puppet.ts";
import { reaches } from "../e2e/journal.ts";
import { startTestApp } from "../e2e/running-app.ts";
import { BACKENDS, createDatabase, pgliteDirectory } from "../store/backends.ts";
import { randomFrom } from "./random.ts";
import { asTask, statusOf } from "./said.ts";
import { startServer } from "./server-process.ts";
import { startTcpProxy } from "./tcp-proxy.ts";

const LEASE_MS = 1_000;
/** How long another limit may take until all replicas heed it. */
const HEED_MS = 2_500;
const ROUNDS = 6;
const SENT_IN_ROUND = 25;
const LIMITS = [1, 2, 3, 5, 8];

/** An agent that works for some random milliseconds on each task, and knows how many it ever had at once. */
async function startCountingAgent(random: () => number) {
  const puppet = await startRemotePuppet();
  const allowed = [{ limit: 0, since: 0 }];
  const excesses: string[] = [];
  let [working, most, isOpen] = [0, 0, true];

  /** The greatest of the limits that somebody may heed now. */
  function limitNow(): number {
    const now = performance.now();
    const counted = allowed.filter((_, i) => now - (allowed[i + 1]?.since ?? now) < HEED_MS);
    return Math.max(...counted.map(({ limit }) => limit));
  }

  void (async () => {
    while (isOpen) {
      const turn = await puppet.turn();
      working += 1;
      most = Math.max(most, working);
      if (working > limitNow()) excesses.push(`${working} at once instead of ${limitNow()}`);
      void (async () => {
        if (random() < 0.2) await after(5 * random());
        turn.name();
        await after(60 * random());
        working -= 1;
        turn.status("COMPLETED");
      })();
    }
  })();
  return {
    card: puppet.card,
    excesses,
    allow: (limit: number) => void allowed.push({ limit, since: performance.now() }),
    get most() {
      return most;
    },
    async close() {
      isOpen = false;
      await puppet.close();
    },
  };
}

test("the agent never has more tasks at once than its limit, and all of them end", { timeout: 180_000 }, async () => {
  const seed = Number(process.env.FAULT_SEED ?? Math.floor(Math.random() * 2 ** 32));
  console.log(`agent limits: FAULT_SEED=${seed}`);
  const random = randomFrom(seed);
  const database = await createDatabase();
  const agent = await startCountingAgent(random);
  const wire = await startTcpProxy(Number(new URL(database.url).port || 5432));
  const cut = new URL(database.url);
  [cut.hostname, cut.port] = ["127.0.0.1", String(wire.port)];
  const flags = (url: string) => ({ "database.url": url, "lease.ms": String(LEASE_MS), "task.retry-max-ms": "500" });
  const [doomed, steady, shaky] = await Promise.all([
    startServer(flags(database.url)),
    startTestApp({ flags: flags(database.url) }),
    startTestApp({ flags: flags(cut.href) }),
  ]);
  onTestFinished(async () => {
    doomed.signal("SIGKILL");
    await doomed.exit;
    await Promise.all([steady.stop(), shaky.stop()]);
    await agent.close();
    await wire.close();
    await database.drop();
  });
  const client = createSignalboxClient({ baseUrl: steady.httpUrl });
  const clients = [client, doomed.client, createSignalboxClient({ baseUrl: shaky.httpUrl, reconnects: 0 })];

  agent.allow(3);
  await client.registry.registerAgent({
    agentId: "counts",
    source: { case: "card", value: agent.card },
    safeToRepeat: true,
    maxConcurrency: 3,
  });

  const acknowledged = new Set<string>();
  async function send(to: SignalboxClient): Promise<void> {
    const sent = await to.send("work", { wait: false }).catch(() => undefined);
    if (sent) acknowledged.add(asTask(sent).id);
  }
  for (let round = 0; round < ROUNDS; round++) {
    const sending: Promise<void>[] = [];
    for (let i = 0; i < SENT_IN_ROUND; i++) {
      sending.push(send(clients[Math.floor(random() * clients.length)]!));
      if (random() < 0.3) await after(50 * random());
    }
    if (round === 1) {
      doomed.signal("SIGKILL");
      clients.splice(1, 1);
    } else if (round === 2) wire.sever();
    else if (round === 4) wire.mend();
    const limit = LIMITS[Math.floor(random() * LIMITS.length)]!;
    agent.allow(limit);
    await client.registry.updateAgent({
      agent: { agentId: "counts", maxConcurrency: limit },
      updateMask: { paths: ["max_concurrency"] },
    });
    // Some of what was sent goes on while the next is sent, and some limits are heeded before the next comes.
    await (random() < 0.5 ? after(HEED_MS * random()) : Promise.all(sending));
  }
  for (const id of acknowledged) expect(statusOf(await client.waitFor(id))).toBe("COMPLETED");
  expect(agent.excesses).toEqual([]);
  expect(agent.most).toBeGreaterThan(1);
  expect(acknowledged.size).toBeGreaterThan(SENT_IN_ROUND);
});

test.each(BACKENDS)("what waits goes on after kill -9 on %s", { timeout: 90_000 }, async (backend) => {
  const dataDir = await pgliteDirectory();
  const database = backend === "postgres" ? await createDatabase() : undefined;
  const puppet = await startRemotePuppet();
  const start = () =>
    startServer({
      "data.dir": dataDir,
      "lease.ms": String(LEASE_MS),
      ...(database && { "database.url": database.url }),
    });
  let server = await start();
  onTestFinished(async () => {
    server.signal("SIGKILL");
    await server.exit;
    await puppet.close();
    await database?.drop();
    await rm(dataDir, { recursive: true, force: true });
  });
  const source = { case: "card", value: puppet.card } as const;
  await server.client.registry.registerAgent({ agentId: "puppet", source, maxConcurrency: 1 });
  const ids: string[] = [];
  for (const text of ["0", "1", "2"]) ids.push(asTask(await server.client.send(text, { wait: false })).id);
  const busy = await puppet.turn();
  busy.name();
  await reaches(server.client, ids[0]!, "WORKING");

  server.signal("SIGKILL");
  await server.exit;
  server = await start();
  await puppet.subscribed();
  expect(puppet.heard).toEqual(["0"]);
  busy.status("COMPLETED");
  for (const text of ["1", "2"]) {
    const turn = await puppet.turn();
    expect(turn.text).toBe(text);
    turn.name();
    turn.status("COMPLETED");
  }
  for (const id of ids) expect(statusOf(await server.client.waitFor(id))).toBe("COMPLETED");
});
