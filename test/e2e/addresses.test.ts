/** Where A2A is spoken on the HTTP listener: the router's addresses, each agent's and capability's, with and without a base path. */
import { createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Health, HealthCheckResponse_ServingStatus as Status } from "../../gen/grpc/health/v1/health_pb.ts";
import { echoAgent } from "./echo-agent.ts";
import { startTestApp, type TestApp } from "./running-app.ts";

interface Reply {
  status: number;
  // biome-ignore lint/suspicious/noExplicitAny: tests look into JSON as it comes
  json: any;
}

describe.each(["", "/signal/box"])("with the base path %j", (basePath) => {
  let app: TestApp;

  beforeAll(async () => {
    const agents = { alpha: echoAgent("alpha"), beta: echoAgent("beta") };
    app = await startTestApp({ agents, flags: { "http.base-path": basePath } });
    await post("/v1/agents/alpha:setDefault", {});
  });
  afterAll(() => app?.stop());

  const send = { message: { messageId: "m1", role: "ROLE_USER", parts: [{ text: "hello" }] } };

  async function call(path: string, init: RequestInit = {}): Promise<Reply> {
    const answer = await fetch(app.httpUrl + path, init);
    return { status: answer.status, json: await answer.json() };
  }

  function post(path: string, body: unknown): Promise<Reply> {
    return call(path, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    });
  }

  const rpc = (path: string, method: string, params: unknown) => post(path, { jsonrpc: "2.0", id: 1, method, params });

  const done = (agent: string) => ({
    status: { state: "TASK_STATE_COMPLETED" },
    artifacts: [{ parts: [{ text: `${agent} heard hello` }] }],
  });

  test("its address ends with the base path", () => {
    expect(new URL(app.httpUrl).pathname).toBe(basePath || "/");
  });

  test.each([
    ["/", "alpha"],
    ["/rpc", "alpha"],
    ["/rpc/", "alpha"],
    ["/agents/alpha", "alpha"],
    ["/agents/beta", "beta"],
    ["/agents/beta/", "beta"],
    ["/agents/beta/rpc", "beta"],
    ["/agents/beta?A2A-Version=1.0", "beta"],
    ["/capabilities/alpha", "alpha"],
    ["/capabilities/beta", "beta"],
    ["/capabilities/beta/", "beta"],
    ["/capabilities/beta/rpc", "beta"],
    ["/capabilities/beta?A2A-Version=1.0", "beta"],
  ])("JSON-RPC at %s reaches %s", async (path, agent) => {
    const { status, json } = await rpc(path, "SendMessage", send);
    expect(status).toBe(200);
    expect(json).toMatchObject({ jsonrpc: "2.0", id: 1, result: { task: done(agent) } });
  });

  test.each([
    ["/message:send", "alpha"],
    ["/a.beta/message:send", "beta"],
    ["/agents/alpha/message:send", "alpha"],
    ["/agents/beta/message:send", "beta"],
    ["/agents/beta/a.beta/message:send", "beta"],
    ["/c.beta/message:send", "beta"],
    ["/capabilities/alpha/message:send", "alpha"],
    ["/capabilities/beta/message:send", "beta"],
    ["/capabilities/beta/c.beta/message:send", "beta"],
  ])("HTTP+JSON at %s reaches %s", async (path, agent) => {
    expect(await post(path, send)).toMatchObject({ status: 200, json: { task: done(agent) } });
  });

  test.each(["/agents/beta", "/capabilities/beta"])("HTTP+JSON at %s streams", async (path) => {
    const answer = await fetch(`${app.httpUrl}${path}/message:stream`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(send),
    });
    expect(answer.headers.get("content-type")).toBe("text/event-stream");
    expect(await answer.text()).toContain("beta heard hello");
  });

  test("an agent's address shows the tasks of this agent alone", async () => {
    const { json } = await post("/agents/beta/message:send", send);
    const { id } = json.task;
    expect(await call(`/agents/beta/tasks/${id}`)).toMatchObject({ status: 200, json: { id } });
    expect(await call(`/tasks/${id}`)).toMatchObject({ status: 200, json: { id } });
    const details = [{ reason: "TASK_NOT_FOUND", domain: "a2a-protocol.org", metadata: { taskId: id } }];
    expect(await call(`/agents/alpha/tasks/${id}`)).toMatchObject({ status: 404, json: { error: { details } } });
    expect((await rpc("/agents/alpha", "GetTask", { id })).json).toMatchObject({
      error: { code: -32001, data: details },
    });

    const ids = async (path: string) => (await call(path)).json.tasks.map((task: { id: string }) => task.id);
    expect(await ids("/agents/beta/tasks?pageSize=100")).toContain(id);
    expect(await ids("/agents/alpha/tasks?pageSize=100")).not.toContain(id);
    expect(await ids("/tasks?pageSize=100")).toContain(id);
  });

  test("a capability's address shows the tasks that were given to this capability alone", async () => {
    const { json } = await post("/capabilities/beta/message:send", send);
    const { id } = json.task;
    for (const path of ["/capabilities/beta", "/agents/beta", ""]) {
      expect(await call(`${path}/tasks/${id}`)).toMatchObject({ status: 200, json: { id } });
    }
    const details = [{ reason: "TASK_NOT_FOUND", domain: "a2a-protocol.org", metadata: { taskId: id } }];
    for (const path of ["/capabilities/alpha", "/agents/alpha"]) {
      expect(await call(`${path}/tasks/${id}`)).toMatchObject({ status: 404, json: { error: { details } } });
    }
    expect((await rpc("/capabilities/alpha", "GetTask", { id })).json).toMatchObject({
      error: { code: -32001, data: details },
    });
    const direct = (await post("/agents/beta/message:send", send)).json.task.id;
    expect((await call(`/capabilities/beta/tasks/${direct}`)).status).toBe(404);

    const ids = async (path: string) => (await call(path)).json.tasks.map((task: { id: string }) => task.id);
    expect(await ids("/capabilities/beta/tasks?pageSize=100")).toContain(id);
    expect(await ids("/capabilities/beta/tasks?pageSize=100")).not.toContain(direct);
    expect(await ids("/capabilities/alpha/tasks?pageSize=100")).not.toContain(id);
    expect(await ids("/agents/beta/tasks?pageSize=100")).toEqual(expect.arrayContaining([id, direct]));
  });

  test("a tenant that contradicts the address is no target", async () => {
    const details = [{ reason: "TARGET_NOT_FOUND", domain: "signalbox" }];
    for (const [path, tenant] of [
      ["/agents/alpha", "a.beta"],
      ["/agents/alpha", "c.alpha"],
      ["/capabilities/alpha", "c.beta"],
      ["/capabilities/alpha", "a.alpha"],
    ]) {
      const { json } = await rpc(path!, "SendMessage", { ...send, tenant });
      expect(json).toMatchObject({ error: { code: -32055, data: details } });
      expect(await post(`${path}/${tenant}/message:send`, send)).toMatchObject({
        status: 404,
        json: { error: { details } },
      });
    }
  });

  test.each(["/agents/nobody", "/capabilities/nothing"])("%s is no target", async (path) => {
    const details = [{ reason: "TARGET_NOT_FOUND", domain: "signalbox" }];
    expect((await rpc(path, "SendMessage", send)).json).toMatchObject({
      error: { code: -32055, data: details },
    });
    expect(await post(`${path}/message:send`, send)).toMatchObject({
      status: 404,
      json: { error: { details } },
    });
  });

  test.each([
    ["GET", "/nowhere"],
    ["GET", "/agents/alpha/nowhere"],
    ["GET", "/agents/alpha/v1/agents"],
    ["GET", "/agents/alpha/healthz"],
    ["POST", "/agents/No-Label"],
    ["POST", "/agents/%zz"],
    ["GET", "/capabilities/alpha/capabilities"],
    ["GET", "/agents/alpha/agents/alpha"],
    ["GET", "/capabilities/alpha"],
    ["GET", "/capabilities/alpha/nowhere"],
    ["GET", "/capabilities/alpha/v1/capabilities"],
    ["GET", "/capabilities/alpha/healthz"],
    ["GET", "/capabilities/No-Label/.well-known/agent-card.json"],
    ["POST", "/capabilities/No-Label"],
    ["POST", "/capabilities/%zz"],
  ])("there is nothing at %s %s", async (method, path) => {
    const { status, json } = await call(path, { method });
    expect(status).toBe(404);
    expect(json.error).toMatchObject({
      status: "NOT_FOUND",
      details: [{ reason: "ROUTE_NOT_FOUND", domain: "signalbox" }],
    });
  });

  test("Connect speaks below the base path", async () => {
    const health = createClient(Health, createConnectTransport({ baseUrl: app.httpUrl, httpVersion: "1.1" }));
    expect((await health.check({})).status).toBe(Status.SERVING);
  });

  if (basePath !== "") {
    test.each(["/healthz", "/", "/signal/boxes/healthz", "/signal"])(
      "there is nothing beside it, at %s",
      async (path) => {
        expect((await fetch(new URL(path, app.httpUrl))).status).toBe(404);
      },
    );
  }
});
