/** Results that are given again, and requests that are sent again: a whole server, with agents that are functions in it. */
import { Code, ConnectError } from "@connectrpc/connect";
import { beforeAll, beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { type Message, type StreamResponse, type Task, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { RouteSource } from "../../gen/signalbox/v1/routing_pb.ts";
import { EngineState } from "../../gen/signalbox/v1/task_pb.ts";
import type { AgentHandler } from "../../src/outbound/in-process-channel.ts";
import {
  createSignalboxClient,
  ROUTING_EXTENSION,
  type SendOptions,
  type SignalboxClient,
  userMessage,
} from "../../src/sdk/client.ts";
import { startTestAgent } from "../agents/test-agent.ts";
import { act } from "../conformance/scripted-agent.ts";
import { startWebhook } from "../fault/webhook.ts";
import { startTestApp, type TestApp } from "./running-app.ts";

let app: TestApp;
let client: SignalboxClient;
/** Texts that the agent was given. */
let given: string[] = [];
/** Resolves when the agent may go on. */
let gate: PromiseWithResolvers<void> | undefined;

const agent: AgentHandler = async function* (message, context) {
  const { content } = message.parts[0]!;
  given.push(content.case === "text" ? content.value : "");
  await gate?.promise;
  yield* act(message, context) as AsyncGenerator;
} as AgentHandler;

beforeAll(async () => {
  app = await startTestApp({ agents: { worker: agent } });
  client = createSignalboxClient({ baseUrl: app.httpUrl });
  await client.registry.addCapability({ agentId: "worker", capability: { capabilityId: "work", cacheTtlMs: 60_000n } });
  return () => app.stop();
});

beforeEach(async () => {
  given = [];
  gate = undefined;
  await client.cache.clearCache({});
});

const WORK: SendOptions = { capability: "work" };

async function taskOf(answer: Promise<Task | Message>): Promise<Task> {
  const task = await answer;
  if (task.$typeName !== "lf.a2a.v1.Task") throw new Error("the agent answered with a message");
  return task;
}

async function itemsOf(stream: AsyncIterable<StreamResponse>) {
  const payloads: StreamResponse["payload"][] = [];
  for await (const { payload } of stream) payloads.push(payload);
  return payloads;
}

const refusal = (call: Promise<unknown>) =>
  call.then(
    () => expect.unreachable("it was not refused"),
    (error: unknown) => ConnectError.from(error),
  );

const textsOf = (task: Task) => ({
  artifacts: task.artifacts,
  said: [...task.history.slice(1), task.status!.message!].map(({ parts }) => parts),
  state: task.status?.state,
});

describe("a result", () => {
  test("is given again as a task of its own, which says where it comes from", async () => {
    const first = await taskOf(client.send("complete", WORK));
    const again = await taskOf(client.send("complete", WORK));
    expect(given).toEqual(["complete"]);
    expect(again.id).not.toBe(first.id);
    expect(again.contextId).not.toBe(first.contextId);
    expect(textsOf(again)).toEqual(textsOf(first));
    expect(again.status?.message).toMatchObject({ taskId: again.id, contextId: again.contextId });
    expect(first.metadata).toBeUndefined();
    expect(again.metadata).toEqual({ [ROUTING_EXTENSION]: { cachedFrom: first.id } });
    expect(await client.a2a.getTask({ id: again.id })).toEqual(again);
    const decision = await client.routes.getRouteDecision({ taskId: again.id });
    expect(decision).toMatchObject({ source: RouteSource.CACHE, agentId: "worker", capabilityId: "work" });
    const { transitions } = await client.tasks.listTaskTransitions({ taskId: again.id });
    expect(transitions.at(-1)).toMatchObject({
      state: EngineState.COMPLETED,
      cause: `the result of task ${first.id}`,
    });
    const stats = await client.cache.getCacheStats({});
    expect(stats).toMatchObject({ entries: 1n, capabilities: [{ capabilityId: "work", entries: 1n }] });
  });

  test("is streamed", async () => {
    await client.send("complete", WORK);
    const items = await itemsOf(client.stream("complete", WORK));
    expect(given).toHaveLength(1);
    expect(items[0]!.case).toBe("task");
    expect(items.some((item) => item.case === "artifactUpdate")).toBe(true);
    const last = items.at(-1)!;
    expect(last.case === "statusUpdate" && last.value.status?.state).toBe(TaskState.COMPLETED);
  });

  test("that is a bare message is one again", async () => {
    const first = await client.send("message", WORK);
    const again = await client.send("message", WORK);
    expect(given).toHaveLength(1);
    expect(again).toMatchObject({ $typeName: "lf.a2a.v1.Message", parts: (first as Message).parts });
    expect(again.metadata).toMatchObject({ [ROUTING_EXTENSION]: { cachedFrom: expect.any(String) } });
  });

  test("of the same input is found by any of the ways to name the capability", async () => {
    await client.send("complete", WORK);
    const metadata = { [ROUTING_EXTENSION]: { capability: "work", priority: "HIGH", strategy: "lowest-cost" } };
    await client.send("complete", { metadata });
    await fetch(`${app.httpUrl}/capabilities/work/message:send`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ message: { messageId: "x", role: "ROLE_USER", parts: [{ text: "complete" }] } }),
    });
    expect(given).toHaveLength(1);
  });

  test.each<[string, string, SendOptions]>([
    ["another input", "echo", WORK],
    ["other metadata", "complete", { ...WORK, metadata: { tone: "stern" } }],
    ["other labels", "complete", { ...WORK, metadata: { [ROUTING_EXTENSION]: { agent: "worker" } } }],
    ["no-store in the header", "complete", { ...WORK, noStore: true }],
    ["no-store in the extension", "complete", { ...WORK, metadata: { [ROUTING_EXTENSION]: { noStore: true } } }],
    ["a context", "complete", { ...WORK, contextId: "context" }],
    ["an agent that is named", "complete", { agent: "worker" }],
    ["a text that fits the agent", "complete", {}],
  ])("is not given for %s", async (_, text, options) => {
    await client.send("complete", WORK);
    await client.send(text, options);
    expect(given).toEqual(["complete", text]);
  });

  test("that is no-store is not kept", async () => {
    await client.send("complete", { ...WORK, noStore: true });
    expect((await client.cache.getCacheStats({})).entries).toBe(0n);
  });

  test("is none where the task failed", async () => {
    await client.send("fail", WORK);
    await client.send("fail", WORK);
    expect(given).toEqual(["fail", "fail"]);
  });

  test("of a conversation is not given", async () => {
    const asked = await taskOf(client.send("ask", WORK));
    await client.send("Lisbon", { taskId: asked.id });
    const again = await taskOf(client.send("ask", WORK));
    expect(again.status?.state).toBe(TaskState.INPUT_REQUIRED);
    expect(given).toEqual(["ask", "Lisbon", "ask"]);
  });

  test("is forgotten when it is cleared, and when the capability changes", async () => {
    await client.send("complete", WORK);
    expect((await client.cache.clearCache({ capabilityId: "other" })).cleared).toBe(0n);
    expect((await client.cache.clearCache({ capabilityId: "work" })).cleared).toBe(1n);
    await client.send("complete", WORK);
    await client.registry.addCapability({
      agentId: "worker",
      capability: { capabilityId: "work", cacheTtlMs: 60_000n },
    });
    await client.send("complete", WORK);
    expect(given).toHaveLength(3);
  });
});

describe("who asks the same while a task runs", () => {
  test("waits for its result", async () => {
    gate = Promise.withResolvers();
    const answers = [client.send("complete", WORK), client.send("complete", WORK), client.send("complete", WORK)];
    await expect.poll(async () => (await client.cache.getCacheStats({})).lookups?.followed).not.toBe(0n);
    gate.resolve();
    const tasks = await Promise.all(answers.map(taskOf));
    expect(given).toEqual(["complete"]);
    const [leader, ...followers] = tasks.sort((a, b) => (a.metadata ? 1 : 0) - (b.metadata ? 1 : 0));
    for (const follower of followers) {
      expect(follower.metadata).toEqual({ [ROUTING_EXTENSION]: { cachedFrom: leader!.id } });
      expect(textsOf(follower)).toEqual(textsOf(leader!));
    }
  });

  test("goes to the agent when it fails", async () => {
    gate = Promise.withResolvers();
    const answers = [client.send("fail", WORK), client.send("fail", WORK)];
    await expect.poll(() => given.length).toBe(1);
    gate.resolve();
    const states = (await Promise.all(answers.map(taskOf))).map(({ status }) => status?.state);
    expect(states).toEqual([TaskState.FAILED, TaskState.FAILED]);
    expect(given).toEqual(["fail", "fail"]);
  });
});

describe("a request that is sent again", () => {
  let key: string;
  beforeEach(() => {
    key = crypto.randomUUID();
  });

  test("is answered with the first one's task, as it was and as it ends", async () => {
    gate = Promise.withResolvers();
    const options = { idempotencyKey: key };
    const first = client.send("complete", options);
    await expect.poll(() => given.length).toBe(1);
    const meanwhile = await taskOf(client.send("complete", { ...options, wait: false }));
    expect(meanwhile.status?.state).toBe(TaskState.SUBMITTED);
    const waits = client.send("complete", options);
    const stream = itemsOf(client.stream("complete", options));
    gate.resolve();
    const task = await taskOf(first);
    expect(meanwhile.id).toBe(task.id);
    expect(await waits).toEqual(task);
    expect(await client.send("complete", options)).toEqual(task);
    expect((await stream).at(0)).toMatchObject({ case: "task", value: { id: task.id } });
    const ended = await itemsOf(client.stream("complete", options));
    expect(ended).toMatchObject([
      { case: "task", value: { id: task.id, artifacts: task.artifacts, status: task.status } },
    ]);
    expect(given).toEqual(["complete"]);
  });

  test("at the same moment makes one task", async () => {
    const answers = await Promise.all(
      Array.from({ length: 8 }, () =>
        client.send("complete", { idempotencyKey: key }).then((task) => taskOf(Promise.resolve(task))),
      ),
    );
    expect(new Set(answers.map(({ id }) => id)).size).toBe(1);
    expect(given).toEqual(["complete"]);
  });

  test("gets a bare message again, and an answer that was none", async () => {
    const first = await client.send("message", { idempotencyKey: key });
    expect(await client.send("message", { idempotencyKey: key })).toEqual(first);
    expect(await client.send("message", { idempotencyKey: key, wait: false })).toEqual(first);
    const [item] = await itemsOf(client.stream("message", { idempotencyKey: key }));
    expect(item).toEqual({ case: "message", value: first });
    const rubbish = { idempotencyKey: `${key}-2` };
    const errors = [await refusal(client.send("rubbish", rubbish)), await refusal(client.send("rubbish", rubbish))];
    expect(errors.map(({ rawMessage }) => rawMessage)).toEqual([errors[0]!.rawMessage, errors[0]!.rawMessage]);
    expect((await refusal(client.send("rubbish", { ...rubbish, wait: false }))).rawMessage).toBe(errors[0]!.rawMessage);
    expect(given).toEqual(["message", "rubbish"]);
  });

  test("and goes on with a task is delivered once", async () => {
    const asked = await taskOf(client.send("ask"));
    const message = userMessage("Lisbon", { taskId: asked.id });
    const options = { idempotencyKey: key };
    const first = await taskOf(client.send(message, options));
    expect(first.status?.state).toBe(TaskState.COMPLETED);
    expect(await client.send(message, options)).toEqual(first);
    expect(given).toEqual(["ask", "Lisbon"]);
  });

  test("with another body is refused, and with one that says the same is not", async () => {
    await client.send("complete", { idempotencyKey: key });
    const other = await refusal(client.send("echo", { idempotencyKey: key }));
    expect(other.code).toBe(Code.AlreadyExists);
    const metadata = { [ROUTING_EXTENSION]: { idempotencyKey: key } };
    const wished = userMessage("complete", { messageId: key });
    await client.send(wished, { metadata });
    expect(given).toEqual(["complete"]);
  });

  test("after a refusal is a first one", async () => {
    const refused = await refusal(client.send("complete", { idempotencyKey: key, capability: "none" }));
    expect(refused.code).toBe(Code.NotFound);
    await client.send("complete", { idempotencyKey: key });
    expect(given).toEqual(["complete"]);
  });

  test.each(["", "a b", "é", "x".repeat(256)])("must not have the key %j", async (idempotencyKey) => {
    const metadata = { [ROUTING_EXTENSION]: { idempotencyKey } };
    expect((await refusal(client.send("complete", { metadata }))).code).toBe(Code.InvalidArgument);
  });

  describe.each<[string, (text: string) => Promise<{ taskId: string }>]>([
    ["a plain task with the key in its field", (text) => post("/v1/tasks", { text, idempotencyKey: key })],
    ["a plain task with the key in the header", (text) => post("/v1/tasks", { text }, key)],
    ["task.send over JSON-RPC", (text) => rpc("task.send", { text, idempotencyKey: key })],
    ["a batch of plain tasks", (text) => batchOf(text)],
    ["DELEGATE", (text) => exchanged({ receiver: "a.worker", delegate: { returnImmediately: true, input: { text } } })],
  ])("as %s", (_, submit) => {
    test("is answered with the first one's task, and with another text refused", async () => {
      const { taskId } = await submit("complete");
      expect(taskId).toBeTruthy();
      expect((await submit("complete")).taskId).toBe(taskId);
      await expect.poll(() => given).toEqual(["complete"]);
      await expect(submit("echo")).rejects.toThrow("Another request was sent with this key");
    });
  });

  async function post(path: string, body: object, header?: string) {
    const headers = { "content-type": "application/json", ...(header !== undefined && { "Idempotency-Key": header }) };
    const response = await fetch(app.httpUrl + path, { method: "POST", headers, body: JSON.stringify(body) });
    // biome-ignore lint/suspicious/noExplicitAny: tests look into JSON as it comes
    const json: any = await response.json();
    if (!response.ok) throw new Error(JSON.stringify(json));
    return json;
  }
  async function rpc(method: string, params: object) {
    const { error, result } = await post("/rpc", { jsonrpc: "2.0", id: 1, method, params });
    if (error) throw new Error(error.message);
    return result.task ?? result;
  }

  async function batchOf(text: string) {
    const { results } = await post("/v1/tasks:batchSubmit", { requests: [{ text, idempotencyKey: key }] });
    if (!results[0].task) throw new Error(JSON.stringify(results[0]));
    return results[0].task;
  }

  async function exchanged(message: object) {
    const { error, result } = await post("/v1/messages:exchange", message, key);
    if (error) throw new Error(error.message);
    return { taskId: (result.delegate ?? result.revise).task.id };
  }

  test("as REVISE is delivered once", async () => {
    const asked = await taskOf(client.send("ask"));
    const message = { revise: { taskId: asked.id, text: "Lisbon" } };
    expect(await exchanged(message)).toEqual({ taskId: asked.id });
    expect(await exchanged(message)).toEqual({ taskId: asked.id });
    expect(given).toEqual(["ask", "Lisbon"]);
  });

  test("has no key in the header where it is a batch: that would be one key for all", async () => {
    const requests = [{ text: "complete" }, { text: "complete" }];
    await expect(post("/v1/tasks:batchSubmit", { requests }, key)).rejects.toThrow("Idempotency-Key");
    expect(given).toEqual([]);
  });

  test("must not have two keys", async () => {
    const metadata = { [ROUTING_EXTENSION]: { idempotencyKey: "one" } };
    const refused = await refusal(client.send("complete", { idempotencyKey: "two", metadata }));
    expect(refused.rawMessage).toContain("leave one of them out");
  });
});

describe.each([
  ["GRPC", true],
  ["JSONRPC", true],
  ["HTTP+JSON", false],
] as const)("an agent of @a2a-js/sdk over %s, streaming: %s", (binding, streaming) => {
  const agentId = `sdk-${binding.toLowerCase().replace("+", "-")}`;

  test("is asked once", async () => {
    const sdk = await startTestAgent({
      bindings: [binding],
      streaming,
      skills: [{ id: agentId, name: agentId, description: "Does as it is told.", tags: ["test"] }],
    });
    onTestFinished(() => sdk.close());
    await client.registry.registerAgent({ agentId, source: { case: "card", value: sdk.card } });
    await client.registry.addCapability({ agentId, capability: { capabilityId: agentId, cacheTtlMs: 60_000n } });
    const options = { capability: agentId, idempotencyKey: crypto.randomUUID() };
    const first = await taskOf(client.send("chunks 3", options));
    expect(await client.send("chunks 3", options)).toEqual(first);
    const again = await taskOf(client.send("chunks 3", { capability: agentId }));
    expect(again.metadata).toMatchObject({ [ROUTING_EXTENSION]: { cachedFrom: first.id } });
    expect(again.artifacts).toEqual(first.artifacts);
    expect(sdk.received).toHaveLength(1);
  });
});

test("a webhook is told of a result that is given again", async () => {
  const webhook = await startWebhook();
  onTestFinished(() => webhook.close());
  await client.send("complete", WORK);
  const { payload } = await client.a2a.sendMessage({
    tenant: "c.work",
    message: userMessage("complete"),
    configuration: { taskPushNotificationConfig: { url: webhook.url } },
  });
  expect(given).toEqual(["complete"]);
  expect(payload.case).toBe("task");
  for (;;) {
    const told = (await webhook.next()).body.payload;
    if (told.case !== "statusUpdate" || told.value.status?.state !== TaskState.COMPLETED) continue;
    expect(payload).toMatchObject({ value: { id: told.value.taskId } });
    return;
  }
});

test("a full server gives results still", async () => {
  const full = await startTestApp({
    agents: { worker: agent },
    flags: { "limits.running-tasks": "1", "limits.queued-tasks": "0" },
  });
  onTestFinished(() => full.stop());
  const sdk = createSignalboxClient({ baseUrl: full.httpUrl });
  await sdk.registry.addCapability({ agentId: "worker", capability: { capabilityId: "work", cacheTtlMs: 60_000n } });
  const first = await taskOf(sdk.send("complete", WORK));
  const running = await taskOf(sdk.send("work", { agent: "worker", wait: false }));
  expect((await refusal(sdk.send("complete"))).code).toBe(Code.ResourceExhausted);
  const again = await taskOf(sdk.send("complete", WORK));
  expect(again.metadata).toMatchObject({ [ROUTING_EXTENSION]: { cachedFrom: first.id } });
  await sdk.a2a.cancelTask({ id: running.id });
});
