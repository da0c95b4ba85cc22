/** An agent that works on so many tasks at once and no more: the others wait for it, in their order, and are bounded. */
import { rm } from "node:fs/promises";
import { ConnectError } from "@connectrpc/connect";
import { beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { ErrorInfoSchema, RetryInfoSchema } from "../../gen/google/rpc/error_details_pb.ts";
import type { Priority } from "../../src/domain/task-log.ts";
import { createSignalboxClient, type SendOptions, type SignalboxClient } from "../../src/sdk/client.ts";
import { type RemoteTurn, startRemotePuppet } from "../agents/remote-puppet.ts";
import { asTask, failureOf, statusOf } from "../fault/said.ts";
import { BACKENDS, createDatabase, pgliteDirectory } from "../store/backends.ts";
import { journalOf, pathOf, reaches, standOf } from "./journal.ts";
import { startTestApp } from "./running-app.ts";

function work(turn: RemoteTurn): RemoteTurn {
  turn.name();
  return turn;
}

const end = (turn: RemoteTurn): void => work(turn).status("COMPLETED");

async function startServer(backend: "pglite" | "postgres", flags: Record<string, string>) {
  const app = await startTestApp({ backend, flags });
  return {
    client: createSignalboxClient({ baseUrl: app.httpUrl }),
    stop: () => app.stop(),
  };
}

/** An agent of one test, on a server that may have others. */
async function startAgent(client: SignalboxClient, maxConcurrency: number) {
  const puppet = await startRemotePuppet();
  onTestFinished(() => puppet.close());
  const agentId = `puppet-${++agents}`;
  const source = { case: "card", value: puppet.card } as const;
  const agent = await client.registry.registerAgent({ agentId, source, maxConcurrency });
  expect(agent.maxConcurrency).toBe(maxConcurrency);
  return {
    client,
    puppet,
    agentId,
    /** Gives it a task, or whoever has the capability that is named, and returns the task's id. */
    begin: async (text: string, options: SendOptions = {}): Promise<string> => {
      const target = options.capability === undefined ? { agent: agentId } : {};
      return asTask(await client.send(text, { ...target, ...options, wait: false })).id;
    },
    change: (maxConcurrency: number) =>
      client.registry.updateAgent({ agent: { agentId, maxConcurrency }, updateMask: { paths: ["max_concurrency"] } }),
    tasks: async () => (await client.a2a.listTasks({ tenant: `a.${agentId}` })).totalSize,
  };
}
let agents = 0;

describe.each(BACKENDS)("on %s", (backend) => {
  let common: Awaited<ReturnType<typeof startServer>>;
  beforeAll(async () => {
    common = await startServer(backend, {});
    return () => common.stop();
  });

  const start = (maxConcurrency: number) => startAgent(common.client, maxConcurrency);

  /** An agent of one place, which is taken. */
  async function full(client = common.client) {
    const lab = await startAgent(client, 1);
    const busyId = await lab.begin("busy");
    return { ...lab, busyId, busy: work(await lab.puppet.turn()) };
  }

  test("what waits for the agent is SUBMITTED to clients, says why, and runs by priority, and then as it came", async () => {
    const { client, puppet, busy, begin, agentId, tasks } = await full();
    const wishes: (Priority | undefined)[] = ["BACKGROUND", "LOW", undefined, "NORMAL", "CRITICAL", "HIGH", "CRITICAL"];
    const waiting: string[] = [];
    for (const [i, priority] of wishes.entries()) {
      const id = await begin(`${i}`, priority && { routing: { priority } });
      waiting.push(id);
      expect(await standOf(client, id)).toBe("QUEUED");
      expect(statusOf(await client.a2a.getTask({ id }))).toBe("SUBMITTED");
    }
    const blocked = client.send("blocked", { agent: agentId });
    expect(await tasks()).toBe(8);
    expect(puppet.heard).toEqual(["busy"]);
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
      expect(causes[0]).toMatch(new RegExp(`^accepted by replica \\w+; waits for room at agent "${agentId}"$`));
      expect(causes[1]).toBe("claimed: its agent has room");
    }
  });

  test("a full queue of an agent refuses what is new, tells when to come again, and leaves other agents alone", async () => {
    const server = await startServer(backend, { "limits.agent-queue": "2" });
    onTestFinished(() => server.stop());
    const { client, puppet, busy, begin, agentId, tasks } = await full(server.client);
    const other = await startAgent(client, 0);
    await begin("1");
    await begin("2");
    const error = ConnectError.from(await client.send("3", { agent: agentId }).catch((reason: unknown) => reason));
    expect(error.findDetails(ErrorInfoSchema)[0]).toMatchObject({
      reason: "QUEUE_FULL",
      metadata: { agentId },
    });
    // Two tasks of a second each, as long as nothing is known of the agent, one at a time.
    expect(error.findDetails(RetryInfoSchema)[0]?.retryDelay).toMatchObject({ seconds: 2n, nanos: 0 });
    expect(await failureOf(begin("3"))).toMatchObject({ code: "ResourceExhausted", retries: true });
    expect(await tasks()).toBe(3);
    const elsewhere = other.begin("elsewhere");
    end(await other.puppet.turn());
    expect(await reaches(client, await elsewhere, "COMPLETED")).toBe("COMPLETED");

    end(busy);
    const turn = await puppet.turn();
    expect(turn.text).toBe("1");
    // Its place in the queue is free.
    const id = await begin("4");
    end(turn);
    for (const text of ["2", "4"]) {
      const next = await puppet.turn();
      expect(next.text).toBe(text);
      end(next);
    }
    expect(await reaches(client, id, "COMPLETED")).toBe("COMPLETED");
  });

  test("room is used as soon as there is some, of as many as may run at once", async () => {
    const { client, puppet, begin } = await start(3);
    // A look each second would take longer than a test may last.
    const count = 90;
    const ids = await Promise.all(Array.from({ length: count }, (_, n) => begin(`${n}`)));
    const open: RemoteTurn[] = [];
    for (let ended = 0; ended < count; ended++) {
      while (open.length < Math.min(3, count - ended)) open.push(work(await puppet.turn()));
      expect(puppet.heard).toHaveLength(ended + open.length);
      end(open.shift()!);
    }
    for (const id of ids) expect(statusOf(await client.waitFor(id))).toBe("COMPLETED");
  });

  test("a task fails at its deadline while it waits, is canceled while it waits, and hears no message yet", async () => {
    const { client, puppet, busy, begin } = await full();
    const late = await begin("late", { routing: { deadlineMs: 300 } });
    const canceled = await begin("canceled");
    const last = await begin("last");
    expect(await failureOf(client.send("more", { taskId: last }))).toMatchObject({ reason: "TASK_NOT_BEGUN" });
    expect(statusOf(await client.a2a.cancelTask({ id: canceled }))).toBe("CANCELED");
    expect(await client.waitFor(late).then(statusOf)).toMatch(/^FAILED: The task's deadline passed/);
    expect(puppet.heard).toEqual(["busy"]);
    end(busy);
    const turn = await puppet.turn();
    expect(turn.text).toBe("last");
    end(turn);
  });

  test("a task that asks its client has no place, and gets one back at once, though all are taken", async () => {
    const { client, puppet, busy, busyId, begin } = await full();
    const second = await begin("second");
    busy.status("INPUT_REQUIRED", "what?");
    const next = work(await puppet.turn());
    expect(next.text).toBe("second");
    const answered = client.send("this", { taskId: busyId });
    const further = await puppet.turn();
    expect(further.text).toBe("this");
    // Two work where one may: so the third waits for both.
    const third = await begin("third");
    end(next);
    expect(await reaches(client, second, "COMPLETED")).toBe("COMPLETED");
    expect(await standOf(client, third)).toBe("QUEUED");
    further.status("COMPLETED");
    expect(statusOf(asTask(await answered))).toBe("COMPLETED");
    end(await puppet.turn());
    expect(await reaches(client, third, "COMPLETED")).toBe("COMPLETED");
  });

  test("another limit is heeded without a restart: more, fewer, none, and one where there was none", async () => {
    const { client, puppet, begin, change } = await start(0);
    const open = [];
    for (const text of ["a", "b", "c"]) {
      await begin(text);
      open.push(work(await puppet.turn()));
    }
    expect((await change(2)).maxConcurrency).toBe(2);
    const ids: string[] = [];
    const waits = async (text: string) => {
      const id = await begin(text);
      expect(await standOf(client, id)).toBe("QUEUED");
      ids.push(id);
    };
    // Those that ran already are counted.
    await waits("d");
    await waits("e");
    end(open.shift()!);
    await waits("f");
    expect(puppet.heard).toHaveLength(3);
    end(open.shift()!);
    open.push(work(await puppet.turn()));
    await change(4);
    for (const _ of ["e", "f"]) open.push(work(await puppet.turn()));
    await change(1);
    await waits("g");
    while (open.length > 1) end(open.shift()!);
    for (const id of ids.slice(0, 2)) expect(await reaches(client, id, "COMPLETED")).toBe("COMPLETED");
    expect(await standOf(client, ids.at(-1)!)).toBe("QUEUED");
    await change(0);
    expect((await puppet.turn()).text).toBe("g");
    expect(puppet.heard).toHaveLength(7);
  });

  test("a capability's limit holds beside the agent's, and keeps no other task from running", async () => {
    const { client, puppet, begin, agentId } = await start(3);
    for (const [capabilityId, maxConcurrency] of [
      ["one", 1],
      ["two", 0],
    ] as const)
      await client.registry.addCapability({ agentId, capability: { capabilityId, maxConcurrency } });
    const first = await begin("first", { capability: "one" });
    const firstTurn = work(await puppet.turn());
    const second = await begin("second", { capability: "one" });
    expect(await standOf(client, second)).toBe("QUEUED");
    const others = [await begin("third", { capability: "two" }), await begin("fourth")];
    const turns = [work(await puppet.turn()), work(await puppet.turn())];
    expect(turns.map(({ text }) => text).sort()).toEqual(["fourth", "third"]);
    // Now the agent is full, and the capability as well.
    const fifth = await begin("fifth", { capability: "two" });
    end(turns[0]!);
    const fifthTurn = work(await puppet.turn());
    expect(fifthTurn.text).toBe("fifth");
    end(firstTurn);
    const secondTurn = await puppet.turn();
    expect(secondTurn.text).toBe("second");
    for (const turn of [secondTurn, turns[1]!, fifthTurn]) end(turn);
    for (const id of [first, second, fifth, ...others])
      expect(await reaches(client, id, "COMPLETED")).toBe("COMPLETED");
  });

  test("a task that waits for its capability's limit is claimed once, however many others wait for it", async () => {
    const { client, puppet, begin, agentId } = await start(0);
    await client.registry.addCapability({
      agentId,
      capability: { capabilityId: "shared", maxConcurrency: 2 },
    });
    const ids = await Promise.all(Array.from({ length: 20 }, (_, n) => begin(`${n}`, { capability: "shared" })));
    for (const _ of ids) end(await puppet.turn());
    const paths = [];
    for (const id of ids) {
      expect(await reaches(client, id, "COMPLETED")).toBe("COMPLETED");
      paths.push((await pathOf(client, id)).filter((step) => /^(QUEUED|ASSIGNED)/.test(step)).join(", "));
    }
    expect(new Set(paths)).toEqual(new Set(["ASSIGNED 1", "QUEUED 0, ASSIGNED 1"]));
  });

  test("a task that comes by a fallback step is of the capability that the step names, and found at the one that was asked", async () => {
    const { client, puppet, begin, agentId } = await start(0);
    await client.registry.addCapability({
      agentId,
      capability: { capabilityId: "stand-in", maxConcurrency: 1, safeToRepeat: true },
    });
    const target = { case: "capabilityId", value: "stand-in" } as const;
    await client.rollouts.updateRollout({ rollout: { capabilityId: "ghost", fallbackChain: [{ target }] } });
    const ids = [await begin("0", { capability: "ghost" })];
    const first = await puppet.turn();
    for (const text of ["1", "2"]) ids.push(await begin(text, { capability: "ghost" }));
    for (const id of ids.slice(1)) expect(await standOf(client, id)).toBe("QUEUED");
    // It may be repeated, because that capability may; and waits behind the others then.
    first.hangUp();
    for (let heard = 0; heard < ids.length; heard++) {
      const turn = await puppet.turn();
      expect(puppet.heard).toHaveLength(heard + 2);
      end(turn);
    }
    for (const id of ids) {
      expect(await reaches(client, id, "COMPLETED")).toBe("COMPLETED");
      expect(asTask(await client.a2a.getTask({ id, tenant: "c.ghost" })).id).toBe(id);
    }
    expect((await client.a2a.listTasks({ tenant: "c.ghost" })).totalSize).toBe(3);
    expect((await client.a2a.listTasks({ tenant: "c.stand-in" })).totalSize).toBe(0);
  });

  test("another attempt waits for room as well, and is the same attempt when it has it", async () => {
    const { client, puppet, begin, agentId, change } = await start(2);
    await client.registry.updateAgent({ agent: { agentId, safeToRepeat: true } });
    const first = await begin("first");
    const failing = await puppet.turn();
    const second = await begin("second");
    const turn = work(await puppet.turn());
    // The other has the one place that is left, so whenever the next attempt is due, it has to wait.
    await change(1);
    // Nobody knows whether the agent has it: it may be sent again.
    failing.hangUp();
    while ((await standOf(client, first)) !== "QUEUED") await new Promise(setImmediate);
    const third = await begin("third");
    end(turn);
    // The place of the attempt that failed is free: else nobody would have room now.
    for (const _ of [first, third]) end(await puppet.turn());
    for (const id of [first, second, third]) expect(await reaches(client, id, "COMPLETED")).toBe("COMPLETED");
    const path = await pathOf(client, first);
    expect(path).toEqual([
      ...["ASSIGNED 1", "SCHEDULED 1", "ASSIGNED 2", "QUEUED 2", "ASSIGNED 2", "WORKING 2", "COMPLETED 2"],
    ]);
    const causes = (await journalOf(client, first)).map(({ cause }) => cause);
    expect(causes.slice(2, 5)).toEqual([
      "due, and claimed",
      `waits for room at agent "${agentId}"`,
      "claimed: its agent has room",
    ]);
  });

  test("what waits, waits on when the server is stopped and started again", async () => {
    const database = backend === "postgres" ? await createDatabase() : undefined;
    const dataDir = await pgliteDirectory();
    const flags = database ? { "database.url": database.url } : { "data.dir": dataDir };
    onTestFinished(async () => {
      await rm(dataDir, { recursive: true, force: true });
      await database?.drop();
    });
    const before = await startTestApp({ flags });
    const first = createSignalboxClient({ baseUrl: before.httpUrl });
    const { puppet, begin } = await startAgent(first, 1);
    const ids = [await begin("0")];
    const busy = work(await puppet.turn());
    await reaches(first, ids[0]!, "WORKING");
    for (const text of ["1", "2", "3"]) ids.push(await begin(text));
    await before.stop();

    const after = await startTestApp({ flags });
    onTestFinished(() => after.stop());
    const client = createSignalboxClient({ baseUrl: after.httpUrl });
    for (const id of ids.slice(1)) expect(await standOf(client, id)).toBe("QUEUED");
    expect(puppet.heard).toEqual(["0"]);
    end(busy);
    for (const text of ["1", "2", "3"]) {
      const turn = await puppet.turn();
      expect(turn.text).toBe(text);
      end(turn);
    }
    for (const id of ids) expect(await reaches(client, id, "COMPLETED")).toBe("COMPLETED");
  });
});
