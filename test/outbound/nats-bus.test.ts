/** The update bus over a real NATS: outages of all kinds, what is missed and what is not, who may connect, and what is logged. */
import { randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createServer } from "node:net";
import { type JetStreamManager, jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { readNatsAddresses } from "../../src/outbound/nats-address.ts";
import { natsBus } from "../../src/outbound/nats-bus.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import { createInbox } from "../fault/inbox.ts";
import { startTcpProxy } from "../fault/tcp-proxy.ts";
import { hasNatsServer, type NatsServer, startNatsServer, tellOfMissingNats } from "../fixtures/nats-server.ts";
import { stablePort } from "../setup/stable-port.ts";
import { logLines } from "../store/log-lines.ts";

const runtime = systemRuntime();

function listen(url: string, installation: string = randomUUID()) {
  const heard = createInbox<string>();
  const logged = logLines();
  const bus = natsBus({ url, installation, runtime, log: logged.log })({
    onHint: (payload) => heard.put(`hint ${payload}`),
    onGap: (connected) => heard.put(connected ? "connected" : "lost"),
    onResumed: () => heard.put("resumed"),
  });
  onTestFinished(() => bus.close());
  return { bus, heard, logged };
}

async function wireTo(port: number) {
  const wire = await startTcpProxy(port);
  onTestFinished(() => wire.close());
  return { wire, url: `nats://127.0.0.1:${wire.port}` };
}

describe("addresses", () => {
  test("say who connects, and whether by TLS", () => {
    expect(readNatsAddresses("nats://a, nats://b:4333,tls://me:p%40ss%2C@c,nats://t%20oken@[::1]:1")).toEqual([
      { host: "a", port: 4222, name: "a:4222", options: {} },
      { host: "b", port: 4333, name: "b:4333", options: {} },
      { host: "c", port: 4222, name: "c:4222", options: { user: "me", pass: "p@ss,", tls: { host: "c" } } },
      { host: "::1", port: 1, name: "[::1]:1", options: { token: "t oken" } },
    ]);
  });
});

describe("without any NATS", () => {
  test("nothing is heard, what is told rejects at once, and one line says so", async () => {
    const { bus, heard, logged } = listen(`nats://127.0.0.1:${await stablePort()}`);
    await logged.until("NATS is still away");
    await expect(bus.notify("to nobody")).rejects.toThrow("NATS is away");
    expect(bus.connected).toBe(false);
    expect(heard.waiting).toBe(0);
    expect(logged.lines.filter(({ level }) => level >= 40)).toMatchObject([
      { why: expect.stringContaining("REFUSED") },
    ]);
    await bus.close();
  });

  test.each([
    ["says nothing", "", "no answer within 3000 ms"],
    ["is something else", "SSH-2.0-x\r\n", "no NATS"],
  ])("a server that %s is given up, and its connections are closed", async (_, greeting, why) => {
    const closed = createInbox<void>();
    const server = createServer((socket) => {
      socket.on("error", () => {});
      socket.on("close", () => closed.put());
      socket.write(greeting);
    });
    const port = await stablePort();
    server.listen(port, "127.0.0.1");
    onTestFinished(() => void server.close());
    const { logged } = listen(`nats://127.0.0.1:${port}`);
    expect(await logged.until("NATS is away")).toMatchObject({ why: expect.stringContaining(why) });
    await closed.next();
  });

  test("close() ends at once while a server is waited for that says nothing", async () => {
    const opened = createInbox<void>();
    const server = createServer(() => opened.put());
    const port = await stablePort();
    server.listen(port, "127.0.0.1");
    onTestFinished(() => void server.close());
    const { bus, logged } = listen(`nats://127.0.0.1:${port}`);
    await opened.next();
    await bus.close();
    expect(logged.lines).toEqual([]);
  });
});

tellOfMissingNats("what is told over NATS");

describe.skipIf(!hasNatsServer)("over NATS", () => {
  let server: NatsServer;
  beforeAll(async () => {
    server = await startNatsServer();
  });
  afterAll(() => server?.close());

  /** The operator's way to the streams. */
  async function manage(at = server): Promise<JetStreamManager> {
    const connection = await connect({ servers: at.url });
    onTestFinished(() => connection.close());
    return jetstreamManager(connection);
  }

  /** Two replicas, of which one is behind a wire that can be cut. */
  async function openTwo(installation: string = randomUUID()) {
    const { wire, url } = await wireTo(server.port);
    const one = listen(url, installation);
    const two = listen(server.url, installation);
    for (const { heard } of [one, two]) expect(await heard.next()).toBe("connected");
    return { one, two, wire, stream: `signalbox-${installation}` };
  }

  test("after a short outage everything that was told meanwhile is heard, once and in order", async () => {
    const { one, two, wire } = await openTwo();
    await two.bus.notify("before");
    expect(await one.heard.next()).toBe("hint before");
    for (let round = 0; round < 3; round++) {
      wire.sever();
      expect(await one.heard.next()).toBe("lost");
      for (let n = 0; n < 250; n++) await two.bus.notify(`${round}.${n}`);
      wire.mend();
      expect(await one.heard.next()).toBe("resumed");
      for (let n = 0; n < 250; n++) expect(await one.heard.next()).toBe(`hint ${round}.${n}`);
    }
    expect(one.logged.lines.filter(({ level }) => level >= 40)).toHaveLength(3);
  });

  test("an outage that was longer than the stream reaches back is a gap", async () => {
    const { one, two, wire, stream } = await openTwo();
    await two.bus.notify("before");
    expect(await one.heard.next()).toBe("hint before");
    const { streams } = await manage();
    await streams.update(stream, { max_msgs: 3 });
    wire.sever();
    expect(await one.heard.next()).toBe("lost");
    for (let n = 0; n < 4; n++) await two.bus.notify(`${n}`);
    wire.mend();
    expect(await one.heard.next()).toBe("connected");
    await two.bus.notify("after");
    expect(await one.heard.next()).toBe("hint after");
    // What an operator has set stays.
    expect((await streams.info(stream)).config.max_msgs).toBe(3);
  });

  test("a way that is gone without a word is noticed", async () => {
    const { one, two, wire } = await openTwo();
    await two.bus.notify("before");
    expect(await one.heard.next()).toBe("hint before");
    wire.hush();
    await two.bus.notify("meanwhile");
    expect(await one.heard.next()).toBe("lost");
    expect(await one.heard.next()).toBe("resumed");
    expect(await one.heard.next()).toBe("hint meanwhile");
  });

  test("a stream that somebody deletes is made anew, and that is a gap", async () => {
    const { one, two, stream } = await openTwo();
    const { streams } = await manage();
    for (const each of ["first", "second"]) {
      await two.bus.notify(each);
      for (const { heard } of [one, two]) expect(await heard.next()).toBe(`hint ${each}`);
    }
    await streams.delete(stream);
    for (const { heard } of [one, two]) {
      expect(await heard.next()).toBe("lost");
      expect(await heard.next()).toBe("connected");
    }
    await two.bus.notify("again");
    for (const { heard } of [one, two]) expect(await heard.next()).toBe("hint again");
  });

  test("the stream is in memory, small, and of this installation alone", async () => {
    const { stream } = await openTwo("here");
    const { config } = await (await manage()).streams.info(stream);
    expect(config).toMatchObject({
      name: "signalbox-here",
      subjects: ["signalbox.here.hints"],
      storage: "memory",
      discard: "old",
      max_age: 60e9,
      max_bytes: 16_777_216,
      num_replicas: 1,
    });
  });

  test("a server that is not there at first, is killed, and comes back, is found each time", async () => {
    const other = await startNatsServer({ away: true });
    onTestFinished(() => other.close());
    const one = listen(other.url, "x");
    const two = listen(other.url, "x");
    for (const { logged } of [one, two]) await logged.until("NATS is away");
    for (let round = 0; round < 2; round++) {
      await other.start();
      for (const { heard } of [one, two]) expect(await heard.next()).toBe("connected");
      await one.bus.notify(`${round}`);
      for (const { heard } of [one, two]) expect(await heard.next()).toBe(`hint ${round}`);
      await other.kill();
      for (const { heard } of [one, two]) expect(await heard.next()).toBe("lost");
      await expect(two.bus.notify("to nobody")).rejects.toThrow();
    }
  });

  test("a server that says nothing more holds up nothing for longer than its deadline, and close() not at all", async () => {
    const { one, wire } = await openTwo();
    wire.hush();
    await expect(one.bus.notify("to nobody")).rejects.toThrow("timeout");
    expect(await one.heard.next()).toBe("lost");
    await one.bus.close();
    expect(one.heard.waiting).toBe(0);
  });

  test("of several servers one that is there is found", async () => {
    const away = `nats://127.0.0.1:${await stablePort()}`;
    const { heard } = listen(`${away},${server.url},${away}`);
    expect(await heard.next()).toBe("connected");
  });

  test("a server without JetStream, and one whose messages are too small, are said to be of no use", async () => {
    const small = await startNatsServer({ settings: "max_payload: 4096" });
    onTestFinished(() => small.close());
    const { logged } = listen(small.url);
    expect(await logged.until("NATS is away")).toMatchObject({
      why: "it takes messages of 4096 bytes, and hints have up to 8192",
    });
    const plain = await startNatsServer({ settings: "jetstream: false" });
    onTestFinished(() => plain.close());
    const other = listen(plain.url);
    expect(await other.logged.until("NATS is away")).toMatchObject({ why: expect.stringMatching(/jetstream/i) });
  });

  test.each([
    ["a user and a password", "authorization { user: replica, password: PASS }", "replica:PASS@", "replica:WRONG@"],
    ["a token", "authorization { token: PASS }", "PASS@", "WRONG@"],
  ])("%s in the address let in, wrong ones do not, and neither is logged", async (_, settings, right, wrong) => {
    const secret = `s3cret-${randomUUID()}`;
    const other = await startNatsServer({ settings: settings.replace("PASS", `"${secret}"`) });
    onTestFinished(() => other.close());
    const at = (who: string) => other.url.replace("nats://", `nats://${who.replace("PASS", secret)}`);
    const good = listen(at(right));
    expect(await good.heard.next()).toBe("connected");
    await good.bus.notify("hello");
    expect(await good.heard.next()).toBe("hint hello");
    const bad = listen(at(wrong));
    expect(await bad.logged.until("NATS is away")).toMatchObject({ why: expect.stringMatching(/authorization/i) });
    for (const { logged } of [good, bad]) expect(JSON.stringify(logged.lines)).not.toMatch(/s3cret|WRONG/);
  });

  test("tls:// does not go on without TLS", async () => {
    const { logged } = listen(server.url.replace("nats://", "tls://"));
    expect(await logged.until("NATS is away")).toMatchObject({ why: "server does not support 'tls'" });
  });

  test("the permissions that docs/scaling-bus.md names are enough, and without one to publish it is away", async () => {
    const docs = await readFile(new URL("../../docs/scaling-bus.md", import.meta.url), "utf8");
    const row = docs.split("\n").find((line) => line.startsWith("| publish |"))!;
    const subjects = [...row.matchAll(/`([^`]+)`/g)].map(([, subject]) =>
      subject!.replace("<installation>", "here").replace(/\bS\b/, "signalbox-here"),
    );
    expect(subjects.length).toBeGreaterThan(5);
    const allow = (names: readonly string[]) => names.map((name) => JSON.stringify(name)).join(", ");
    const user = (name: string, publish: readonly string[]) =>
      `{ user: ${name}, password: x, permissions: { publish: [${allow(publish)}], subscribe: ["_INBOX.>"] } }`;
    const other = await startNatsServer({
      settings: `authorization { users: [ ${user("full", subjects)}, ${user("mute", subjects.slice(1))} ] }`,
    });
    onTestFinished(() => other.close());
    const { wire } = await wireTo(other.port);
    const one = listen(`nats://full:x@127.0.0.1:${wire.port}`, "here");
    expect(await one.heard.next()).toBe("connected");
    await one.bus.notify("1");
    expect(await one.heard.next()).toBe("hint 1");
    wire.cut();
    expect(await one.heard.next()).toBe("lost");
    expect(await one.heard.next()).toBe("resumed");
    const mute = listen(`nats://mute:x@127.0.0.1:${other.port}`, "here");
    expect(await mute.heard.next()).toBe("connected");
    await expect(mute.bus.notify("2")).rejects.toThrow();
    expect(await mute.heard.next()).toBe("lost");
  });
});
