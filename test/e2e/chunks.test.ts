/** Chunks of an artifact: each has its own number, many are written at a time, and none waits for the next. */
import { rm } from "node:fs/promises";
import { describe, expect, onTestFinished, test } from "vitest";
import { TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { createSignalboxClient, type SignalboxClient, sequenceOf } from "../../src/sdk/client.ts";
import type { Database } from "../../src/store/database.ts";
import { openPglite } from "../../src/store/pglite.ts";
import { openPostgres } from "../../src/store/postgres.ts";
import { createPuppet, type Puppet } from "../fault/puppet.ts";
import { asTask, lineOf, statusOf, textOf } from "../fault/said.ts";
import { BACKENDS, createDatabase, pgliteDirectory, silent } from "../store/backends.ts";
import { linesOf, reaches } from "./journal.ts";
import { startTestApp } from "./running-app.ts";

const { WORKING, INPUT_REQUIRED, COMPLETED } = TaskState;
/** Longer than any test: what waits for it is never written. */
const FOR_EVER = "600000";

describe.each(BACKENDS)("on %s", (backend) => {
  async function startLab(gatherMs: string) {
    const dataDir = await pgliteDirectory();
    const database = backend === "postgres" ? await createDatabase() : undefined;
    const puppet = createPuppet();
    const place = database ? { "database.url": database.url } : { "data.dir": dataDir };
    const app = await startTestApp({
      flags: { ...place, "task.gather-ms": gatherMs },
      agents: { puppet: puppet.handler },
    });
    let stopped: Promise<void> | undefined;
    const stop = () => {
      stopped ??= app.stop();
      return stopped;
    };
    onTestFinished(async () => {
      await stop();
      await database?.drop();
      await rm(dataDir, { recursive: true });
    });
    /** Stops the server and looks into its database. */
    async function lookInside<T>(look: (db: Database) => Promise<T>): Promise<T> {
      await stop();
      const db = database
        ? openPostgres({ url: database.url, poolSize: 1, log: silent })
        : await openPglite({ dataDir, log: silent });
      return look(db).finally(() => db.close());
    }
    return { client: createSignalboxClient({ baseUrl: app.httpUrl }), puppet, lookInside };
  }

  async function begin(client: SignalboxClient, puppet: Puppet) {
    const { id } = asTask(await client.send("go", { wait: false }));
    const turn = await puppet.turn();
    turn.task();
    await reaches(client, id, "WORKING");
    return { id, turn };
  }

  test("those that come in quick succession are written in few transactions, each under its own number", async () => {
    const { client, puppet, lookInside } = await startLab("500");
    const { id, turn } = await begin(client, puppet);
    const count = 600;
    for (let n = 1; n <= count; n++) turn.chunk(`${n};`);
    // What follows them takes along those that still wait.
    turn.status(COMPLETED);
    const numbers: number[] = [];
    const texts: string[] = [];
    for await (const item of client.watch(id, { after: 0 })) {
      numbers.push(sequenceOf(item)!);
      if (item.payload.case === "artifactUpdate") texts.push(lineOf(item));
    }
    expect(texts).toEqual(Array.from({ length: count }, (_, i) => `chunk ${i + 1};`));
    // 1 is the message, and 2 that it works.
    expect(numbers).toEqual([0, ...Array.from({ length: count + 2 }, (_, i) => i + 2)]);
    expect(textOf(await client.a2a.getTask({ id }))).toBe(texts.map((text) => text.slice("chunk ".length)).join(""));

    const text =
      "select count(*) as rows, count(distinct xid) as transactions from task_updates where task_id = $1 and kind = 3";
    const [row] = await lookInside((db) => db.query({ name: "chunks", text }, [id]));
    expect(row?.rows).toBe(count);
    expect(row?.transactions).toBeLessThan(count / 50);
  });

  test("a lone one is written although nothing follows it", async () => {
    const { client, puppet } = await startLab("10");
    const { id, turn } = await begin(client, puppet);
    const lines = linesOf(client.watch(id));
    expect(await lines.next()).toBe("task WORKING");
    for (const text of ["one", "two", "three"]) {
      turn.chunk(text);
      // The agent says nothing more until this has been seen.
      expect(await lines.next()).toBe(`chunk ${text}`);
    }
    turn.status(COMPLETED);
    await client.waitFor(id);
  });

  test("whatever else happens does not wait for them, and does not pass them", async () => {
    const { client, puppet } = await startLab(FOR_EVER);
    const { id, turn } = await begin(client, puppet);
    const lines = linesOf(client.watch(id));
    expect(await lines.next()).toBe("task WORKING");
    turn.chunk("one");
    turn.status(WORKING, "Said.");
    expect([await lines.next(), await lines.next()]).toEqual(["chunk one", "WORKING: Said."]);
    turn.chunk("two");
    turn.status(INPUT_REQUIRED, "More?");
    turn.end();
    expect([await lines.next(), await lines.next()]).toEqual(["chunk two", "INPUT_REQUIRED: More?"]);
    const answered = client.send("more", { taskId: id });
    const next = await puppet.turn();
    expect(await lines.next()).toBe("WORKING");
    next.chunk("three");
    await client.a2a.cancelTask({ id });
    expect(statusOf(asTask(await answered))).toBe("CANCELED");
    expect([await lines.next(), await lines.next()]).toEqual(["chunk three", "CANCELED"]);
  });
});
