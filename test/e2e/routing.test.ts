/** Which agent gets a task, and what is kept of why: a whole server, with agents that are functions in it. */
import { Code, ConnectError } from "@connectrpc/connect";
import { beforeAll, describe, expect, test } from "vitest";
import { TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { RouteSource } from "../../gen/signalbox/v1/routing_pb.ts";
import {
  createSignalboxClient,
  type SendOptions,
  type SignalboxClient,
  sendRequest,
  userMessage,
} from "../../src/sdk/client.ts";
import { act } from "../conformance/scripted-agent.ts";
import { inProcessCard, startTestApp, type TestApp } from "./running-app.ts";

/** Agents that translate, each in its own way, and one that only sings. */
const TRANSLATORS = {
  cheap: { costPerTask: "0.01", labels: { region: "eu" }, averageLatencyMs: "900" },
  fast: { costPerTask: "0.50", labels: { region: "us" }, averageLatencyMs: "20" },
  plain: { costPerTask: "0.10", labels: { region: "eu" }, averageLatencyMs: "300" },
};

let app: TestApp;
let client: SignalboxClient;

beforeAll(async () => {
  app = await startTestApp({ agents: { singer: act } });
  client = createSignalboxClient({ baseUrl: app.httpUrl });
  for (const [agentId, capability] of Object.entries(TRANSLATORS)) {
    await app.register(agentId, { card: cardOf(agentId, "translate", "Translates texts between languages.") });
    await client.registry.addCapability({
      agentId,
      capability: {
        ...capability,
        capabilityId: "translate",
        averageLatencyMs: BigInt(capability.averageLatencyMs),
        inputSchema: { type: "object", required: ["text"], properties: { text: { type: "string", maxLength: 20 } } },
      },
    });
  }
  await client.registry.setDefaultAgent({ agentId: "singer" });
  return () => app.stop();
});

function cardOf(name: string, skill: string, description: string) {
  const skills = [{ id: skill, name: skill, description, tags: ["language"] }];
  const supportedInterfaces = [{ url: "in-process:singer", protocolBinding: "IN-PROCESS", protocolVersion: "1.0" }];
  return { ...inProcessCard(name), skills, supportedInterfaces };
}

/** Sends a message to its end and tells what was decided of it. */
async function routed(text: string, options: SendOptions = {}) {
  const task = await client.send(text, options);
  if (task.$typeName !== "lf.a2a.v1.Task") throw new Error("the agent answered with a message");
  expect(task.status?.state).toBe(TaskState.COMPLETED);
  return client.routes.getRouteDecision({ taskId: task.id });
}

const refusal = (call: Promise<unknown>) =>
  call.then(
    () => expect.unreachable("it was not refused"),
    (error: unknown) => ConnectError.from(error),
  );

describe("where a task goes", () => {
  test("to an agent that is named", async () => {
    const decision = await routed("complete", { agent: "plain" });
    expect(decision).toMatchObject({ source: RouteSource.TENANT, agentId: "plain", capabilityId: "", strategy: "" });
  });

  test("to the best of those that have a capability, by the strategy that is asked for", async () => {
    const options = { capability: "translate" };
    const cheapest = await routed("complete", { ...options, routing: { strategy: "lowest-cost" } });
    expect(cheapest).toMatchObject({ agentId: "cheap", capabilityId: "translate", strategy: "LOWEST_COST" });
    expect(cheapest.candidates.map(({ agentId, cost }) => [agentId, cost])).toEqual([
      ["cheap", "0.01"],
      ["plain", "0.1"],
      ["fast", "0.5"],
    ]);
    const turns = new Set<string>();
    for (let i = 0; i < 3; i++)
      turns.add((await routed("complete", { ...options, routing: { strategy: "ROUND_ROBIN" } })).agentId);
    expect(turns).toEqual(new Set(Object.keys(TRANSLATORS)));
  });

  test("and its context stays with one agent by affinity", async () => {
    const options = { capability: "translate", contextId: "c-17", routing: { strategy: "affinity" } };
    const agents = new Set<string>();
    for (let i = 0; i < 5; i++) agents.add((await routed("complete", options)).agentId);
    expect(agents.size).toBe(1);
  });

  test("to none that does not fit, and the record says what cut it", async () => {
    const decision = await routed("complete", {
      capability: "translate",
      routing: { labels: { region: "eu" }, maxCost: "0.05" },
    });
    expect(decision).toMatchObject({ agentId: "cheap", candidateCount: 1, strategy: "" });
    expect(decision.cuts.map(({ reason, count, agentIds }) => [reason, count, agentIds])).toEqual([
      ["LABELS", 1, ["fast"]],
      ["MAX_COST", 1, ["plain"]],
    ]);
  });

  test("to none that does not take its media type for the capability, whatever else its agent takes", async () => {
    const message = userMessage("complete");
    message.parts[0]!.mediaType = "image/png";
    await client.registry.addCapability({
      agentId: "fast",
      capability: { capabilityId: "look", inputModes: ["image/png"] },
    });
    const look = await client.routes.previewRoute({ request: sendRequest(message, { capability: "look" }) });
    expect(look.agentId).toBe("fast");
    const error = await refusal(client.send(message, { capability: "translate" }));
    expect(error.rawMessage).toContain('the agent does not take "image/png". It takes text/plain.');
    await client.registry.removeCapability({ agentId: "fast", capabilityId: "look" });
  });

  test("where its text fits, and to the default where no text fits", async () => {
    const fits = await client.routes.previewRoute({ request: sendRequest("Please translate this for me", {}) });
    expect(fits).toMatchObject({ source: RouteSource.TEXT, capabilityId: "translate", candidateCount: 3 });
    expect(fits.matches[0]?.capabilityId).toBe("translate");
    const other = await client.routes.previewRoute({ request: sendRequest("zzz qqq", {}) });
    expect(other).toMatchObject({
      source: RouteSource.DEFAULT,
      agentId: "singer",
      candidates: [{ agentId: "singer" }],
    });
  });

  test("to one with fewer tasks than the others", async () => {
    const options = { capability: "translate", routing: { strategy: "LEAST_LOAD" } };
    const held = await Promise.all([1, 2].map(() => client.send("work", { ...options, wait: false })));
    const ids = held.map((task) => ("id" in task ? task.id : ""));
    const busy = await Promise.all(ids.map((taskId) => client.routes.getRouteDecision({ taskId })));
    const decision = await routed("complete", options);
    expect(busy.map(({ agentId }) => agentId)).not.toContain(decision.agentId);
    await Promise.all(ids.map((id) => client.a2a.cancelTask({ id })));
  });
});

describe("what is refused", () => {
  test("when nothing fits, with how many were cut by what", async () => {
    const error = await refusal(
      client.send("complete", { capability: "translate", routing: { labels: { region: "eu" }, maxCost: "0" } }),
    );
    expect(error.code).toBe(Code.FailedPrecondition);
    expect(error.rawMessage).toContain("None of the 3 agents in question can take the task");
  });

  test("an extension that contradicts the target", async () => {
    const metadata = { "urn:signalbox:a2a:routing:v1": { agent: "fast" } };
    const error = await refusal(client.send("complete", { agent: "cheap", metadata }));
    expect(error.code).toBe(Code.InvalidArgument);
    expect(error.rawMessage).toContain('metadata["urn:signalbox:a2a:routing:v1"].agent');
  });

  test("a strategy that there is not, and a capability that nobody has", async () => {
    const unknown = await refusal(client.send("complete", { routing: { strategy: "best" } }));
    expect(unknown.code).toBe(Code.InvalidArgument);
    expect(unknown.rawMessage).toContain("strategy");
    const metadata = { "urn:signalbox:a2a:routing:v1": { capability: "fly" } };
    expect((await refusal(client.send("complete", { metadata }))).code).toBe(Code.NotFound);
  });

  test("the decision of a task that there is not", async () => {
    expect((await refusal(client.routes.getRouteDecision({ taskId: "nope" }))).code).toBe(Code.NotFound);
  });
});
