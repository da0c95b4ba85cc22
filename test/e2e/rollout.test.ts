/** Rollouts on the road: a whole server, agents that are functions in it, and one at an address. */
import { legacyPushNotificationToV1StreamResponse } from "@a2a-js/sdk/compat/v0_3";
import { Code, ConnectError } from "@connectrpc/connect";
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type Task, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { FallbackCondition } from "../../gen/signalbox/v1/rollout_pb.ts";
import { isInCanary } from "../../src/domain/routing/canary.ts";
import { createSignalboxClient, type SendOptions, type SignalboxClient, sendRequest } from "../../src/sdk/client.ts";
import { startTestAgent } from "../agents/test-agent.ts";
import { readEvents } from "../conformance/bindings/server-sent-events.ts";
import { act } from "../conformance/scripted-agent.ts";
import { startTestApp, type TestApp } from "./running-app.ts";

let app: TestApp;
let client: SignalboxClient;

beforeAll(async () => {
  app = await startTestApp({ agents: { home: act, spare: act } });
  client = createSignalboxClient({ baseUrl: app.httpUrl });
  const remote = await startTestAgent({ name: "Far" });
  await app.register("far", { cardUrl: remote.cardUrl });
  for (const [agentId, version] of [
    ["home", "1"],
    ["far", "2"],
  ] as const) {
    const capability = { capabilityId: "translate", labels: { version }, costPerTask: "0.10", maxConcurrency: 1 };
    await client.registry.addCapability({ agentId, capability });
  }
  return async () => {
    await app.stop();
    await remote.close();
  };
});

type Change = NonNullable<Parameters<SignalboxClient["rollouts"]["updateRollout"]>[0]["rollout"]>;
const steer = (rollout: Change) => client.rollouts.updateRollout({ rollout });

beforeEach(async () => {
  for (const { capabilityId } of (await client.rollouts.listRollouts({})).rollouts) await steer({ capabilityId });
});

const translate = (more: SendOptions = {}): SendOptions => ({ capability: "translate", ...more });
const preview = (contextId = "", options: SendOptions = translate()) =>
  client.routes.previewRoute({ request: sendRequest("complete", { ...options, contextId }) });
const refusal = (call: Promise<unknown>) =>
  call.then(
    () => expect.unreachable("it was not refused"),
    (error: unknown) => ConnectError.from(error),
  );

async function done(options: SendOptions, text = "complete") {
  const task = (await client.send(text, options)) as Task;
  expect(task.status?.state).toBe(TaskState.COMPLETED);
  return { task, decision: await client.routes.getRouteDecision({ taskId: task.id }) };
}

const CONTEXTS = Array.from({ length: 60 }, (_, i) => `context-${i}`);
const canary = (canaryPercent: number): Change => ({
  capabilityId: "translate",
  canaryEnabled: true,
  canaryPercent,
  canaryTarget: { target: { case: "version", value: "2" } },
});

describe("a canary", () => {
  test("of 0, 30 and 100 percent gets the contexts of its share, and keeps them", async () => {
    const before = new Set<string>();
    for (const percent of [0, 30, 100]) {
      await steer(canary(percent));
      const taken = new Set<string>();
      for (const contextId of CONTEXTS) {
        const { agentId, rollout, cuts } = await preview(contextId);
        const isCanary = isInCanary(contextId, "translate", percent);
        expect({ agentId, canary: rollout?.canary }).toEqual({ agentId: isCanary ? "far" : "home", canary: isCanary });
        expect(cuts).toMatchObject([{ reason: "CANARY", count: 1, agentIds: [isCanary ? "home" : "far"] }]);
        if (isCanary) taken.add(contextId);
      }
      for (const contextId of before) expect(taken).toContain(contextId);
      before.clear();
      for (const contextId of taken) before.add(contextId);
    }
    expect(before.size).toBe(CONTEXTS.length);
  });

  test("gets whole tasks, and the record says so", async () => {
    await steer(canary(30));
    const inside = CONTEXTS.find((id) => isInCanary(id, "translate", 30))!;
    const outside = CONTEXTS.find((id) => !isInCanary(id, "translate", 30))!;
    for (const [contextId, agentId] of [
      [inside, "far"],
      [outside, "home"],
    ] as const) {
      const { decision } = await done(translate({ contextId }));
      expect(decision).toMatchObject({ agentId, rollout: { canary: agentId === "far" } });
    }
  });

  test("gets its share of what has no context of its own", async () => {
    await steer(canary(50));
    const agents: string[] = [];
    for (let i = 0; i < 200; i++) agents.push((await preview()).agentId);
    // Seven standard deviations of the binomial distribution.
    expect(Math.abs(agents.filter((id) => id === "far").length - 100)).toBeLessThan(50);
  });

  test("takes what nobody else can", async () => {
    await steer(canary(0));
    const options = translate({ routing: { labels: { version: "2" } } });
    expect((await done(options)).decision).toMatchObject({ agentId: "far", rollout: { canary: true } });
  });
});

test("a capability has an address for its rollout, and the workspace one for its own and for alerts", async () => {
  const call = async (method: string, path: string, body?: object) => {
    const headers = { "content-type": "application/json" };
    const init = { method, headers, ...(body && { body: JSON.stringify(body) }) };
    return (await fetch(`${app.httpUrl}${path}`, init)).json() as Promise<Record<string, unknown>>;
  };
  const path = "/v1/capabilities/translate/rollout?updateMask=rollbackToLocal,canaryPercent";
  expect(await call("PATCH", path, { canaryPercent: 7, routeModeDefault: "ROUTE_MODE_LOCAL" })).toMatchObject({
    capabilityId: "translate",
    canaryPercent: 7,
    routeModeDefault: "ROUTE_MODE_AUTO",
  });
  expect(await call("GET", "/v1/capabilities/translate/rollout")).toMatchObject({ canaryPercent: 7 });
  // Without a mask, what the body does not name stays.
  const whole = "/v1/capabilities/translate/rollout";
  const local = { routeModeDefault: "ROUTE_MODE_LOCAL" };
  expect(await call("PATCH", whole, { routeModeDefault: "LOCAL" })).toMatchObject({ canaryPercent: 7, ...local });
  expect(await call("PATCH", `${whole}?updateMask=*`, local)).not.toHaveProperty("canaryPercent");
  expect(await call("PATCH", whole, { canaryPercent: 7 })).toMatchObject({ canaryPercent: 7, ...local });
  expect(await call("PATCH", whole, {})).toMatchObject({ error: { status: "INVALID_ARGUMENT" } });
  await call("PATCH", "/v1/rollout?updateMask=rollback_to_local", { rollbackToLocal: true });
  expect(await call("GET", "/v1/rollout")).toMatchObject({ rollbackToLocal: true });
  const { rollouts } = (await call("GET", "/v1/rollouts")) as { rollouts: { capabilityId?: string }[] };
  expect(rollouts.map(({ capabilityId }) => capabilityId).slice(0, 2)).toEqual([undefined, "translate"]);
  expect(await call("GET", "/v1/alerts?crossedOnly=false")).toMatchObject({ alerts: expect.any(Array) });
});

describe("a rollback to local", () => {
  test("of the workspace sends everything to agents in the process, whatever else is said", async () => {
    await steer({ ...canary(100) });
    await steer({ rollbackToLocal: true });
    const { decision } = await done(translate({ routing: { routeMode: "REMOTE" } }));
    expect(decision).toMatchObject({ agentId: "home", rollout: { routeMode: 2, canary: false } });
    expect(decision.cuts).toMatchObject([{ reason: "ROUTE_MODE", agentIds: ["far"] }]);
    const named = await refusal(client.send("complete", { agent: "far" }));
    expect(named.code).toBe(Code.FailedPrecondition);
    expect(named.rawMessage).toContain("1 are not where the task may go");
    await steer({ rollbackToLocal: false });
    expect((await done({ agent: "far" })).decision.agentId).toBe("far");
  });

  test("is what a message may ask for by its route mode", async () => {
    for (const [routeMode, agentId] of [
      ["LOCAL", "home"],
      ["REMOTE", "far"],
    ] as const) {
      const { decision } = await done(translate({ routing: { routeMode } }));
      expect(decision.agentId).toBe(agentId);
    }
    await steer({ capabilityId: "translate", routeModeDefault: 3 });
    expect((await preview()).agentId).toBe("far");
  });
});

describe("a fallback", () => {
  const chain: Change = {
    capabilityId: "translate",
    fallbackChain: [{ target: { case: "agentId", value: "spare" } }],
  };

  test("takes what does not fit, and its client finds the task where it sent it", async () => {
    const dear = translate({ routing: { labels: {}, maxCost: "0.01" } });
    expect((await refusal(client.send("complete", dear))).code).toBe(Code.FailedPrecondition);
    await steer(chain);
    const { task, decision } = await done(dear);
    expect(decision).toMatchObject({
      agentId: "spare",
      capabilityId: "translate",
      rollout: {
        fallbackStep: { target: { case: "agentId", value: "spare" } },
        fallbackCondition: FallbackCondition.NO_CANDIDATE,
      },
    });
    expect(decision.cuts).toMatchObject([{ reason: "MAX_COST", count: 2 }]);
    expect(await client.a2a.getTask({ tenant: "c.translate", id: task.id })).toMatchObject({ id: task.id });
    const listed = await client.a2a.listTasks({ tenant: "c.translate" });
    expect(listed.tasks.map(({ id }) => id)).toContain(task.id);
  });

  test("takes what all are too full for", async () => {
    await steer(chain);
    const held: Task[] = [];
    for (const agent of ["home", "far"] as const) {
      const text = agent === "home" ? "work" : "slow";
      const routing = { labels: { version: agent === "home" ? "1" : "2" } };
      held.push((await client.send(text, translate({ routing, wait: false } as SendOptions))) as Task);
    }
    const { decision } = await done(translate());
    expect(decision).toMatchObject({ agentId: "spare", rollout: { fallbackCondition: FallbackCondition.FULL } });
    expect(decision.cuts).toMatchObject([{ reason: "FULL", count: 2 }]);
    for (const { id } of held) await client.a2a.cancelTask({ id });
  });

  test("takes what is for a capability that nobody offers any more", async () => {
    const gone = { capability: "gone" };
    expect((await refusal(client.send("complete", gone))).code).toBe(Code.NotFound);
    await steer({ capabilityId: "gone" });
    const nobody = await refusal(client.send("complete", gone));
    expect(nobody.rawMessage).toContain("No agent offers the capability now");
    await steer({ ...chain, capabilityId: "gone" });
    const { task, decision } = await done(gone);
    expect(decision).toMatchObject({ agentId: "spare", capabilityId: "gone" });
    expect(await client.a2a.getTask({ tenant: "c.gone", id: task.id })).toMatchObject({ id: task.id });
  });
});

describe("old event keys", () => {
  // biome-ignore lint/suspicious/noExplicitAny: tests look into JSON as it comes
  type Item = any;
  const message = { messageId: "m1", role: "ROLE_USER", parts: [{ text: "chunks" }] };
  const STANDARD = ["task", "message", "statusUpdate", "artifactUpdate"];

  async function items(binding: "HTTP+JSON" | "JSON-RPC"): Promise<Item[]> {
    const request = { tenant: "c.translate", message, metadata: { "urn:signalbox:a2a:routing:v1": { agent: "home" } } };
    const rpc = { jsonrpc: "2.0", id: 1, method: "SendStreamingMessage", params: request };
    const response = await fetch(`${app.httpUrl}${binding === "JSON-RPC" ? "/rpc" : "/message:stream"}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(binding === "JSON-RPC" ? rpc : request),
    });
    const found: Item[] = [];
    for await (const { data } of readEvents(response.body!)) found.push(JSON.parse(data));
    return binding === "JSON-RPC" ? found.map(({ result }) => result) : found;
  }

  test.each(["HTTP+JSON", "JSON-RPC"] as const)(
    "are read by a reader of 0.3 in %s, and only where they are on",
    async (binding) => {
      const plain = await items(binding);
      for (const item of plain) expect(STANDARD).toEqual(expect.arrayContaining(Object.keys(item)));
      await steer({ capabilityId: "translate", dualEventWrite: true, compatibilityMode: 2 });
      const dual = await items(binding);
      expect(dual.length).toBe(plain.length);
      const kinds = dual.map((item) => {
        const old = Object.fromEntries(Object.entries(item).filter(([key]) => !STANDARD.includes(key)));
        const { payload } = legacyPushNotificationToV1StreamResponse(old);
        expect(Object.keys(item)[0]).toBe(payload?.$case);
        return old.kind;
      });
      expect(kinds).toEqual(plain.map((item) => OLD_KIND[Object.keys(item)[0]!]));
      expect(dual.at(-1)).toMatchObject({ kind: "status-update", final: true, status: { state: "completed" } });
      expect(dual.find(({ kind }) => kind === "artifact-update")).toMatchObject({
        artifact: { artifactId: "story", parts: [{ kind: "text" }] },
        append: false,
      });
    },
  );

  const OLD_KIND: Record<string, string> = {
    task: "task",
    statusUpdate: "status-update",
    artifactUpdate: "artifact-update",
  };
});

describe("alerts", () => {
  const errors = async (capabilityId: string) =>
    (await client.rollouts.listAlerts({})).alerts.find(
      (alert) => alert.capabilityId === capabilityId && alert.signal === "error_rate",
    );
  const metric = async (name: string) =>
    (await (await fetch(`${app.httpUrl}/metrics`)).text()).split("\n").find((line) => line.startsWith(name));
  const LABELS = '{workspace="default",capability="shaky",signal="error_rate"}';

  test("are crossed by what fails, and no more when enough goes well, or the threshold is another", async () => {
    await client.registry.addCapability({ agentId: "spare", capability: { capabilityId: "shaky" } });
    const shaky = { capability: "shaky" };
    expect(await errors("shaky")).toBeUndefined();
    await steer({ capabilityId: "shaky", alertThresholds: { errorRate: 0.5 } });
    await client.send("fail", shaky);
    expect(await errors("shaky")).toMatchObject({ value: 1, threshold: 0.5, crossed: true, samples: 1n });
    expect(await metric(`signalbox_alert${LABELS}`)).toBe(`signalbox_alert${LABELS} 1`);
    expect((await client.rollouts.listAlerts({ crossedOnly: true })).alerts.every(({ crossed }) => crossed)).toBe(true);
    await done(shaky);
    expect(await errors("shaky")).toMatchObject({ value: 0.5, crossed: false, samples: 2n });
    expect(await metric(`signalbox_alert${LABELS}`)).toBe(`signalbox_alert${LABELS} 0`);
    expect(await metric(`signalbox_alert_value${LABELS}`)).toBe(`signalbox_alert_value${LABELS} 0.5`);
    await steer({ capabilityId: "shaky", alertThresholds: { errorRate: 0.4 } });
    expect(await errors("shaky")).toMatchObject({ threshold: 0.4, crossed: true });
    const { alerts } = await client.rollouts.listAlerts({});
    expect(alerts.slice(0, 4).map(({ capabilityId, signal }) => [capabilityId, signal])).toEqual(
      ["error_rate", "p95_ms", "retry_rate", "circuit_open_rate"].map((signal) => ["", signal]),
    );
    expect(alerts.find(({ signal }) => signal === "circuit_open_rate")).toMatchObject({ value: 0, samples: 3n });
  });
});
