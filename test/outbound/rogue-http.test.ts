/** The two HTTP bindings against agents that misbehave. */
import type { IncomingMessage, RequestListener, ServerResponse } from "node:http";
import { afterEach, describe, expect, test } from "vitest";
import type { StreamResponse } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { createAgentConnector } from "../../src/outbound/agent-connector.ts";
import type { AgentClient } from "../../src/services/agent-port.ts";
import { collect, failureOf, patiently, say } from "../agents/calling.ts";
import { cardOf, freePort, type RogueAgent, startRogueHttp, startRogueTcp } from "../agents/rogue-agent.ts";

const MAX_BYTES = 64 * 1024;
const message = say("hello");
const TASK = { id: "t", contextId: "c", status: { state: "TASK_STATE_WORKING" } };

let cleanUp: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const step of cleanUp.reverse()) await step();
  cleanUp = [];
});

type Binding = "JSONRPC" | "HTTP+JSON";

function connect(binding: string, url: string): AgentClient {
  const connector = createAgentConnector({ allowPrivateUrls: true, maxMessageBytes: MAX_BYTES });
  cleanUp.push(() => connector.close());
  return connector.connect({ workspaceId: "w", agentId: "a", card: cardOf(binding, url) });
}

async function rogue(binding: Binding, listener: RequestListener): Promise<{ client: AgentClient; agent: RogueAgent }> {
  const agent = await startRogueHttp(listener);
  cleanUp.push(() => agent.close());
  return { client: connect(binding, `http://127.0.0.1:${agent.port}/agent`), agent };
}

/** Reads the request and answers its JSON-RPC id with what the binding puts around a result. */
async function idOf(request: IncomingMessage): Promise<number> {
  let body = "";
  for await (const chunk of request) body += chunk;
  return (JSON.parse(body) as { id: number }).id;
}

async function answer(binding: Binding, request: IncomingMessage, response: ServerResponse, result: unknown) {
  const body = binding === "JSONRPC" ? { jsonrpc: "2.0", id: await idOf(request), result } : result;
  response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(body));
}

/** Opens an event stream and gives the function that writes one item. */
async function events(binding: Binding, request: IncomingMessage, response: ServerResponse) {
  const id = binding === "JSONRPC" ? await idOf(request) : 0;
  response.writeHead(200, { "content-type": "text/event-stream; charset=utf-8" });
  return (result: unknown) =>
    response.write(`data: ${JSON.stringify(binding === "JSONRPC" ? { jsonrpc: "2.0", id, result } : result)}\n\n`);
}

describe.each<Binding>(["JSONRPC", "HTTP+JSON"])("over %s", (binding) => {
  const send = (client: AgentClient) => client.send(message, patiently());
  const stream = (client: AgentClient) => collect(client.sendStream(message, patiently()));

  test("a port at which nothing listens is unreachable", async () => {
    const failure = await failureOf(send(connect(binding, `http://127.0.0.1:${await freePort()}`)));
    expect(failure).toMatchObject({ kind: "unreachable", message: expect.stringContaining("nothing listens") });
  });

  test("a port that speaks no TLS is unreachable over https", async () => {
    const { agent } = await rogue(binding, () => {});
    expect((await failureOf(send(connect(binding, `https://127.0.0.1:${agent.port}`)))).kind).toBe("unreachable");
  });

  test("a name that nobody knows is unreachable", async () => {
    expect((await failureOf(send(connect(binding, "http://nobody.invalid/")))).kind).toBe("unreachable");
  });

  test("a connection that is closed after the request is broken", async () => {
    const agent = await startRogueTcp((socket) => socket.once("data", () => socket.destroy()));
    cleanUp.push(() => agent.close());
    const client = connect(binding, `http://127.0.0.1:${agent.port}`);
    expect((await failureOf(send(client))).kind).toBe("broken");
    expect((await failureOf(stream(client))).kind).toBe("broken");
  });

  test.each([
    ["HTML", "text/html", "<html>Welcome</html>"],
    ["JSON of the wrong type", "text/plain", JSON.stringify({ task: TASK })],
    ["truncated JSON", "application/json", '{"task": {"id":'],
    ["a JSON array", "application/json", "[]"],
    ["nothing", "application/json", ""],
    ["deep nesting", "application/json", "[".repeat(30_000)],
    ["half a character", "application/json", Buffer.from([0x7b, 0x22, 0xc3])],
  ])("%s is no answer", async (_name, type, body) => {
    const { client } = await rogue(binding, (_request, response) => {
      response.writeHead(200, { "content-type": type }).end(body);
    });
    for (const failure of [await failureOf(send(client)), await failureOf(stream(client))]) {
      expect(failure.kind).toBe("invalid");
      expect(failure.message).not.toContain("Welcome");
      if (type === "text/html") expect(failure.raw).toBe(body);
    }
  });

  test.each([
    ["an unknown payload", { tusk: {} }, "needs one of"],
    ["a wrong type", { task: 7 }, "is no"],
    ["a missing state", { task: { id: "t", status: {} } }, "task.status.state"],
    ["an unknown role", { message: { messageId: "m", role: "ROLE_KING", parts: [{ text: "" }] } }, "message.role"],
    [
      "an empty part",
      { task: { ...TASK, artifacts: [{ artifactId: "a", parts: [{}] }] } },
      "task.artifacts[0].parts[0]",
    ],
  ])("%s breaks the contract, and the error names it", async (_name, result, named) => {
    const { client } = await rogue(binding, (request, response) => answer(binding, request, response, result));
    const failure = await failureOf(send(client));
    expect(failure).toMatchObject({ kind: "invalid", message: expect.stringContaining(named) });
    expect(failure.raw).toContain(JSON.stringify(result));
  });

  test("unknown fields do no harm", async () => {
    const { client } = await rogue(binding, (request, response) =>
      answer(binding, request, response, { task: { ...TASK, later: 1, history: [] } }),
    );
    expect((await send(client)).payload.case).toBe("task");
  });

  test("an HTTP error is a refusal that says so", async () => {
    const { client } = await rogue(binding, (_request, response) => {
      response.writeHead(502, { "content-type": "text/html" }).end("<html>Bad gateway</html>");
    });
    const failure = await failureOf(send(client));
    expect(failure).toMatchObject({ kind: "refused", reason: "HTTP_502" });
    expect(failure.message).toBe("The agent answered HTTP 502 to SendMessage.");
    expect(failure.raw).toContain("Bad gateway");
  });

  test("a redirect is not followed", async () => {
    const asked: string[] = [];
    const { client } = await rogue(binding, (request, response) => {
      asked.push(request.url!);
      response.writeHead(307, { location: "/elsewhere" }).end();
    });
    expect((await failureOf(send(client))).reason).toBe("HTTP_307");
    expect(asked).toHaveLength(1);
  });

  test("what never ends is cut off, and its connection closed", async () => {
    const { client, agent } = await rogue(binding, (_request, response) => {
      response.writeHead(200, { "content-type": "application/json" });
      const pour = () => {
        while (!response.destroyed && response.write(" ".repeat(16 * 1024)));
      };
      response.on("drain", pour);
      pour();
    });
    expect(await failureOf(send(client))).toMatchObject({
      kind: "invalid",
      message: expect.stringContaining("larger than"),
    });
    await agent.idle();
  });

  test("an event that never ends is cut off, and its connection closed", async () => {
    const { client, agent } = await rogue(binding, (_request, response) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write("data: ");
      const pour = () => {
        while (!response.destroyed && response.write("x".repeat(16 * 1024)));
      };
      response.on("drain", pour);
      pour();
    });
    expect(await failureOf(stream(client))).toMatchObject({
      kind: "invalid",
      message: expect.stringContaining("larger than"),
    });
    await agent.idle();
  });

  test("bytes that drip do not prolong a unary call", async () => {
    let drip: NodeJS.Timeout | undefined;
    const { client, agent } = await rogue(binding, (_request, response) => {
      response.writeHead(200, { "content-type": "application/json" });
      drip = setInterval(() => response.write(" "), 20);
    });
    expect((await failureOf(client.send(message, patiently(150)))).kind).toBe("timeout");
    await agent.idle();
    clearInterval(drip);
  });

  test("a stream that breaks off gives what came before", async () => {
    const { client } = await rogue(binding, async (request, response) => {
      const write = await events(binding, request, response);
      write({ task: TASK });
      response.write("data: {");
      setImmediate(() => response.destroy());
    });
    const items: StreamResponse[] = [];
    const failure = await failureOf(collect(client.sendStream(message, patiently()), items));
    expect(failure).toMatchObject({
      kind: "broken",
      message: "The connection to the agent broke during SendStreamingMessage.",
    });
    expect(items.map((item) => item.payload.case)).toEqual(["task"]);
  });

  test("a stream that ends early just ends; one without an item is broken", async () => {
    let items: unknown[] = [{ task: TASK }];
    const { client } = await rogue(binding, async (request, response) => {
      const write = await events(binding, request, response);
      for (const item of items) write(item);
      response.end(": bye\n\n");
    });
    expect(await stream(client)).toHaveLength(1);
    items = [];
    expect((await failureOf(stream(client))).kind).toBe("broken");
  });

  test.each([
    ["no payload", {}],
    ["an update without a task id", { statusUpdate: { contextId: "c", status: { state: "TASK_STATE_WORKING" } } }],
  ])("an item with %s is invalid", async (_name, item) => {
    const { client, agent } = await rogue(binding, async (request, response) => {
      const write = await events(binding, request, response);
      write({ task: TASK });
      write(item);
    });
    expect((await failureOf(stream(client))).kind).toBe("invalid");
    await agent.idle();
  });

  test("whoever stops reading closes the connection", async () => {
    const { client, agent } = await rogue(binding, async (request, response) => {
      (await events(binding, request, response))({ task: TASK });
    });
    for await (const item of client.sendStream(message, patiently())) {
      expect(item.payload.case).toBe("task");
      break;
    }
    await agent.idle();

    const controller = new AbortController();
    const reading = collect(client.sendStream(message, { signal: controller.signal, timeoutMs: 10_000 }));
    while (agent.sockets.size === 0) await new Promise(setImmediate);
    controller.abort();
    await expect(reading).rejects.toBe(controller.signal.reason);
    await agent.idle();
  });
});

describe("JSON-RPC alone", () => {
  const call = async (body: (id: number) => unknown, status = 200) => {
    const { client } = await rogue("JSONRPC", async (request, response) => {
      response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body(await idOf(request))));
    });
    return failureOf(client.send(message, patiently()));
  };

  test.each([
    ["the id of another request", (id: number) => ({ jsonrpc: "2.0", id: id + 1, result: { task: TASK } })],
    ["the id as text", (id: number) => ({ jsonrpc: "2.0", id: String(id), result: { task: TASK } })],
    ["no id", () => ({ jsonrpc: "2.0", result: { task: TASK } })],
    ["no result", (id: number) => ({ jsonrpc: "2.0", id })],
    ["a null result", (id: number) => ({ jsonrpc: "2.0", id, result: null })],
    ["another's error", (id: number) => ({ jsonrpc: "2.0", id: id + 1, error: { code: -32001, message: "x" } })],
  ])("%s is invalid", async (_name, body) => {
    expect((await call(body)).kind).toBe("invalid");
  });

  test("an error is read by its ErrorInfo, then by its code", async () => {
    const info = { "@type": "type.googleapis.com/google.rpc.ErrorInfo", reason: "NO_TEA", domain: "tea" };
    const error = { code: -32001, message: "No tea.", data: [{ "@type": "x" }, info] };
    expect(await call((id) => ({ jsonrpc: "2.0", id, error }))).toMatchObject({
      kind: "refused",
      reason: "NO_TEA",
      message: "The agent refused SendMessage: No tea.",
    });
    expect((await call((id) => ({ id, error: { code: -32001 } }))).reason).toBe("TASK_NOT_FOUND");
    expect((await call(() => ({ id: null, error: { code: -32700, message: "?" } }), 400)).reason).toBe("PARSE_ERROR");
    expect((await call((id) => ({ id, error: { code: 7, message: "?" } }))).reason).toBe("JSON_RPC_7");
  });

  test("an error within a stream ends it", async () => {
    const { client } = await rogue("JSONRPC", async (request, response) => {
      const id = await idOf(request);
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write(`data: ${JSON.stringify({ jsonrpc: "2.0", id, result: { task: TASK } })}\n\n`);
      response.end(`event: error\ndata: ${JSON.stringify({ id, error: { code: -32603, message: "boom" } })}\n\n`);
    });
    expect(await failureOf(collect(client.sendStream(message, patiently())))).toMatchObject({
      kind: "refused",
      reason: "INTERNAL_ERROR",
    });
  });
});

describe("HTTP+JSON alone", () => {
  test("an error is read by its ErrorInfo, then by its status", async () => {
    let details: unknown[] = [{ "@type": "type.googleapis.com/google.rpc.ErrorInfo", reason: "NO_TEA" }];
    const { client } = await rogue("HTTP+JSON", (_request, response) => {
      const error = { code: 404, status: "NOT_FOUND", message: "No tea.", details };
      response.writeHead(404, { "content-type": "application/json" }).end(JSON.stringify({ error }));
    });
    expect(await failureOf(client.get("t", patiently()))).toMatchObject({ kind: "refused", reason: "NO_TEA" });
    details = [];
    expect((await failureOf(client.get("t", patiently()))).reason).toBe("NOT_FOUND");
  });

  test("subscribes by GET where POST is not served, and keeps to it", async () => {
    const asked: string[] = [];
    const { client } = await rogue("HTTP+JSON", async (request, response) => {
      asked.push(`${request.method} ${request.url}`);
      if (request.method === "POST") return response.writeHead(405).end();
      (await events("HTTP+JSON", request, response))({ task: TASK });
      response.end();
    });
    for (let i = 0; i < 2; i++) expect(await collect(client.subscribe("a/b", patiently()))).toHaveLength(1);
    expect(asked).toEqual([
      "POST /agent/tasks/a%2Fb:subscribe",
      "GET /agent/tasks/a%2Fb:subscribe",
      "GET /agent/tasks/a%2Fb:subscribe",
    ]);
  });

  test("an error within a stream ends it", async () => {
    const { client } = await rogue("HTTP+JSON", async (request, response) => {
      const write = await events("HTTP+JSON", request, response);
      write({ task: TASK });
      response.write("event: error\n");
      write({ error: { code: 500, status: "INTERNAL", message: "boom" } });
      response.end();
    });
    expect(await failureOf(collect(client.sendStream(message, patiently())))).toMatchObject({
      kind: "refused",
      reason: "INTERNAL",
    });
  });
});
