/** The connector against real agents of @a2a-js/sdk, over each binding. */
import { create } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { MessageSchema, Role, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { createAgentConnector } from "../../src/outbound/agent-connector.ts";
import type { AgentClient } from "../../src/services/agent-port.ts";
import { collect, failureOf, patiently, say, stateOf, taskOf } from "../agents/calling.ts";
import { type Binding, startTestAgent, type TestAgent } from "../agents/test-agent.ts";

const connector = createAgentConnector({ allowPrivateUrls: true });
afterAll(() => connector.close());

describe.each<Binding>(["GRPC", "JSONRPC", "HTTP+JSON"])("an agent over %s", (binding) => {
  let agent: TestAgent;
  let client: AgentClient;

  beforeAll(async () => {
    agent = await startTestAgent({ bindings: [binding], extensions: [{ uri: "urn:x:1" }, { uri: "urn:x:2" }] });
    client = connector.connect({ workspaceId: "w", agentId: binding, card: agent.card });
  });
  afterAll(() => agent.close());

  test("completes a task", async () => {
    const task = taskOf(await client.send(say("complete"), patiently()));
    expect(task.status?.state).toBe(TaskState.COMPLETED);
    expect(task.artifacts[0]?.parts[0]?.content).toEqual({ case: "text", value: "complete" });
    expect((await client.get(task.id, patiently())).status?.state).toBe(TaskState.COMPLETED);
  });

  test("answers at once when asked to", async () => {
    const task = taskOf(await client.send(say("slow"), { ...patiently(), returnImmediately: true }));
    expect(task.status?.state).not.toBe(TaskState.COMPLETED);
    agent.release(task.id);
  });

  test("streams each item in order", async () => {
    const items = await collect(client.sendStream(say("chunks 20"), patiently()));
    expect(items[0]?.payload.case).toBe("task");
    const chunks = items.flatMap(({ payload }) => (payload.case === "artifactUpdate" ? [payload.value] : []));
    expect(chunks.map((chunk) => chunk.artifact?.parts[0]?.content.value)).toEqual(
      Array.from({ length: 20 }, (_, i) => `chunk ${i + 1};`),
    );
    expect(chunks.map((chunk) => chunk.lastChunk).indexOf(true)).toBe(19);
    expect(stateOf(items.at(-1)!)).toBe(TaskState.COMPLETED);
  });

  test("carries text of every kind and size unharmed", async () => {
    const text = `"quotes" \\ \u0000\u2028 ${"ü€😀".repeat(50)} \r\n`;
    const echoed = taskOf(await client.send(say(text), patiently()));
    expect(echoed.artifacts[0]?.parts[0]?.content.value).toBe(text);
    const items = await collect(client.sendStream(say("large 1000000"), patiently()));
    const large = items.find(({ payload }) => payload.case === "artifactUpdate")?.payload;
    expect(large?.case === "artifactUpdate" && large.value.artifact?.parts[0]?.content.value).toHaveLength(1_000_000);
  });

  test("answers with a bare Message", async () => {
    expect((await client.send(say("message"), patiently())).payload.case).toBe("message");
    const items = await collect(client.sendStream(say("message"), patiently()));
    expect(items.map((item) => item.payload.case)).toEqual(["message"]);
  });

  test("asks, and goes on with the answer", async () => {
    const asked = taskOf(await client.send(say("ask"), patiently()));
    expect(asked.status?.state).toBe(TaskState.INPUT_REQUIRED);
    const answered = taskOf(
      await client.send(say("blue", { taskId: asked.id, contextId: asked.contextId }), patiently()),
    );
    expect(answered.id).toBe(asked.id);
    expect(answered.status?.state).toBe(TaskState.COMPLETED);
  });

  test("is canceled, and its watchers see it", async () => {
    const stream = client.sendStream(say("cancel-me"), patiently())[Symbol.asyncIterator]();
    const first = await stream.next();
    const { id } = taskOf(first.value);
    await stream.next();
    const watched = collect(client.subscribe(id, patiently()));
    const canceled = await client.cancel(id, patiently());
    expect(canceled.status?.state).toBe(TaskState.CANCELED);
    expect(stateOf((await stream.next()).value)).toBe(TaskState.CANCELED);
    expect((await stream.next()).done).toBe(true);
    expect(stateOf((await watched).at(-1)!)).toBe(TaskState.CANCELED);
  });

  test("a second watcher sees the rest", async () => {
    const stream = client.sendStream(say("slow"), patiently())[Symbol.asyncIterator]();
    const { id } = taskOf((await stream.next()).value);
    await stream.next();
    const watcher = client.subscribe(id, patiently())[Symbol.asyncIterator]();
    expect(taskOf((await watcher.next()).value).id).toBe(id);
    const rest = watcher.next();
    agent.release(id);
    expect(stateOf((await rest).value)).toBe(TaskState.COMPLETED);
    expect(stateOf((await stream.next()).value)).toBe(TaskState.COMPLETED);
  });

  test.each([
    ["get", (c: AgentClient) => c.get("nowhere", patiently()), "TASK_NOT_FOUND"],
    ["cancel", (c: AgentClient) => c.cancel("nowhere", patiently()), "TASK_NOT_FOUND"],
    ["subscribe", (c: AgentClient) => collect(c.subscribe("nowhere", patiently())), "TASK_NOT_FOUND"],
    ["send", (c: AgentClient) => c.send(say("x", { taskId: "nowhere" }), patiently()), "TASK_NOT_FOUND"],
    [
      "stream",
      (c: AgentClient) => collect(c.sendStream(say("x", { taskId: "nowhere" }), patiently())),
      "TASK_NOT_FOUND",
    ],
  ])("%s of an unknown task is refused with the agent's reason", async (_name, act, reason) => {
    const failure = await failureOf(act(client) as Promise<unknown>);
    expect({ kind: failure.kind, reason: failure.reason }).toEqual({ kind: "refused", reason });
    expect(failure.message).toContain("nowhere");
  });

  test("a finished task can be neither canceled nor watched", async () => {
    const { id } = taskOf(await client.send(say("complete"), patiently()));
    expect((await failureOf(client.cancel(id, patiently()))).reason).toBe("TASK_NOT_CANCELABLE");
    expect((await failureOf(collect(client.subscribe(id, patiently())))).reason).toBe("UNSUPPORTED_OPERATION");
  });

  test.each(["reject", "fail", "throw"])("tells of %s", async (text) => {
    const task = taskOf(await client.send(say(text), patiently()));
    expect(task.status?.state).toBe(text === "reject" ? TaskState.REJECTED : TaskState.FAILED);
  });

  test("the message arrives as it was sent, with what goes beside it", async () => {
    const message = create(MessageSchema, {
      messageId: "whole",
      contextId: "ctx",
      role: Role.USER,
      parts: [
        { content: { case: "text", value: "complete" }, metadata: { a: [1, { b: null }] } },
        { content: { case: "raw", value: new Uint8Array([0, 255]) }, filename: "f.bin", mediaType: "application/x" },
        { content: { case: "url", value: "https://example.com/x" } },
      ],
      metadata: { k: "v" },
      extensions: ["urn:x:1"],
    });
    await client.send(message, {
      ...patiently(),
      acceptedOutputModes: ["text/plain"],
      metadata: { request: { deep: true } },
      extensions: ["urn:x:1", "urn:x:2"],
      traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    });
    const { params, headers, extensions } = agent.requests.at(-1)!;
    expect(params.message).toMatchObject({
      messageId: "whole",
      contextId: "ctx",
      metadata: { k: "v" },
      extensions: ["urn:x:1"],
    });
    expect(params.message?.parts).toMatchObject([
      { content: { $case: "text", value: "complete" }, metadata: { a: [1, { b: null }] } },
      { content: { $case: "raw", value: new Uint8Array([0, 255]) }, filename: "f.bin", mediaType: "application/x" },
      { content: { $case: "url", value: "https://example.com/x" } },
    ]);
    expect(params.metadata).toEqual({ request: { deep: true } });
    expect(params.configuration).toMatchObject({ acceptedOutputModes: ["text/plain"], returnImmediately: false });
    expect(extensions).toEqual(["urn:x:1", "urn:x:2"]);
    expect(headers.traceparent).toBe("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    expect(headers.authorization).toBeUndefined();
  });

  test("echoes the tenant of its interface", async () => {
    const tenants = await startTestAgent({ bindings: [binding], tenant: "a.other" });
    const other = connector.connect({ workspaceId: "w", agentId: `${binding}-tenant`, card: tenants.card });
    const { id } = taskOf(await other.send(say("complete"), patiently()));
    await collect(other.sendStream(say("complete"), patiently()));
    expect((await other.get(id, patiently())).id).toBe(id);
    expect(tenants.requests.map((request) => request.params.tenant)).toEqual(["a.other", "a.other"]);
    await tenants.close();
  });

  test("its silence ends the call, and the signal does at once", async () => {
    const silent = await failureOf(client.send(say("hang"), { ...patiently(), timeoutMs: 100 }));
    expect(silent.kind).toBe("timeout");
    expect(silent.message).toContain("100 ms during SendMessage");

    const stream = client.sendStream(say("slow"), { ...patiently(), timeoutMs: 200 })[Symbol.asyncIterator]();
    await stream.next();
    await stream.next();
    expect((await failureOf(stream.next())).kind).toBe("timeout");

    const controller = new AbortController();
    const waiting = client.send(say("hang"), { ...patiently(), signal: controller.signal });
    const reason = new Error("enough");
    controller.abort(reason);
    await expect(waiting).rejects.toBe(reason);
    await expect(client.send(say("hang"), { ...patiently(), signal: controller.signal })).rejects.toBe(reason);
    agent.release();
  });
});
