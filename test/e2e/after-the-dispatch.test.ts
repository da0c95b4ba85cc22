/** What becomes of tasks after their dispatch, as rollouts say: a whole server, steered over its API, and killed. */
import { rm } from "node:fs/promises";
import { create } from "@bufbuild/protobuf";
import { beforeAll, describe, expect, onTestFinished, test, vi } from "vitest";
import { MessageSchema, Role, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { createSignalboxClient, type SignalboxClient } from "../../src/sdk/client.ts";
import { startTestAgent } from "../agents/test-agent.ts";
import { through } from "../fault/agent-lab.ts";
import { createPuppet } from "../fault/puppet.ts";
import { asTask, statusOf } from "../fault/said.ts";
import { startServer } from "../fault/server-process.ts";
import { pgliteDirectory } from "../store/backends.ts";
import { startTestApp, type TestApp } from "./running-app.ts";

/** A bound for what hangs, not a measure of what is slow. */
const PATIENCE = { timeout: 20_000 };

const hedging = { enabled: true, minDelayMs: 1n };

type Change = NonNullable<Parameters<SignalboxClient["rollouts"]["updateRollout"]>[0]["rollout"]>;
type Capability = NonNullable<Parameters<SignalboxClient["registry"]["addCapability"]>[0]["capability"]>;

const puppets = { first: createPuppet(), second: createPuppet(), third: createPuppet() };
const { first, second, third } = puppets;
let app: TestApp;
let client: SignalboxClient;

beforeAll(async () => {
  const agents = Object.fromEntries(Object.entries(puppets).map(([id, { handler }]) => [id, handler]));
  app = await startTestApp({ agents, flags: { "routing.strategy": "LOWEST_COST" } });
  client = createSignalboxClient({ baseUrl: app.httpUrl });
  return () => app.stop();
});

/** A capability of "first" and of "second", in this order, with its rollout. */
async function offered(capabilityId: string, capability: Capability, rollout: Change): Promise<void> {
  const offer = (agentId: string, costPerTask: string) =>
    client.registry.addCapability({ agentId, capability: { ...capability, capabilityId, costPerTask } });
  await offer("first", "0.01");
  await offer("second", "0.02");
  await client.rollouts.updateRollout({ rollout: { ...rollout, capabilityId } });
}

const begin = async (capability: string) => asTask(await client.send("hello", { capability, wait: false }));

/** Waits until a metric is as said. */
const counted = (line: string): Promise<void> =>
  vi.waitFor(async () => expect(await (await fetch(`${app.httpUrl}/metrics`)).text()).toContain(line), PATIENCE);

describe("a task of a capability", () => {
  test("that failed goes on along the fallback chain, and is found where it was sent", async () => {
    const target = { case: "agentId" as const, value: "third" };
    await offered("chained", { safeToRepeat: true }, { fallbackChain: [{ target }] });
    const task = await begin("chained");
    (await first.turn()).task(TaskState.FAILED);
    (await third.turn()).task(TaskState.COMPLETED);
    expect(statusOf(await client.waitFor(task.id))).toBe("COMPLETED");
    const seen = (tenant: string) => client.a2a.getTask({ id: task.id, tenant }).then(({ id }) => id);
    for (const tenant of ["c.chained", "a.first", "a.third"]) expect(await seen(tenant)).toBe(task.id);
    await expect(seen("a.second")).rejects.toThrow(/not found|no task/i);
    expect((await client.a2a.listTasks({ tenant: "c.chained" })).tasks).toHaveLength(1);
    expect(await client.tasks.getTaskExecution({ taskId: task.id })).toMatchObject({ agentId: "third", attempt: 2 });
    expect(await client.routes.getRouteDecision({ taskId: task.id })).toMatchObject({
      agentId: "third",
      capabilityId: "chained",
      cuts: [{ reason: "FAILED", agentIds: ["first"] }],
    });
  });

  test("that is slow is hedged, and the record says who was slow", async () => {
    await offered("hedged", { safeToRepeat: true, averageLatencyMs: 1n }, { hedging });
    const task = await begin("hedged");
    (await first.turn()).task();
    (await second.turn()).task(TaskState.COMPLETED);
    expect(statusOf(await client.waitFor(task.id))).toBe("COMPLETED");
    expect(await client.routes.getRouteDecision({ taskId: task.id })).toMatchObject({
      agentId: "second",
      cuts: [{ reason: "HEDGED", agentIds: ["first"] }],
    });
    await counted('signalbox_hedges_total{outcome="won"} 1');
  });

  test("that is slow is not hedged with an answer that its output schema forbids", async () => {
    const outputSchema = { type: "object", required: ["answer"] };
    await offered("checked", { safeToRepeat: true, averageLatencyMs: 1n, outputSchema }, { hedging });
    const task = await begin("checked");
    const turn = await first.turn();
    turn.task();
    const value = { kind: { case: "structValue" as const, value: {} } };
    const answer = { messageId: "1", role: Role.AGENT, parts: [{ content: { case: "data" as const, value } }] };
    (await second.turn()).say({ case: "message", value: create(MessageSchema, answer) });
    await counted('signalbox_hedges_total{outcome="failed"} 1');
    turn.status(TaskState.COMPLETED);
    expect(statusOf(await client.waitFor(task.id))).toBe("COMPLETED");
  });

  test("is mirrored, and nobody sees it", async () => {
    await offered("mirrored", {}, { mirror: { agentId: "third", percent: 100 } });
    const task = await begin("mirrored");
    (await first.turn()).task(TaskState.COMPLETED);
    (await third.turn()).task(TaskState.COMPLETED);
    await counted('signalbox_mirrors_total{outcome="same"} 1');
    expect(statusOf(await client.waitFor(task.id))).toBe("COMPLETED");
    expect((await client.a2a.listTasks({ contextId: task.contextId })).tasks).toHaveLength(1);
  });
});

test("a task that went on survives kill -9 at the agent that has it", async () => {
  const dataDir = await pgliteDirectory();
  onTestFinished(() => rm(dataDir, { recursive: true, force: true }));
  const agent = await startTestAgent({ bindings: ["JSONRPC"] });
  onTestFinished(() => agent.close());
  const start = () => startServer({ "data.dir": dataDir });
  let server = await start();
  onTestFinished(() => server.signal("SIGKILL"));
  const register = (agentId: string, card: typeof agent.card) =>
    server.client.registry.registerAgent({ agentId, source: { case: "card", value: card } });
  await register("away", through(agent.card, 1));
  await register("there", agent.card);
  await server.client.registry.setDefaultAgent({ agentId: "away" });
  await server.client.rollouts.updateRollout({
    rollout: { fallbackChain: [{ target: { case: "agentId", value: "there" } }] },
  });
  const task = asTask(await server.client.send("slow", { wait: false }));
  await vi.waitFor(async () => {
    const { status } = await server.client.a2a.getTask({ id: task.id });
    expect(status?.state).toBe(TaskState.WORKING);
  }, PATIENCE);
  server.signal("SIGKILL");
  await server.exit;
  server = await start();
  agent.release();
  expect(statusOf(await server.client.waitFor(task.id))).toBe("COMPLETED");
  expect(agent.received).toHaveLength(1);
  expect(await server.client.tasks.getTaskExecution({ taskId: task.id })).toMatchObject({ agentId: "there" });
});
