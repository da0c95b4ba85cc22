/** Which interface is picked, what is kept, and where connections may go. */
import { create } from "@bufbuild/protobuf";
import { afterEach, describe, expect, test } from "vitest";
import { AgentCardSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { createAgentClient } from "../../src/outbound/agent-client.ts";
import { createAgentConnector } from "../../src/outbound/agent-connector.ts";
import { createGrpcChannel } from "../../src/outbound/grpc-channel.ts";
import { createHttpConnections } from "../../src/outbound/http-connections.ts";
import { createJsonRpcChannel } from "../../src/outbound/json-rpc-channel.ts";
import { createUrlGuard, type Lookup } from "../../src/outbound/url-guard.ts";
import { createAbortGroup } from "../../src/services/abort-group.ts";
import { AgentCallError } from "../../src/services/agent-port.ts";
import { patiently, say, taskOf } from "../agents/calling.ts";
import { cardOf, startRogueHttp, startRogueHttp2 } from "../agents/rogue-agent.ts";
import { startTestAgent } from "../agents/test-agent.ts";

let cleanUp: (() => unknown)[] = [];
afterEach(async () => {
  for (const step of cleanUp.reverse()) await step();
  cleanUp = [];
});

const never = new AbortController().signal;

function connector(allowPrivateUrls = true) {
  const made = createAgentConnector({ allowPrivateUrls });
  cleanUp.push(() => made.close());
  return made;
}

const offer = (protocolBinding: string, url: string, protocolVersion = "1.0") => ({
  protocolBinding,
  url,
  protocolVersion,
});
const card = (...supportedInterfaces: ReturnType<typeof offer>[]) => create(AgentCardSchema, { supportedInterfaces });

describe("pick", () => {
  test.each([
    ["the first that it speaks", [offer("SOAP", "http://x"), offer("HTTP+JSON", "http://x"), offer("GRPC", "x:1")], 1],
    ["whatever the case", [offer("JsonRpc", "http://x")], 0],
    [
      "of A2A 1.x",
      [offer("JSONRPC", "http://x", "0.3"), offer("JSONRPC", "http://x", "2.0"), offer("GRPC", "x:1", "1.1")],
      2,
    ],
    ["whose address makes sense", [offer("JSONRPC", "x:1"), offer("GRPC", "http://x/path"), offer("GRPC", "x:1")], 2],
    ["if there is one", [offer("SOAP", "http://x")], undefined],
    ["if there are any", [], undefined],
  ])("takes the interface %s", (_name, offers, index) => {
    const given = card(...offers);
    expect(connector().pick(given)).toBe(index === undefined ? undefined : given.supportedInterfaces[index]);
  });

  test("passes over private addresses where they are not allowed", () => {
    const given = card(
      offer("GRPC", "127.0.0.1:1"),
      offer("JSONRPC", "http://10.0.0.1"),
      offer("HTTP+JSON", "https://example.com"),
    );
    expect(connector(false).pick(given)?.url).toBe("https://example.com");
  });
});

describe("connect", () => {
  test("keeps one client an agent of a workspace, until the card changes or it is forgotten", () => {
    const made = connector();
    // What calls an agent is the same while its connection is.
    const at = (workspaceId: string, agentId: string, url: string) =>
      made.connect({ workspaceId, agentId, card: cardOf("JSONRPC", url) }).send;
    const first = at("w", "a", "http://127.0.0.1:1");
    expect(at("w", "a", "http://127.0.0.1:1")).toBe(first);
    expect(at("w", "b", "http://127.0.0.1:1")).not.toBe(first);
    expect(at("v", "a", "http://127.0.0.1:1")).not.toBe(first);
    const second = at("w", "a", "http://127.0.0.1:2");
    expect(second).not.toBe(first);
    made.forget("w", "a");
    expect(at("w", "a", "http://127.0.0.1:2")).not.toBe(second);
  });

  test("a client that is held goes on when its agent's card changes or the agent leaves", async () => {
    const agent = await startTestAgent({ bindings: ["GRPC"] });
    const made = connector();
    try {
      const endpoint = { workspaceId: "w", agentId: "a", card: agent.card };
      const held = made.connect(endpoint);
      const task = taskOf(await held.send(say("complete"), patiently()));
      made.connect({ ...endpoint, card: cardOf("JSONRPC", "http://127.0.0.1:1") });
      made.forget("w", "a");
      expect((await held.get(task.id, patiently())).id).toBe(task.id);
      held.release();
      // Nobody holds it any more, so its connection has ended.
      await expect(held.get(task.id, patiently())).rejects.toMatchObject({ kind: "broken" });
    } finally {
      await made.close();
      await agent.close();
    }
  });

  test("without an interface it says why", () => {
    const attempt = () =>
      connector(false).connect({ workspaceId: "w", agentId: "a", card: card(offer("GRPC", "127.0.0.1:1")) });
    expect(attempt).toThrow(AgentCallError);
    try {
      attempt();
    } catch (error) {
      expect(error).toMatchObject({
        kind: "unreachable",
        cause: { message: expect.stringContaining("allow-private-urls") },
      });
    }
  });
});

/** Answers first with one list of addresses, then with the other. */
function changingName(first: string, later: string): { lookup: Lookup; asked: () => number } {
  let count = 0;
  return {
    asked: () => count,
    lookup: (_host, _options, callback) => callback(null, [{ address: count++ === 0 ? first : later, family: 4 }]),
  };
}

describe("the guard's connections", () => {
  const call = { signal: never, timeoutMs: 5000 };
  const init = { streaming: true, tenant: "", shutdown: createAbortGroup() };

  test("go to the address that was checked, and no other", async () => {
    const agent = await startRogueHttp((_request, response) => response.writeHead(404).end());
    cleanUp.push(() => agent.close());
    const { lookup, asked } = changingName("127.0.0.1", "192.0.2.1");
    const http = createHttpConnections(createUrlGuard({ allowPrivateUrls: true, lookup }));
    cleanUp.push(() => http.destroy());
    const client = createAgentClient(createJsonRpcChannel(http, `http://agent.test:${agent.port}/`, 1024), init);
    await expect(client.get("t", call)).rejects.toMatchObject({ reason: "HTTP_404" });
    expect(asked()).toBe(1);
  });

  test("are refused when a name leads to a private address, over HTTP and gRPC", async () => {
    const listening = [await startRogueHttp((_request, response) => response.end()), await startRogueHttp2(() => {})];
    cleanUp.push(() => Promise.all(listening.map((agent) => agent.close())));
    const { lookup } = changingName("127.0.0.1", "127.0.0.1");
    const guard = createUrlGuard({ allowPrivateUrls: false, lookup });
    const http = createHttpConnections(guard);
    const grpc = createGrpcChannel(guard, { host: "agent.test", port: listening[1]!.port, tls: false }, 1024);
    cleanUp.push(
      () => http.destroy(),
      () => grpc.close(),
    );
    for (const channel of [createJsonRpcChannel(http, `http://agent.test:${listening[0]!.port}/`, 1024), grpc]) {
      await expect(createAgentClient(channel, init).get("t", call)).rejects.toMatchObject({
        kind: "unreachable",
        message: expect.stringContaining("private or local"),
      });
    }
    expect(listening.map((agent) => agent.sockets.size)).toEqual([0, 0]);
  });

  test("by gRPC go to a checked address too", async () => {
    const agent = await startRogueHttp2((stream) => {
      stream.respond({ ":status": 200, "content-type": "application/grpc", "grpc-status": "5" }, { endStream: true });
    });
    cleanUp.push(() => agent.close());
    const { lookup, asked } = changingName("127.0.0.1", "192.0.2.1");
    const guard = createUrlGuard({ allowPrivateUrls: true, lookup });
    const channel = createGrpcChannel(guard, { host: "agent.test", port: agent.port, tls: false }, 1024);
    cleanUp.push(() => channel.close());
    await expect(createAgentClient(channel, init).get("t", call)).rejects.toMatchObject({ reason: "NOT_FOUND" });
    expect(asked()).toBe(1);
  });
});
