/** Two servers on one PostgreSQL that tell each other by NATS, and a stream at one of a task that runs at the other. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { asTask } from "../fault/said.ts";
import { startServer } from "../fault/server-process.ts";
import { hasNatsServer, type NatsServer, startNatsServer, tellOfMissingNats } from "../fixtures/nats-server.ts";
import { createTestAuthority } from "../setup/test-authority.ts";
import { createDatabase, temporaryDirectory } from "../store/backends.ts";
import { linesOf } from "./journal.ts";
import { type Replica, startTwoReplicas, type TwoReplicas } from "./two-replicas.ts";

tellOfMissingNats("two servers with NATS");

/** The end of the password, which has no sign that an address must encode. */
const secretTail = "of-the-bus";

/** The lines of metrics of a server that are about the bus. */
async function busOf({ httpUrl }: Pick<Replica, "httpUrl">): Promise<string[]> {
  const page = await (await fetch(`${httpUrl}/metrics`)).text();
  return page.split("\n").filter((line) => line.startsWith("signalbox_bus_connected"));
}

describe.skipIf(!hasNatsServer)("two servers with NATS", () => {
  let nats: NatsServer;
  beforeAll(async () => {
    nats = await startNatsServer();
  });
  afterAll(() => nats?.close());

  async function startTwo(): Promise<TwoReplicas> {
    // Nothing is found by looking while hints come.
    const lab = await startTwoReplicas({ flags: { "nats.url": nats.url, "stream.poll-ms": "86400000" } });
    onTestFinished(() => lab.close());
    return lab;
  }

  /** A task at A, and its stream at B. */
  async function begin({ a, b, puppet }: TwoReplicas) {
    const { id } = asTask(await a.client.send("go", { wait: false }));
    const turn = await puppet.turn();
    turn.name();
    const lines = linesOf(b.client.watch(id, { after: 0 }));
    let told = 0;
    return {
      turn,
      lines,
      /** Says so many chunks and waits until the stream has brought them all, in order and nothing else. */
      async chunks(count: number) {
        const from = told;
        for (let n = 0; n < count; n++) turn.chunk(`${told++}`);
        for (let n = from; n < told; n++) expect(await lines.next()).toBe(`chunk ${n}`);
      },
      async end() {
        turn.status("COMPLETED", "Done.");
        expect(await lines.next()).toBe("COMPLETED: Done.");
        expect(await lines.next()).toBe("end");
      },
    };
  }

  test("each update is seen there, also while NATS is killed in the middle and after it has come back", async () => {
    const lab = await startTwo();
    const { lines, chunks, end } = await begin(lab);
    while ((await lines.next()) !== "WORKING");
    for (let n = 0; n < 20; n++) await chunks(1);
    await chunks(100);
    for (let round = 1; round <= 2; round++) {
      await nats.kill();
      await chunks(1);
      await chunks(20);
      // While some updates are under way.
      const more = chunks(50);
      await nats.start();
      await more;
      for (let n = 0; n < 5; n++) await chunks(1);
    }
    await end();
    for (const { logged } of [lab.a, lab.b]) {
      expect(logged.lines.filter(({ level }) => level >= 50)).toEqual([]);
    }
  });

  test("servers start without NATS, say that it is away, and have its hints once it is there", async () => {
    await nats.kill();
    const lab = await startTwo();
    for (const replica of [lab.a, lab.b]) {
      expect(await busOf(replica)).toEqual(['signalbox_bus_connected{bus="nats"} 0']);
      expect(await (await fetch(`${replica.httpUrl}/health/deep`)).json()).toMatchObject({
        status: "degraded",
        components: { bus: { status: "degraded", kind: "nats", connected: false } },
      });
      expect((await fetch(`${replica.httpUrl}/readyz`)).status).toBe(200);
    }
    const { lines, chunks, end } = await begin(lab);
    while ((await lines.next()) !== "WORKING");
    await chunks(10);
    await nats.start();
    for (const replica of [lab.a, lab.b]) {
      await replica.logged.until("NATS is there again");
      expect(await busOf(replica)).toEqual(['signalbox_bus_connected{bus="nats"} 1']);
      expect(replica.logged.lines.filter(({ msg }) => msg.startsWith("NATS is away"))).toHaveLength(1);
    }
    for (let n = 0; n < 10; n++) await chunks(1);
    await end();
  });

  test("no server listens to PostgreSQL then", async () => {
    const lab = await startTwo();
    for (const { logged } of [lab.a, lab.b]) await logged.until("NATS is there");
    const client = new pg.Client(lab.databaseUrl);
    await client.connect();
    const { rows } = await client.query(
      "select application_name as name from pg_stat_activity where datname = current_database()",
    );
    await client.end();
    expect(rows.length).toBeGreaterThan(1);
    expect(rows.filter(({ name }) => name === "signalbox-listener")).toEqual([]);
  });

  test("over TLS with a user and a password, of which nothing is logged, and only to a server that is trusted", async () => {
    const folder = await temporaryDirectory();
    const authority = await createTestAuthority();
    const { cert, key } = await authority.issue("nats");
    const at = (name: string) => join(folder, name);
    await Promise.all([
      writeFile(at("ca.pem"), authority.ca),
      writeFile(at("nats.crt"), cert),
      writeFile(at("nats.key"), key),
    ]);
    const secure = await startNatsServer({
      settings: `
        tls { cert_file: "${at("nats.crt")}", key_file: "${at("nats.key")}" }
        authorization { user: signalbox, password: "s3cret/${secretTail}" }`,
    });
    onTestFinished(() => secure.close());
    const database = await createDatabase();
    onTestFinished(database.drop);
    const flags = {
      "database.url": database.url,
      "nats.url": `tls://signalbox:${encodeURIComponent(`s3cret/${secretTail}`)}@127.0.0.1:${secure.port}`,
    };
    const trusting = startServer(flags, { NODE_EXTRA_CA_CERTS: at("ca.pem") });
    const [trusted, wary] = await Promise.all([trusting, startServer(flags)]);
    await trusted.logged.until("NATS is there");
    expect(await busOf(trusted)).toEqual(['signalbox_bus_connected{bus="nats"} 1']);
    expect(await wary.logged.until("NATS is away")).toMatchObject({ why: expect.stringMatching(/certificate/) });
    for (const server of [trusted, wary]) {
      server.signal("SIGTERM");
      expect(await server.exit).toMatchObject({ code: 0 });
      expect(JSON.stringify(server.logged.lines)).not.toContain(secretTail);
    }
  });
});
