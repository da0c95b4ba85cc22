/** Equal requests that reach two servers on one PostgreSQL at the same moment, and an agent behind a socket. */
import { beforeEach, expect, test } from "vitest";
import { TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { ROUTING_EXTENSION, type SignalboxClient, userMessage } from "../../src/sdk/client.ts";
import { asTask, failureOf, statusOf, textOf } from "../fault/said.ts";
import { pathOf, standOf } from "./journal.ts";
import { startTwoReplicas, type TwoReplicas } from "./two-replicas.ts";

const WORK = { capability: "work" };

let replicas: TwoReplicas;
let clients: SignalboxClient[];

beforeEach(async () => {
  replicas = await startTwoReplicas();
  const { a, b } = replicas;
  clients = [a.client, b.client];
  await a.client.registry.addCapability({
    agentId: "puppet",
    capability: { capabilityId: "work", cacheTtlMs: 60_000n },
  });
  return () => replicas.close();
});

/** Resolves when both servers know what the agent can do. */
async function bothKnow(): Promise<void> {
  for (const client of clients) {
    const request = { tenant: "c.work", message: userMessage("where to?") };
    await expect
      .poll(() =>
        client.routes.previewRoute({ request }).then(
          () => true,
          () => false,
        ),
      )
      .toBe(true);
  }
}

test("run the agent once, and each gets the result as a task of its own", async () => {
  await bothKnow();
  const { puppet } = replicas;
  const answers = Array.from({ length: 10 }, (_, i) => clients[i % 2]!.send("go", WORK));
  const turn = await puppet.turn();
  turn.name();
  turn.chunk("Done.");
  turn.status("COMPLETED", "That is all.");
  const tasks = (await Promise.all(answers)).map(asTask);
  expect(puppet.heard).toEqual(["go"]);
  expect(new Set(tasks.map(({ id }) => id)).size).toBe(10);
  for (const task of tasks) expect([statusOf(task), textOf(task)]).toEqual(["COMPLETED: That is all.", "Done."]);
  const leader = tasks.find(({ metadata }) => metadata === undefined);
  const from = tasks.flatMap(({ metadata }) => (metadata ? [metadata[ROUTING_EXTENSION]] : []));
  expect(from).toEqual(Array.from({ length: 9 }, () => ({ cachedFrom: leader?.id })));
  // What is there by now is there for both.
  for (const client of clients) {
    const again = asTask(await client.send("go", WORK));
    expect(again.metadata).toEqual({ [ROUTING_EXTENSION]: { cachedFrom: leader?.id } });
  }
  expect(puppet.heard).toEqual(["go"]);
});

test("that wait for one that is canceled go to the agent", async () => {
  await bothKnow();
  const { puppet } = replicas;
  const leads = asTask(await clients[0]!.send("go", { ...WORK, wait: false }));
  const first = await puppet.turn();
  first.name("WORKING");
  const waits = clients[1]!.send("go", WORK);
  await expect.poll(async () => (await clients[1]!.cache.getCacheStats({})).lookups?.followed).toBe(1n);
  await clients[0]!.a2a.cancelTask({ id: leads.id });
  const second = await puppet.turn();
  second.name();
  second.status("COMPLETED", "After all.");
  const task = asTask(await waits);
  expect(statusOf(task)).toBe("COMPLETED: After all.");
  expect(task.metadata).toBeUndefined();
});

/** A task under way on the first server, and others that wait for its result. */
async function followed(by: SignalboxClient, count: number) {
  await bothKnow();
  const { puppet } = replicas;
  await clients[0]!.send("go", { ...WORK, wait: false });
  const leads = await puppet.turn();
  leads.name("WORKING");
  const sent = Array.from({ length: count }, () => by.send("go", { ...WORK, wait: false }));
  const ids = (await Promise.all(sent)).map((answer) => asTask(answer).id);
  expect((await by.cache.getCacheStats({})).lookups?.followed).toBe(BigInt(count));
  return { leads, ids };
}

test.each([0, 1])("that wait, and are canceled over server %i, never go to the agent", async (over) => {
  const { puppet } = replicas;
  const { leads, ids } = await followed(clients[1]!, 3);
  const [stays = "", ...canceled] = ids;
  for (const id of canceled) await clients[over]!.a2a.cancelTask({ id });
  leads.status("CANCELED");
  const turn = await puppet.turn();
  turn.name();
  turn.status("COMPLETED", "After all.");
  expect(statusOf(await clients[1]!.waitFor(stays))).toBe("COMPLETED: After all.");
  const last = clients[1]!.send("something else");
  const other = await puppet.turn();
  other.name();
  other.status("COMPLETED");
  await last;
  expect(puppet.heard).toEqual(["go", "go", "something else"]);
});

test.each(["before", "while"])("that wait in vain keep to a limit that was set %s they wait", async (when) => {
  const { puppet } = replicas;
  const client = clients[1]!;
  const limit = async () => {
    const agent = { agentId: "puppet", maxConcurrency: 1 };
    // While they wait through both, so that both know at once.
    for (const each of when === "while" ? clients : [client])
      await each.registry.updateAgent({ agent, updateMask: { paths: ["max_concurrency"] } });
  };
  if (when === "before") await limit();
  const { leads, ids } = await followed(client, 4);
  if (when === "while") await limit();
  leads.status("CANCELED");
  for (let ended = 1; ended <= ids.length; ended++) {
    const turn = await puppet.turn();
    turn.name();
    const waiting = async () =>
      (await Promise.all(ids.map((id) => standOf(client, id)))).filter((at) => at === "QUEUED");
    await expect.poll(waiting).toHaveLength(ids.length - ended);
    expect(puppet.heard).toHaveLength(1 + ended);
    turn.status("COMPLETED", "In turn.");
  }
  for (const id of ids) {
    expect(statusOf(await client.waitFor(id))).toBe("COMPLETED: In turn.");
    const path = await pathOf(client, id);
    // None of them has failed at the agent, so each is in its first attempt.
    const straight = ["ASSIGNED 1", "WORKING 1", "COMPLETED 1"];
    expect([straight, ["ASSIGNED 1", "QUEUED 1", ...straight]]).toContainEqual(path);
  }
});

test("that wait on a server that stops go on elsewhere, though the agent must not be asked twice", async () => {
  const { puppet, b } = replicas;
  const { ids } = await followed(clients[1]!, 2);
  await b.stop();
  for (const _ of ids) {
    const turn = await puppet.turn();
    turn.name();
    turn.status("COMPLETED", "Elsewhere.");
  }
  for (const id of ids) {
    expect(statusOf(await clients[0]!.waitFor(id))).toBe("COMPLETED: Elsewhere.");
    expect(await pathOf(clients[0]!, id)).toEqual(["ASSIGNED 1", "QUEUED 1", "ASSIGNED 1", "WORKING 1", "COMPLETED 1"]);
  }
});

test("with one key make one task", async () => {
  const { puppet } = replicas;
  const options = { idempotencyKey: crypto.randomUUID() };
  const answers = Array.from({ length: 10 }, (_, i) => clients[i % 2]!.send("go", options));
  const turn = await puppet.turn();
  turn.name();
  turn.status("COMPLETED", "Once.");
  const tasks = (await Promise.all(answers)).map(asTask);
  expect(new Set(tasks.map(({ id }) => id)).size).toBe(1);
  expect(tasks.map(statusOf)).toEqual(Array.from({ length: 10 }, () => "COMPLETED: Once."));
  expect(puppet.heard).toEqual(["go"]);
  for (const client of clients) {
    const other = await failureOf(client.send(userMessage("stop"), options));
    expect(other).toMatchObject({ code: "AlreadyExists", reason: "IDEMPOTENCY_CONFLICT" });
  }
});

test("with one key, the same task also after its server has gone", async () => {
  const { puppet, a } = replicas;
  const options = { idempotencyKey: crypto.randomUUID(), wait: false };
  const first = asTask(await a.client.send("go", options));
  const turn = await puppet.turn();
  turn.name("WORKING");
  await a.stop();
  const again = clients[1]!.send("go", { ...options, wait: true });
  turn.status("COMPLETED", "Elsewhere.");
  const task = asTask(await again);
  expect(task.id).toBe(first.id);
  expect(task.status?.state).toBe(TaskState.COMPLETED);
  expect(puppet.heard).toEqual(["go"]);
});
