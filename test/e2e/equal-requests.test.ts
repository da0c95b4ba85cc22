/** Equal requests that reach two servers on one PostgreSQL at the same moment, and an agent behind a socket. */
import { beforeEach, expect, test } from "vitest";
import { TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { ROUTING_EXTENSION, type SignalboxClient, userMessage } from "../../src/sdk/client.ts";
import { asTask, failureOf, statusOf, textOf } from "../fault/said.ts";
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
