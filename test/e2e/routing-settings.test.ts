/** How a workspace routes, and what becomes of a message that no agent can take: through every binding, and on two servers. */
import { fromJson, type JsonObject, type JsonValue } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { afterEach, beforeAll, describe, expect, test } from "vitest";
import { A2AService, TaskSchema, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { RouteSource, WhenNothingFits } from "../../gen/signalbox/v1/routing_pb.ts";
import { EngineState } from "../../src/domain/task-state.ts";
import { createSignalboxClient, type SignalboxClient, sendRequest } from "../../src/sdk/client.ts";
import { BINDINGS } from "../conformance/bindings/all-bindings.ts";
import { act } from "../conformance/scripted-agent.ts";
import { startWebhook } from "../fault/webhook.ts";
import { createDatabase } from "../store/backends.ts";
import { inProcessCard, startTestApp, type TestApp } from "./running-app.ts";

const { REFUSE, REJECT } = WhenNothingFits;
const NOBODY = "None of the 2 agents in question can take the task: 2 do not have the labels.";

const cardOf = (name: string, skill: string, description: string) => ({
  ...inProcessCard(name),
  skills: [{ id: skill, name: skill.toUpperCase(), description, tags: ["test"] }],
  supportedInterfaces: [{ url: "in-process:actor", protocolBinding: "IN-PROCESS", protocolVersion: "1.0" }],
});

const says = (text: string, more: JsonObject = {}): JsonObject => ({
  message: { messageId: "m1", role: "ROLE_USER", parts: [{ text }] },
  ...more,
});
const mars = { metadata: { "urn:signalbox:a2a:routing:v1": { labels: { planet: "mars" } } } };

const refusal = (call: Promise<unknown>) =>
  call.then(
    () => expect.unreachable("it was not refused"),
    (error: unknown) => ConnectError.from(error),
  );

describe("on one server", () => {
  let app: TestApp;
  let client: SignalboxClient;

  beforeAll(async () => {
    app = await startTestApp({ agents: { actor: act } });
    client = createSignalboxClient({ baseUrl: app.httpUrl });
    await client.registry.deregisterAgent({ agentId: "actor" });
    await app.register("ann", { card: cardOf("ann", "translate", "Translates texts between languages.") });
    await app.register("ben", { card: cardOf("ben", "sing", "Sings songs of the sea.") });
    return () => app.stop();
  });
  afterEach(() => client.routes.updateRoutingSettings({ routingSettings: {} }));

  const whenNothingFits = (what: WhenNothingFits) =>
    client.routes.updateRoutingSettings({
      routingSettings: { whenNothingFits: what },
      updateMask: { paths: ["when_nothing_fits"] },
    });

  test("a message that no agent can take is refused, with the nearest skills first", async () => {
    await whenNothingFits(REFUSE);
    const far = await refusal(client.send("xyzzy"));
    expect(far.code).toBe(Code.FailedPrecondition);
    expect(far.rawMessage).toContain(
      "Name one in tenant, or set a default: signalbox agents default ID. Skills: SING (c.sing), TRANSLATE (c.translate).",
    );
    const near = await refusal(client.send("Who translates this?", { metadata: mars.metadata as JsonObject }));
    expect(near.rawMessage).toContain("Nearest skills: TRANSLATE (c.translate), SING (c.sing).");
    const { totalSize } = await client.a2a.listTasks({});
    expect(totalSize).toBe(0);
  });

  describe.each(BINDINGS.map((binding) => [binding.name, binding] as const))("over %s", (_, binding) => {
    async function answers(rpc: keyof typeof A2AService.method, request: JsonObject): Promise<JsonValue[]> {
      const connected = binding.connect(app);
      try {
        const signal = AbortSignal.timeout(20_000);
        const call = { method: A2AService.method[rpc], request, headers: { "A2A-Version": "1.0" }, signal };
        const items: JsonValue[] = [];
        for await (const item of connected.call(call)) items.push(item);
        return items;
      } finally {
        connected.close();
      }
    }
    const taskOf = (answer: JsonValue | undefined) => fromJson(TaskSchema, (answer as { task: JsonValue }).task);

    test("or becomes a task that is REJECTED, when the workspace says so", async () => {
      await whenNothingFits(REJECT);
      const contextId = `of-${binding.name.replace(/\W/g, "-")}`;
      const request = says("xyzzy", mars);
      (request.message as JsonObject).contextId = contextId;
      for (const configuration of [{}, { returnImmediately: true }]) {
        const [answer, ...more] = await answers("sendMessage", { ...request, configuration });
        expect(more).toEqual([]);
        const task = taskOf(answer);
        expect(task).toMatchObject({ contextId, history: [{ messageId: "m1", taskId: task.id }] });
        expect(task.status?.state).toBe(TaskState.REJECTED);
        expect(task.status?.message?.parts[0]?.content.value).toContain(NOBODY);
        const [read] = await answers("getTask", { id: task.id });
        expect(fromJson(TaskSchema, read!)).toEqual(task);
      }
      const [shown, ...further] = await answers("sendStreamingMessage", request);
      expect(further).toEqual([]);
      expect(taskOf(shown).status?.state).toBe(TaskState.REJECTED);
      const [list] = await answers("listTasks", { contextId, status: "TASK_STATE_REJECTED" });
      expect(list).toMatchObject({ totalSize: 3, tasks: [{ id: taskOf(shown).id }, {}, {}] });
    });
  });

  test("sent again under its key, it is the same one", async () => {
    await whenNothingFits(REJECT);
    const options = { idempotencyKey: crypto.randomUUID(), metadata: mars.metadata as JsonObject };
    const task = await client.send("xyzzy", options);
    expect(await client.send("xyzzy", options)).toEqual(task);
    expect(await client.send("xyzzy", { ...options, wait: false })).toEqual(task);
    expect((await refusal(client.send("plugh", options))).code).toBe(Code.AlreadyExists);
  });

  test("it leaves nothing in the result cache", async () => {
    await whenNothingFits(REJECT);
    const capability = { capabilityId: "translate", costPerTask: "1", cacheTtlMs: 60_000n };
    await client.registry.addCapability({ agentId: "ann", capability });
    const task = await client.send("Hello", { capability: "translate", routing: { maxCost: "0" } });
    expect("id" in task && task.status?.state).toBe(TaskState.REJECTED);
    expect((await client.cache.getCacheStats({})).entries).toBe(0n);
    await client.registry.removeCapability({ agentId: "ann", capabilityId: "translate" });
  });

  test("its decision says what cut the agents; it takes no message, no cancel, and shows in its log", async () => {
    await whenNothingFits(REJECT);
    const task = await client.send("xyzzy", { metadata: mars.metadata as JsonObject });
    if (task.$typeName !== "lf.a2a.v1.Task") return expect.unreachable("no task");
    const decision = await client.routes.getRouteDecision({ taskId: task.id });
    expect(decision).toMatchObject({ source: RouteSource.EXTENSION, agentId: "", candidates: [], candidateCount: 0 });
    expect(decision.cuts).toMatchObject([{ reason: "LABELS", count: 2, agentIds: ["ann", "ben"] }]);
    expect(decision.settingsRevision).toBe((await client.routes.getRoutingSettings({})).revision);
    expect((await refusal(client.send("And?", { taskId: task.id }))).code).toBe(Code.FailedPrecondition);
    expect((await refusal(client.a2a.cancelTask({ id: task.id }))).code).toBe(Code.FailedPrecondition);
    expect(await client.tasks.getTaskExecution({ taskId: task.id })).toMatchObject({ agentId: "", replicaId: "" });
    const { transitions } = await client.tasks.listTaskTransitions({ taskId: task.id });
    expect(transitions.map(({ state, cause }) => [state, cause])).toEqual([
      [EngineState.QUEUED, ""],
      [EngineState.REJECTED, "no agent can take it"],
    ]);
    // Where nothing says where to look, there is nothing that was cut.
    const lost = await client.send("xyzzy");
    const { cuts, source } = await client.routes.getRouteDecision({ taskId: "id" in lost ? lost.id : "" });
    expect([cuts, source]).toEqual([[], RouteSource.UNSPECIFIED]);
    // A preview tells what it would.
    const preview = await refusal(client.routes.previewRoute({ request: sendRequest("xyzzy", {}) }));
    expect(preview.code).toBe(Code.FailedPrecondition);
  });

  test("it is seen through the target that it was sent to, and through no other", async () => {
    await whenNothingFits(REJECT);
    const cost = { maxCost: "0" };
    await client.registry.addCapability({
      agentId: "ann",
      capability: { capabilityId: "translate", costPerTask: "1" },
    });
    for (const [options, tenant, other] of [
      [{ capability: "translate", routing: cost }, "c.translate", "a.ann"],
      [{ agent: "ben", routing: { labels: { planet: "mars" } } }, "a.ben", "c.sing"],
    ] as const) {
      const task = await client.send("Hello", options);
      const id = "id" in task ? task.id : "";
      expect((await client.a2a.getTask({ tenant, id })).status?.state).toBe(TaskState.REJECTED);
      expect((await refusal(client.a2a.getTask({ tenant: other, id }))).code).toBe(Code.NotFound);
      const { tasks } = await client.a2a.listTasks({ tenant });
      expect(tasks.map((each) => each.id)).toContain(id);
    }
    await client.registry.removeCapability({ agentId: "ann", capabilityId: "translate" });
  });

  test("what the one agent in question answers itself is an error as before", async () => {
    await whenNothingFits(REJECT);
    const image = sendRequest("Look", { agent: "ann" });
    image.message!.parts[0]!.mediaType = "image/png";
    expect((await refusal(client.a2a.sendMessage(image))).rawMessage).toContain("does not take");
    const nobody = { tenant: "a.nobody", message: image.message! };
    expect((await refusal(client.a2a.sendMessage(nobody))).code).toBe(Code.NotFound);
  });

  test("its webhook hears of it", async () => {
    await whenNothingFits(REJECT);
    const webhook = await startWebhook();
    const request = sendRequest("xyzzy", {});
    await client.a2a.sendMessage({
      message: request.message!,
      configuration: { taskPushNotificationConfig: { url: webhook.url } },
    });
    const { body } = await webhook.next();
    expect(body.payload).toMatchObject({ case: "statusUpdate", value: { status: { state: TaskState.REJECTED } } });
    await webhook.close();
  });

  test("the strategy and the weights of the workspace choose, and those of a message go before them", async () => {
    for (const [agentId, costPerTask] of [
      ["ann", "0.5"],
      ["ben", "0.1"],
    ])
      await client.registry.addCapability({
        agentId: agentId!,
        capability: { capabilityId: "draw", costPerTask: costPerTask! },
      });
    const decided = async (routing = {}) => {
      const task = await client.send("complete", { capability: "draw", routing });
      return client.routes.getRouteDecision({ taskId: "id" in task ? task.id : "" });
    };
    const byDefault = await decided();
    expect([byDefault.strategy, byDefault.weights]).toEqual(["LEAST_LOAD", undefined]);
    const { revision } = await client.routes.updateRoutingSettings({
      routingSettings: { strategy: "weighted-score", weights: { cost: 5 } },
    });
    const weighted = await decided();
    expect(weighted).toMatchObject({ strategy: "WEIGHTED_SCORE", agentId: "ben", settingsRevision: revision });
    expect(weighted.weights).toMatchObject({ load: 0, cost: 5 });
    expect(weighted.candidates.map(({ score }) => score)).toEqual([1, 5]);
    expect(await decided({ strategy: "ROUND_ROBIN" })).toMatchObject({ strategy: "ROUND_ROBIN" });

    const replayed = await client.routes.replayRoutes({ strategy: "LOWEST_COST", capabilityId: "draw" });
    expect(replayed).toMatchObject({ decisionCount: 3, openCount: 3, partialCount: 0, hasMore: false, agentCount: 2 });
    expect(replayed.after?.cost).toBe("0.3");
    expect(replayed.changes.length).toBe(replayed.changedCount);
    for (const { fromAgentId, toAgentId } of replayed.changes) expect([fromAgentId, toAgentId]).toEqual(["ann", "ben"]);
    expect(replayed.unchanged?.endedCount).toBe(3 - replayed.changedCount);
    expect(replayed.unchanged?.completedCount).toBe(replayed.unchanged?.endedCount);
    const before = await client.routes.replayRoutes({
      strategy: "AFFINITY",
      endTime: timestampFromMs(Date.now() - 3_600_000),
    });
    expect(before).toMatchObject({ decisionCount: 0, before: { cost: "0", success: 0 }, shares: [] });
  });
});

test("what one of two servers is told, the other one does soon", async () => {
  const database = await createDatabase();
  const flags = { "database.url": database.url };
  const [one, two] = [await startTestApp({ flags, agents: { actor: act } }), await startTestApp({ flags })];
  try {
    const [near, far] = [one, two].map(({ httpUrl }) => createSignalboxClient({ baseUrl: httpUrl }));
    await one.register("ann", { card: cardOf("ann", "translate", "Translates.") });
    expect((await refusal(far!.send("xyzzy", { metadata: mars.metadata as JsonObject }))).code).toBe(
      Code.FailedPrecondition,
    );
    await near!.routes.updateRoutingSettings({ routingSettings: { whenNothingFits: REJECT } });
    // Until it has heard of it, it refuses. How long that is, a clock of its own tells in test/services.
    const ask = () => far!.send("xyzzy", { metadata: mars.metadata as JsonObject }).catch(() => undefined);
    let answer = await ask();
    while (!answer) answer = await ask();
    expect(answer).toMatchObject({ status: { state: TaskState.REJECTED } });
  } finally {
    await Promise.all([one.stop(), two.stop()]);
    await database.drop();
  }
});
