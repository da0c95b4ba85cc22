/** More tasks than the servers work on at once: they wait, visible to clients, and run in order when there is room. */
import { beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { PRIORITIES, type Priority } from "../../src/domain/task-log.ts";
import { createSignalboxClient, type SignalboxClient } from "../../src/sdk/client.ts";
import { type RemoteTurn, startRemotePuppet } from "../agents/remote-puppet.ts";
import { asTask, failureOf, lineOf, statusOf } from "../fault/said.ts";
import { BACKENDS } from "../store/backends.ts";
import { journalOf, pathOf, reaches, standOf } from "./journal.ts";
import { startTestApp } from "./running-app.ts";
import { startTwoReplicas } from "./two-replicas.ts";

const ROUTING = "urn:signalbox:a2a:routing:v1";

function begin(client: SignalboxClient, text: string, priority?: Priority) {
  const metadata = priority && { [ROUTING]: { priority } };
  return client.send(text, { wait: false, ...(metadata && { metadata }) }).then(asTask);
}

function end(turn: RemoteTurn): void {
  turn.name();
  turn.status("COMPLETED");
}

let agents = 0;

describe.each(BACKENDS)("on %s", (backend) => {
  async function startServer(flags: Record<string, string> = {}) {
    const app = await startTestApp({ backend, flags: { "limits.running-tasks": "1", ...flags } });
    return {
      client: createSignalboxClient({ baseUrl: app.httpUrl }),
      stop: () => app.stop(),
    };
  }

  let common: Awaited<ReturnType<typeof startServer>>;
  beforeAll(async () => {
    common = await startServer();
    return () => common.stop();
  });

  /** The one place of a server, taken, and the agent of this test that has it: the default one. */
  async function full({ client } = common) {
    const puppet = await startRemotePuppet();
    onTestFinished(() => puppet.close());
    const agentId = `puppet-${++agents}`;
    await client.registry.registerAgent({ agentId, source: { case: "card", value: puppet.card } });
    await client.registry.setDefaultAgent({ agentId });
    await begin(client, "busy");
    return { client, puppet, agentId, busy: await puppet.turn() };
  }

  test("what waits is SUBMITTED to clients, and runs by priority, and then as it came", async () => {
    const { client, puppet, agentId, busy } = await full();
    const wishes: (Priority | undefined)[] = ["BACKGROUND", "LOW", undefined, "NORMAL", "CRITICAL", "HIGH", "CRITICAL"];
    const waiting = [];
    for (const [i, priority] of wishes.entries()) {
      const task = await begin(client, `${i}`, priority);
      expect(statusOf(task)).toBe("SUBMITTED");
      expect(await standOf(client, task.id)).toBe("QUEUED");
      waiting.push(task.id);
    }
    const blocked = client.send("blocked");
    const { tasks } = await client.a2a.listTasks({ tenant: `a.${agentId}`, pageSize: 100 });
    expect(tasks.map(statusOf)).toEqual(waiting.concat("busy").map(() => "SUBMITTED"));

    end(busy);
    const order: string[] = [];
    for (const _ of [...waiting, blocked]) {
      const turn = await puppet.turn();
      order.push(turn.text);
      end(turn);
    }
    // "blocked" is of NORMAL priority, and came last.
    expect(order).toEqual(["4", "6", "5", "2", "3", "blocked", "1", "0"]);
    expect(statusOf(asTask(await blocked))).toBe("COMPLETED");
    for (const id of waiting) {
      expect(statusOf(await client.waitFor(id))).toBe("COMPLETED");
      expect(await pathOf(client, id)).toEqual(["QUEUED 0", "ASSIGNED 1", "WORKING 1", "COMPLETED 1"]);
      const causes = (await journalOf(client, id)).map(({ cause }) => cause);
      expect(causes[0]).toMatch(/^accepted by replica \w+, which had no room$/);
      expect(causes[1]).toBe("claimed from the queue");
    }
  });

  test("a full queue refuses what is new, stores nothing of it, and takes the next when there is room", async () => {
    const server = await startServer({ "limits.queued-tasks": "2" });
    onTestFinished(() => server.stop());
    const { client, puppet, busy } = await full(server);
    await begin(client, "1");
    await begin(client, "2");
    const refusal = { code: "ResourceExhausted", reason: "QUEUE_FULL", retries: true };
    expect(await failureOf(begin(client, "3"))).toMatchObject(refusal);
    expect(await failureOf(client.send("3"))).toMatchObject(refusal);
    expect(await failureOf(firstLine(client.stream("3")))).toMatchObject(refusal);
    expect((await client.a2a.listTasks({})).totalSize).toBe(3);
    end(busy);
    for (const text of ["1", "2"]) {
      const turn = await puppet.turn();
      expect(turn.text).toBe(text);
      end(turn);
    }
    // It is asked again until it has counted anew.
    let task: Awaited<ReturnType<typeof begin>> | undefined;
    while (!task) task = await begin(client, "4").catch(() => undefined);
    const turn = await puppet.turn();
    expect(turn.text).toBe("4");
    end(turn);
    expect(await reaches(client, task.id, "COMPLETED")).toBe("COMPLETED");
  });

  test("room is used as soon as there is some: nobody waits for a look at the queue", async () => {
    const { client, puppet, busy } = await full();
    // A look each second would take longer than a test may last.
    const count = 60;
    for (let n = 0; n < count; n++) await begin(client, `${n}`);
    end(busy);
    for (let n = 0; n < count; n++) {
      const turn = await puppet.turn();
      expect(turn.text).toBe(`${n}`);
      end(turn);
    }
  });

  test("an unknown priority is refused, and all known ones are taken", async () => {
    const { client, puppet, busy } = await full();
    expect(await failureOf(begin(client, "x", "URGENT" as Priority))).toMatchObject({ code: "InvalidArgument" });
    for (const priority of PRIORITIES) await begin(client, priority, priority);
    end(busy);
    for (const priority of PRIORITIES.toReversed()) {
      const turn = await puppet.turn();
      expect(turn.text).toBe(priority);
      end(turn);
    }
  });
});

test("another server that has room takes what waits, and one that gets some takes the rest", async () => {
  const lab = await startTwoReplicas({
    flagsOfA: { "limits.running-tasks": "1" },
    flags: { "limits.running-tasks": "2" },
  });
  onTestFinished(() => lab.close());
  const first = await begin(lab.a.client, "0");
  const turns = [await lab.puppet.turn()];
  const waiting = [];
  for (const text of ["1", "2"]) {
    waiting.push(await begin(lab.a.client, text));
    turns.push(await lab.puppet.turn());
  }
  expect(turns.map(({ text }) => text)).toEqual(["0", "1", "2"]);
  for (const { id } of waiting) {
    const [accepted, claimed] = await journalOf(lab.a.client, id);
    expect(accepted).toMatchObject({ state: "QUEUED", by: lab.a.id });
    expect(claimed).toMatchObject({ state: "ASSIGNED", by: lab.b.id, cause: "claimed from the queue", attempt: 1 });
  }
  // Now both are full.
  const last = await begin(lab.b.client, "3");
  expect(await standOf(lab.b.client, last.id)).toBe("QUEUED");
  end(turns[0]!);
  const turn = await lab.puppet.turn();
  expect(turn.text).toBe("3");
  expect((await journalOf(lab.b.client, last.id))[1]).toMatchObject({ by: lab.a.id });
  for (const open of [...turns.slice(1), turn]) end(open);
  for (const { id } of [first, ...waiting, last])
    expect(await reaches(lab.b.client, id, "COMPLETED")).toBe("COMPLETED");
});

test("another server hears of what waits at once", async () => {
  const lab = await startTwoReplicas({ flagsOfA: { "limits.running-tasks": "1" } });
  onTestFinished(() => lab.close());
  await begin(lab.a.client, "busy");
  const busy = await lab.puppet.turn();
  for (let n = 0; n < 60; n++) {
    const { id } = await begin(lab.a.client, `${n}`);
    const turn = await lab.puppet.turn();
    expect(turn.text).toBe(`${n}`);
    end(turn);
    await reaches(lab.a.client, id, "COMPLETED");
  }
  end(busy);
});

async function firstLine(items: ReturnType<SignalboxClient["stream"]>): Promise<string | undefined> {
  for await (const item of items) return lineOf(item);
  return undefined;
}
