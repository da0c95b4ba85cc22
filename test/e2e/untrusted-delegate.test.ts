/** An agent that sends a task on behalf of one that it has must be trusted with what it asks for. */
import { expect, onTestFinished, test } from "vitest";
import { Access } from "../../gen/signalbox/v1/registry_pb.ts";
import { createSignalboxClient } from "../../src/sdk/client.ts";
import { act } from "../conformance/scripted-agent.ts";
import { startTestApp } from "./running-app.ts";

/** A server on which the agent `boss` has a task, and another one offers what writes, what reads, and what nobody says of. */
async function withBoss(enforce: boolean) {
  const app = await startTestApp({
    flags: { "reputation.enforce": String(enforce) },
    agents: { boss: act, worker: act },
  });
  onTestFinished(() => app.stop());
  const client = createSignalboxClient({ baseUrl: app.httpUrl });
  for (const [capabilityId, access] of [
    ["write", Access.WRITE],
    ["read", Access.READ],
  ] as const) {
    await client.registry.addCapability({ agentId: "worker", capability: { capabilityId, access } });
  }
  await client.reputations.setTrust({ agentId: "worker", trust: 1 });
  const submit = (to: object, text: string, parentTaskId = "") =>
    client.tasks.submitTask({ ...to, content: { case: "text", value: text }, parentTaskId, wait: true });
  const parent = await submit({ agentId: "boss" }, "ask");
  return {
    trust: (trust: number) => client.reputations.setTrust({ agentId: "boss", trust }),
    delegate: (capabilityId: string) => submit({ capabilityId }, "complete", parent.taskId),
    count: async () => (await client.a2a.listTasks({})).totalSize,
  };
}

test("or the task is refused before anything is stored", async () => {
  const { trust, delegate, count } = await withBoss(true);
  await trust(0.79);
  const before = await count();
  await expect(delegate("write")).rejects.toThrow(
    /Agent "boss", on whose behalf the task is sent, is not trusted enough: its trust is 0\.79, and WRITE needs 0\.8\./,
  );
  expect(await count()).toBe(before);
  await trust(0.8);
  await delegate("write");
  await trust(0.29);
  await expect(delegate("read")).rejects.toThrow(/READ needs 0\.3\. Left alone, it is trusted again in \d+ min\./);
  await trust(0.3);
  await delegate("read");
  await delegate("worker");
  await trust(0);
  await expect(delegate("worker")).rejects.toThrow(/READ needs 0\.3/);
  expect(await count()).toBe(before + 3);
});

test("unless the server does not hold agents to it", async () => {
  const { trust, delegate } = await withBoss(false);
  await trust(0);
  await delegate("write");
});
