/** The simple face over HTTP, as curl has it: one line of JSON there, one line of JSON back; and its short addresses. */
import { randomUUID } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { beforeAll, describe, expect, test } from "vitest";
import { StreamResponseSchema, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import type { AgentHandler } from "../../src/outbound/in-process-channel.ts";
import { readEvents } from "../conformance/bindings/server-sent-events.ts";
import { act } from "../conformance/scripted-agent.ts";
import { startTestApp, type TestApp } from "./running-app.ts";

/** Gives back what it gets, as an artifact. */
const mirror: AgentHandler = async ({ parts }) => {
  const status = { state: TaskState.COMPLETED };
  const value = { id: randomUUID(), contextId: randomUUID(), status, artifacts: [{ artifactId: "back", parts }] };
  return create(StreamResponseSchema, { payload: { case: "task", value } });
};

let app: TestApp;

beforeAll(async () => {
  app = await startTestApp({ agents: { actor: act, mirror, broken: act } });
  return () => app.stop();
});

// biome-ignore lint/suspicious/noExplicitAny: tests look into JSON as it comes
async function call(method: string, path: string, body?: unknown): Promise<{ status: number; json: any }> {
  const response = await fetch(app.httpUrl + path, {
    method,
    ...(body !== undefined && { headers: { "content-type": "application/json" }, body: JSON.stringify(body) }),
  });
  return { status: response.status, json: await response.json() };
}

const submit = (text: string, more: object = {}) => call("POST", "/v1/tasks", { agentId: "actor", text, ...more });

const rpc = async (method: string, params: object, path = "/rpc") =>
  (await call("POST", path, { jsonrpc: "2.0", id: 1, method, params })).json;

describe("short addresses", () => {
  test("POST /tasks, POST /tasks/{id}/cancel", async () => {
    const { status, json } = await call("POST", "/tasks", { capabilityId: "actor", text: "work" });
    expect({ status, json }).toMatchObject({ status: 200, json: { agentId: "actor", input: "work" } });
    const canceled = await call("POST", `/tasks/${json.taskId}/cancel`);
    expect(canceled).toMatchObject({ status: 200, json: { state: "ENGINE_STATE_CANCELED" } });
    // The standard's own are where they were.
    const { json: a2a } = await call("GET", `/tasks/${json.taskId}`);
    expect(a2a).toMatchObject({ id: json.taskId, status: { state: "TASK_STATE_CANCELED" } });
    expect((await call("GET", "/tasks")).json.tasks.map(({ id }: { id: string }) => id)).toContain(json.taskId);
    expect((await call("POST", `/tasks/${json.taskId}:cancel`)).json.error.status).toBe("FAILED_PRECONDITION");
  });

  test("GET /tasks/{id}/stream shows what a subscriber sees", async () => {
    const { json } = await submit("work");
    const response = await fetch(`${app.httpUrl}/tasks/${json.taskId}/stream`);
    expect(response.headers.get("content-type")).toBe("text/event-stream");
    const items = [];
    for await (const { data } of readEvents(response.body!)) {
      if (items.push(JSON.parse(data)) === 1) await call("POST", `/v1/tasks/${json.taskId}:cancel`, {});
    }
    expect(items[0]).toMatchObject({ task: { id: json.taskId } });
    expect(items.at(-1)).toMatchObject({ statusUpdate: { status: { state: "TASK_STATE_CANCELED" } } });
    const ended = await fetch(`${app.httpUrl}/tasks/${json.taskId}/stream`, { headers: { "Last-Event-ID": "0" } });
    expect(await ended.text()).toMatch(/^id: 0\ndata: \{"task":/);
  });

  test("GET /agents/{id} and /capabilities, beside the agent at the same address", async () => {
    expect((await call("GET", "/agents/actor")).json).toMatchObject({ agentId: "actor", card: { name: "actor" } });
    expect((await call("GET", "/agents/actor/")).json).toMatchObject({ agentId: "actor" });
    expect(await call("GET", "/agents/nobody")).toMatchObject({
      status: 404,
      json: { error: { status: "NOT_FOUND" } },
    });
    expect((await call("PUT", "/agents/actor")).status).toBe(405);
    expect((await call("GET", "/capabilities?agentId=actor")).json.capabilities).toMatchObject([
      { capabilityId: "actor", agentId: "actor" },
    ]);
    expect((await call("GET", "/agents/actor/.well-known/agent-card.json")).json).toMatchObject({ name: "actor" });
    const parts = [{ text: "complete" }];
    const message = { messageId: "m1", role: "ROLE_USER", parts };
    expect((await rpc("SendMessage", { message }, "/agents/actor")).result.task.status.state).toBe(
      "TASK_STATE_COMPLETED",
    );
  });

  test("an agent's address has the standard's routes only", async () => {
    for (const path of ["/v1/tasks", "/tasks", "/capabilities", "/agents/actor"]) {
      expect((await call("POST", `/agents/actor${path}`, { text: "complete" })).status).toBeOneOf([404, 405]);
    }
    expect((await call("GET", "/capabilities/actor/v1/tasks")).status).toBe(404);
    expect(await rpc("task.status", { taskId: "x" }, "/agents/actor")).toMatchObject({ error: { code: -32601 } });
  });

  test("JSON-RPC has task.send, task.status and task.cancel beside the standard's methods", async () => {
    const { result } = await rpc("task.send", { agentId: "actor", text: "complete", wait: true });
    expect(result).toMatchObject({ state: "ENGINE_STATE_COMPLETED", output: "All done." });
    expect((await rpc("task.status", { taskId: result.taskId })).result).toEqual(result);
    const { error } = await rpc("task.cancel", { taskId: result.taskId });
    expect(error).toMatchObject({ code: -32002, data: [{ reason: "TASK_NOT_CANCELABLE" }] });
    expect((await rpc("task.status", { taskId: "nobody" })).error).toMatchObject({ code: -32001 });
    const refused = await rpc("task.send", { agentId: "actor" });
    expect(refused.error.data[1].fieldViolations[0].field).toBe("input");
    expect((await rpc("GetTask", { id: result.taskId })).result).toMatchObject({ id: result.taskId });
  });
});

describe("health", () => {
  test("/health says that the process is up", async () => {
    expect(await call("GET", "/health")).toEqual({ status: 200, json: { status: "ok" } });
  });

  test("/health/deep says how each part is, and names agents that fail", async () => {
    const ok = { status: "ok" };
    const { status, json } = await call("GET", "/health/deep");
    expect({ status, json }).toMatchObject({
      status: 200,
      json: {
        components: {
          server: ok,
          database: ok,
          grpcListener: ok,
          lease: { ...ok, replicaId: expect.stringMatching(/^[0-9a-f]{12}$/), leftMs: expect.any(Number) },
          outbox: { ...ok, duties: [{ duty: "push" }, { duty: "reputation" }] },
          agents: { registered: 3 },
        },
      },
    });
    for (let n = 0; n < 3; n++) await call("POST", "/v1/tasks", { agentId: "broken", text: "fail", wait: true });
    expect(await call("GET", "/health/deep")).toMatchObject({
      status: 200,
      json: { status: "degraded", components: { agents: { status: "degraded", failing: ["broken"] } } },
    });
  });
});

test("data goes to the agent as data, and comes back as data", async () => {
  const input = { city: "Lisbon", stops: [1, null, true] };
  const { json } = await call("POST", "/v1/tasks", { agentId: "mirror", input, wait: true });
  expect(json).toMatchObject({
    input,
    state: "ENGINE_STATE_COMPLETED",
    output: input,
    artifacts: [{ parts: [{ data: input }] }],
  });
  const failed = await call("POST", "/v1/tasks", { agentId: "actor", input, wait: true });
  expect(failed.json).toMatchObject({ input, state: "ENGINE_STATE_FAILED", error: "The agent gave no reason." });
});

test("a call that waits is ended by its caller, and the task goes on", async () => {
  const leaving = new AbortController();
  const call = fetch(`${app.httpUrl}/v1/tasks`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ agentId: "actor", text: "work", contextId: "left", wait: true }),
    signal: leaving.signal,
  });
  const listed = async () =>
    (await (await fetch(`${app.httpUrl}/v1/tasks?contextId=left`)).json()) as { tasks?: object[] };
  await expect.poll(async () => (await listed()).tasks?.length, { timeout: 20_000 }).toBe(1);
  leaving.abort();
  await expect(call).rejects.toThrow();
  expect((await listed()).tasks).toMatchObject([{ a2aState: "TASK_STATE_WORKING" }]);
});

test("a browser that lost the stream of all tasks goes on after the last id", async () => {
  const watch = async (id?: string) => {
    const leaving = new AbortController();
    const headers: Record<string, string> = id === undefined ? {} : { "Last-Event-ID": id };
    const response = await fetch(`${app.httpUrl}/v1/tasks:watch?contextId=browser`, {
      headers,
      signal: leaving.signal,
    });
    return { events: readEvents(response.body!), leave: () => leaving.abort() };
  };
  const first = await watch();
  const begin = (await first.events.next()).value!;
  expect(JSON.parse(begin.data)).toEqual({ cursor: begin.id });
  const { json } = await submit("complete", { contextId: "browser", wait: true });
  const assigned = (await first.events.next()).value!;
  expect(JSON.parse(assigned.data)).toMatchObject({ event: { taskId: json.taskId, state: "ENGINE_STATE_ASSIGNED" } });
  first.leave();
  const second = await watch(assigned.id);
  await second.events.next();
  expect(JSON.parse((await second.events.next()).value!.data).event).toMatchObject({ state: "ENGINE_STATE_WORKING" });
  second.leave();
});

test("a caller has so many streams of all tasks, and gives a place back when one ends", async () => {
  const open = async () => {
    const leaving = new AbortController();
    const response = await fetch(`${app.httpUrl}/v1/tasks:watch`, { signal: leaving.signal });
    return { response, leave: () => leaving.abort() };
  };
  // Those of other tests may still be on their way out.
  const streams: Awaited<ReturnType<typeof open>>[] = [];
  while (streams.length < 16) {
    const stream = await open();
    if (stream.response.ok) streams.push(stream);
  }
  const refused = await open();
  expect(refused.response.status).toBe(429);
  expect(refused.response.headers.get("retry-after")).toBe("5");
  expect(await refused.response.json()).toMatchObject({ error: { details: [{ reason: "TOO_MANY_WATCHERS" }, {}] } });
  streams.pop()!.leave();
  await expect.poll(async () => (await open()).response.status, { timeout: 20_000 }).toBe(200);
  for (const { leave } of streams) leave();
});
