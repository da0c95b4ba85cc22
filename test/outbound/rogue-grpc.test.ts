/** The gRPC binding against agents that misbehave, and without any agent. */
import { constants, type ServerHttp2Stream } from "node:http2";
import { create, toBinary } from "@bufbuild/protobuf";
import { afterEach, describe, expect, test } from "vitest";
import {
  SendMessageResponseSchema,
  type StreamResponse,
  StreamResponseSchema,
  TaskState,
} from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { createAgentConnector } from "../../src/outbound/agent-connector.ts";
import type { AgentCallError, AgentClient } from "../../src/services/agent-port.ts";
import { collect, failureOf, patiently, say } from "../agents/calling.ts";
import { cardOf, freePort, startRogueHttp, startRogueHttp2, startRogueTcp } from "../agents/rogue-agent.ts";

const message = say("hello");
const payload = { case: "task" as const, value: { id: "t", status: { state: TaskState.WORKING } } };
const ANSWER = toBinary(SendMessageResponseSchema, create(SendMessageResponseSchema, { payload } as object));
const ITEM = toBinary(StreamResponseSchema, create(StreamResponseSchema, { payload } as object));

let cleanUp: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const step of cleanUp.reverse()) await step();
  cleanUp = [];
});

function connect(url: string): AgentClient {
  const connector = createAgentConnector({ allowPrivateUrls: true, maxMessageBytes: 64 * 1024 });
  cleanUp.push(() => connector.close());
  return connector.connect({ workspaceId: "w", agentId: "a", card: cardOf("GRPC", url) });
}

async function rogue(listener: (stream: ServerHttp2Stream) => void) {
  const agent = await startRogueHttp2(listener);
  cleanUp.push(() => agent.close());
  return { agent, client: connect(`127.0.0.1:${agent.port}`) };
}

/** A message as gRPC frames it. */
function frame(body: Uint8Array, length = body.length): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(length, 1);
  return Buffer.concat([head, body]);
}

/** Answers with these bytes, and then with the status, unless it is undefined. */
function answer(stream: ServerHttp2Stream, body: Uint8Array, status?: { code: number; message?: string }): void {
  stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: status !== undefined });
  if (!status) return void stream.write(body);
  stream.once("wantTrailers", () => {
    stream.sendTrailers({
      "grpc-status": String(status.code),
      ...(status.message && { "grpc-message": status.message }),
    });
  });
  stream.end(body);
}

const both = async (client: AgentClient): Promise<AgentCallError[]> => [
  await failureOf(client.send(message, patiently())),
  await failureOf(collect(client.sendStream(message, patiently()))),
];

describe("over gRPC", () => {
  test("a port at which nothing listens is unreachable, and found when something does", async () => {
    const port = await freePort();
    const client = connect(`127.0.0.1:${port}`);
    let returned = false;
    for (const failure of await both(client)) {
      expect(failure).toMatchObject({ kind: "unreachable", message: expect.stringContaining("nothing listens") });
    }
    const agent = await startRogueHttp2((stream) => answer(stream, frame(ANSWER), { code: 0 }), port);
    cleanUp.push(() => agent.close());
    while (agent.sockets.size === 0) await new Promise(setImmediate);
    while (!returned) {
      returned = await client.send(message, patiently()).then(
        () => true,
        () => new Promise(setImmediate).then(() => false),
      );
    }
  });

  test("a name that nobody knows is unreachable", async () => {
    for (const failure of await both(connect("http://nobody.invalid:1"))) expect(failure.kind).toBe("unreachable");
  });

  test("a port that speaks no TLS is unreachable with it", async () => {
    const agent = await startRogueTcp((socket) => socket.end("hello"));
    cleanUp.push(() => agent.close());
    for (const failure of await both(connect(`https://127.0.0.1:${agent.port}`)))
      expect(failure.kind).toBe("unreachable");
  });

  test("a port that speaks HTTP/1.1 is unreachable", async () => {
    const agent = await startRogueHttp((_request, response) => response.end());
    cleanUp.push(() => agent.close());
    for (const failure of await both(connect(`127.0.0.1:${agent.port}`))) expect(failure.kind).toBe("unreachable");
  });

  test("a connection that is closed after the request is broken", async () => {
    const { client } = await rogue((stream) => stream.session?.destroy());
    for (const failure of await both(client)) expect(failure.kind).toBe("broken");
  });

  test("a stream that is reset is broken, after what came before", async () => {
    const { client } = await rogue((stream) => {
      answer(stream, frame(ITEM));
      setImmediate(() => stream.close(constants.NGHTTP2_INTERNAL_ERROR));
    });
    const items: StreamResponse[] = [];
    expect((await failureOf(collect(client.sendStream(message, patiently()), items))).kind).toBe("broken");
    expect(items).toHaveLength(1);
  });

  test.each([
    ["bytes that are no protobuf", frame(Buffer.from([0xff, 0xff, 0xff]))],
    ["an empty message", frame(new Uint8Array())],
    ["a message that is too large", frame(new Uint8Array(), 65 * 1024)],
  ])("%s is invalid", async (_name, body) => {
    const { client } = await rogue((stream) => answer(stream, body, { code: 0 }));
    for (const failure of await both(client)) expect(failure.kind).toBe("invalid");
  });

  test("no answer is invalid", async () => {
    const { client } = await rogue((stream) => answer(stream, new Uint8Array(), { code: 0 }));
    expect((await failureOf(client.send(message, patiently()))).kind).toBe("invalid");
  });

  test("the agent's own status is a refusal, UNAVAILABLE too", async () => {
    const { client } = await rogue((stream) => answer(stream, new Uint8Array(), { code: 14, message: "try later" }));
    for (const failure of await both(client)) {
      expect(failure).toMatchObject({
        kind: "refused",
        reason: "UNAVAILABLE",
        message: expect.stringContaining("try later"),
      });
    }
  });

  test("an HTTP error is a refusal", async () => {
    const { client } = await rogue((stream) => {
      stream.respond({ ":status": 503, "content-type": "text/html" });
      stream.end("<html>Down</html>");
    });
    for (const failure of await both(client)) expect(failure).toMatchObject({ kind: "refused", reason: "UNAVAILABLE" });
  });

  test("a stream that ends without an item is broken", async () => {
    const { client } = await rogue((stream) => answer(stream, new Uint8Array(), { code: 0 }));
    expect((await failureOf(collect(client.sendStream(message, patiently())))).kind).toBe("broken");
  });

  test("silence and the signal reset the stream", async () => {
    const closed: Promise<unknown>[] = [];
    const { client } = await rogue((stream) => {
      closed.push(new Promise((resolve) => stream.once("close", () => resolve(stream.rstCode))));
      answer(stream, frame(ITEM));
    });
    expect((await failureOf(collect(client.sendStream(message, patiently(100))))).kind).toBe("timeout");
    expect(await closed[0]).toBe(constants.NGHTTP2_CANCEL);
    for await (const _item of client.sendStream(message, patiently())) break;
    expect(await closed[1]).toBe(constants.NGHTTP2_CANCEL);
    expect((await failureOf(client.send(message, patiently(100)))).kind).toBe("timeout");
    expect(await closed[2]).toBe(constants.NGHTTP2_CANCEL);
  });

  test("connections end with the connector, and calls with them", async () => {
    const agent = await startRogueHttp2((stream) => answer(stream, frame(ITEM)));
    cleanUp.push(() => agent.close());
    const connector = createAgentConnector({ allowPrivateUrls: true });
    const client = connector.connect({
      workspaceId: "w",
      agentId: "a",
      card: cardOf("GRPC", `127.0.0.1:${agent.port}`),
    });
    const items = client.sendStream(message, patiently())[Symbol.asyncIterator]();
    await items.next();
    const next = failureOf(items.next());
    await connector.close();
    expect(await next).toMatchObject({ kind: "broken", message: "The router stopped during the call." });
    await agent.idle();
  });

  test("an agent that is forgotten keeps its running calls, and its connection no longer than somebody holds it", async () => {
    const { promise: mayEnd, resolve: end } = Promise.withResolvers<void>();
    const agent = await startRogueHttp2((stream) => {
      stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
      stream.once("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
      stream.write(frame(ITEM));
      void mayEnd.then(() => stream.end(frame(ITEM)));
    });
    cleanUp.push(() => agent.close());
    const connector = createAgentConnector({ allowPrivateUrls: true });
    cleanUp.push(() => connector.close());
    const card = cardOf("GRPC", `127.0.0.1:${agent.port}`);
    const client = connector.connect({ workspaceId: "w", agentId: "a", card });
    const items = client.sendStream(message, patiently())[Symbol.asyncIterator]();
    await items.next();
    connector.forget("w", "a");
    end();
    expect((await items.next()).done).toBe(false);
    expect((await items.next()).done).toBe(true);
    client.release();
    await agent.idle();
  });
});
