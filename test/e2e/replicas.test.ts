/** Two servers on one PostgreSQL: a task that runs on one is watched on the other. */
import { beforeEach, expect, test } from "vitest";
import { type StreamResponse, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { createSignalboxClient, type SignalboxClient } from "../../src/sdk/client.ts";
import { createInbox } from "../fault/inbox.ts";
import { createPuppet, type Puppet } from "../fault/puppet.ts";
import { asTask, lineOf, statusOf } from "../fault/said.ts";
import { administer, createDatabase } from "../store/backends.ts";
import { startTestApp } from "./running-app.ts";

let url: string;
let puppet: Puppet;
/** Clients of the server that has the agent, and of the other one. */
let near: SignalboxClient;
let far: SignalboxClient;

beforeEach(async () => {
  const database = await createDatabase();
  url = database.url;
  puppet = createPuppet();
  // Nothing is found by looking: what arrives was hinted at, or a gap made the replica look.
  const flags = { "database.url": url, "stream.poll-ms": "86400000" };
  const one = await startTestApp({ flags, agents: { puppet: puppet.handler } });
  const two = await startTestApp({ flags });
  near = createSignalboxClient({ baseUrl: one.httpUrl });
  far = createSignalboxClient({ baseUrl: two.httpUrl });
  return async () => {
    await Promise.all([one.stop(), two.stop()]);
    await database.drop();
  };
});

/** The lines of a stream, one by one, and then "end". */
function linesOf(items: AsyncIterable<StreamResponse>) {
  const lines = createInbox<string>();
  void (async () => {
    for await (const item of items) lines.put(lineOf(item));
    lines.put("end");
  })().catch((error: unknown) => lines.put(`failed: ${String(error)}`));
  return lines;
}

async function begin() {
  const task = asTask(await near.send("go", { wait: false }));
  const turn = await puppet.turn();
  const lines = linesOf(far.watch(task.id));
  expect(await lines.next()).toBe("task SUBMITTED");
  return { task, turn, lines };
}

test("each update is seen there at once and in order, and the end too", async () => {
  const { task, turn, lines } = await begin();
  turn.task();
  expect(await lines.next()).toBe("WORKING");
  for (let n = 1; n <= 20; n++) {
    turn.chunk(`${n}`);
    expect(await lines.next()).toBe(`chunk ${n}`);
  }
  for (let n = 21; n <= 120; n++) turn.chunk(`${n}`);
  turn.status(TaskState.COMPLETED, "Done.");
  for (let n = 21; n <= 120; n++) expect(await lines.next()).toBe(`chunk ${n}`);
  expect(await lines.next()).toBe("COMPLETED: Done.");
  expect(await lines.next()).toBe("end");
  expect(statusOf(await far.a2a.getTask({ id: task.id }))).toBe("COMPLETED: Done.");
});

test("a stream outlives the sessions that carry the hints", async () => {
  const { turn, lines } = await begin();
  turn.task();
  expect(await lines.next()).toBe("WORKING");
  for (let n = 1; n <= 10; n++) {
    await administer(
      url,
      `select pg_terminate_backend(pid) from pg_stat_activity
       where datname = current_database() and application_name = 'signalbox-listener'`,
    );
    turn.chunk(`${n}`);
    expect(await lines.next()).toBe(`chunk ${n}`);
  }
  turn.status(TaskState.COMPLETED);
  expect(await lines.next()).toBe("COMPLETED");
});
