/** The numbers of a stream's items on the wire: in events, in metadata and in headers, for those who ask and no others. */
import { once } from "node:events";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { createClient, type Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import * as grpc from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { A2AService, SendMessageRequestSchema, StreamResponseSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import type { AgentHandler, HandlerContext } from "../../src/outbound/in-process-channel.ts";
import { userMessage } from "../../src/sdk/client.ts";
import { act } from "../conformance/scripted-agent.ts";
import { startTestApp, type TestApp } from "./running-app.ts";

const EXTENSION = "urn:signalbox:a2a:updates:v1";

let app: TestApp;
/** What the agent was told with each message. */
const told: HandlerContext[] = [];
const agent: AgentHandler = (message, context) => {
  told.push(context);
  return act(message, context);
};

beforeAll(async () => {
  app = await startTestApp({ agents: { agent } });
});
afterAll(() => app?.stop());

interface Frame {
  id: string;
  // biome-ignore lint/suspicious/noExplicitAny: tests look into JSON as it comes
  item: any;
}

/** Asks for a stream of events and reads it to its end. */
async function events(path: string, init: RequestInit): Promise<{ headers: Headers; frames: Frame[] }> {
  const response = await fetch(app.httpUrl + path, init);
  const text = await response.text();
  expect({ status: response.status, text }).toMatchObject({ status: 200 });
  const frames = text.split("\n\n").filter((block) => block.startsWith("id: "));
  return {
    headers: response.headers,
    frames: frames.map((block) => {
      const [, id, data] = /^id: (\d+)\ndata: (.*)$/.exec(block)!;
      const json = JSON.parse(data!);
      return { id: id!, item: json.jsonrpc ? json.result : json };
    }),
  };
}

const JSON_TYPE = { "content-type": "application/json" };
const post = (body: object, headers: Record<string, string> = {}) => ({
  method: "POST",
  headers: { ...JSON_TYPE, ...headers },
  body: JSON.stringify(body),
});
const message = { messageId: "m1", role: "ROLE_USER", parts: [{ text: "chunks" }] };
const rpc = (method: string, params: object) => ({ jsonrpc: "2.0", id: 1, method, params });

/** The numbers that the items say, `undefined` where one says none. */
const numbersIn = (frames: Frame[]) =>
  frames.map(({ item }) => (Object.values(item)[0] as Frame["item"]).metadata?.[EXTENSION]?.sequence);

describe("server-sent events", () => {
  test.each([
    ["HTTP+JSON", "/message:stream", { message }],
    ["HTTP+JSON at an agent", "/agents/agent/message:stream", { message }],
    ["JSON-RPC", "/rpc", rpc("SendStreamingMessage", { message })],
  ])("of %s have their number as id, and in their metadata when it is asked for", async (_, path, body) => {
    const plain = await events(path, post(body));
    expect(numbersIn(plain.frames)).toEqual(plain.frames.map(() => undefined));
    expect(plain.headers.get("a2a-extensions")).toBeNull();
    const numbered = await events(path, post(body, { "A2A-Extensions": `urn:other, ${EXTENSION}` }));
    expect(numbersIn(numbered.frames)).toEqual(numbered.frames.map(({ id }) => id));
    expect(numbered.headers.get("a2a-extensions")).toBe(EXTENSION);
    const ids = numbered.frames.map(({ id }) => Number(id));
    expect(ids).toEqual([...ids].sort((a, b) => a - b));
    expect(new Set(ids).size).toBe(6);
  });

  test("are gone on with after Last-Event-ID, by GET as a browser does, by POST and by JSON-RPC", async () => {
    const { frames } = await events("/message:stream", post({ message }));
    const { id } = frames[0]!.item.task;
    for (const [at, frame] of frames.entries()) {
      const headers = { "Last-Event-ID": frame.id };
      const ways = [
        events(`/tasks/${id}:subscribe`, { headers }),
        events(`/tasks/${id}:subscribe`, { method: "POST", headers }),
        events(`/agents/agent/tasks/${id}:subscribe`, post({}, headers)),
        events(`/a.agent/tasks/${id}:subscribe`, { headers: { "Signalbox-After-Sequence": frame.id } }),
        events("/rpc", post(rpc("SubscribeToTask", { id }), headers)),
      ];
      for (const { frames: resumed } of await Promise.all(ways)) {
        expect(resumed[0]).toMatchObject({ id: frame.id, item: { task: { id } } });
        expect(resumed.slice(1)).toEqual(frames.slice(at + 1));
      }
    }
  });

  test("are not begun by who may not go on", async () => {
    const { frames } = await events("/message:stream", post({ message }));
    const { id } = frames[0]!.item.task;
    const bad = await fetch(`${app.httpUrl}/tasks/${id}:subscribe`, { headers: { "Last-Event-ID": "4711" } });
    expect([bad.status, bad.headers.get("content-type")]).toEqual([400, "application/json"]);
    const headers = { "Last-Event-ID": frames[0]!.id };
    const again = await fetch(`${app.httpUrl}/message:stream`, post({ message }, headers));
    expect([again.status, again.headers.get("content-type")]).toEqual([400, "application/json"]);
    const details = [{ reason: "RESUME_BY_SUBSCRIBING", domain: "signalbox" }];
    expect(await again.json()).toMatchObject({ error: { status: "FAILED_PRECONDITION", details } });
  });
});

describe.each([
  ["Connect", () => createConnectTransport({ baseUrl: app.httpUrl, httpVersion: "1.1" })],
  ["gRPC-Web", () => createGrpcWebTransport({ baseUrl: app.httpUrl, httpVersion: "1.1" })],
  ["gRPC at the HTTP port", () => createGrpcTransport({ baseUrl: app.httpUrl })],
  ["gRPC", () => createGrpcTransport({ baseUrl: `http://${app.grpcAddress}` })],
] satisfies [string, () => Transport][])("%s", (_, transport) => {
  test("tells in its header whether the extension is active", async () => {
    const client = createClient(A2AService, transport());
    for (const [named, active] of [
      ["urn:signalbox:a2a:updates:v2", null],
      [EXTENSION, EXTENSION],
    ] as const) {
      let header: Headers | undefined;
      const options = {
        headers: { "A2A-Extensions": named },
        onHeader: (given: Headers) => {
          header = given;
        },
      };
      for await (const _ of client.sendStreamingMessage({ message: userMessage("complete") }, options));
      expect(header?.get("a2a-extensions")).toBe(active);
    }
  });
});

test("grpc-js is told so in metadata", async () => {
  const client = new grpc.Client(app.grpcAddress, grpc.credentials.createInsecure());
  const metadata = new grpc.Metadata();
  metadata.set("a2a-extensions", EXTENSION);
  const sent = create(SendMessageRequestSchema, { message: userMessage("complete") });
  const request = Buffer.from(toBinary(SendMessageRequestSchema, sent));
  const call = client.makeServerStreamRequest(
    "/lf.a2a.v1.A2AService/SendStreamingMessage",
    (bytes: Buffer) => bytes,
    (bytes) => fromBinary(StreamResponseSchema, bytes),
    request,
    metadata,
  );
  const [answered] = (await Promise.all([once(call, "metadata"), once(call.resume(), "end")]))[0] as [grpc.Metadata];
  expect(answered.get("a2a-extensions")).toEqual([EXTENSION]);
  client.close();
});

test("agents hear of the extensions that are meant for them, not of ours", async () => {
  told.length = 0;
  const headers = { "A2A-Extensions": `urn:example:tone,${EXTENSION}` };
  await events("/message:stream", post({ message }, headers));
  await events("/message:stream", post({ message }, { "A2A-Extensions": EXTENSION }));
  const heard = told.map(
    ({ headers }) => Object.entries(headers).find(([name]) => /^a2a-extensions$/i.test(name))?.[1],
  );
  expect(heard).toEqual(["urn:example:tone", undefined]);
});
