/** Random bytes and mutated requests at the bindings that carry Protobuf: each gets an answer, and the server stays up. */
import http2 from "node:http2";
import { create, toBinary, toJsonString } from "@bufbuild/protobuf";
import fc from "fast-check";
import { afterEach, beforeAll, expect, it } from "vitest";
import { A2AService, Role, SendMessageRequestSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { TaskService } from "../../gen/signalbox/v1/task_pb.ts";
import { echoAgent } from "./echo-agent.ts";
import { startTestApp, type TestApp } from "./running-app.ts";

const RUNS = { numRuns: 120 };
let app: TestApp;
beforeAll(async () => {
  app = await startTestApp({ agents: { echo: echoAgent("echo") } });
  return () => app.stop();
});

// Whatever came before, an honest request is answered.
afterEach(async () => {
  const response = await fetch(`${app.httpUrl}/message:send`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: toJsonString(SendMessageRequestSchema, honest),
  });
  expect(response.status).toBe(200);
  expect(await (await fetch(`${app.httpUrl}/readyz`)).json()).toEqual({ status: "ready" });
});

const honest = create(SendMessageRequestSchema, {
  message: { messageId: "m", role: Role.USER, parts: [{ content: { case: "text", value: "hello" } }] },
  metadata: { key: { nested: [1, "two", null] } },
});
const wire = toBinary(SendMessageRequestSchema, honest);

/** Bytes of the honest request with some of them changed, cut off or said twice. */
const mutated = fc
  .tuple(fc.array(fc.tuple(fc.nat(wire.length - 1), fc.nat(255)), { maxLength: 6 }), fc.nat(wire.length), fc.boolean())
  .map(([changes, length, twice]) => {
    const bytes = Uint8Array.from(wire);
    for (const [at, value] of changes) bytes[at] = value;
    const cut = bytes.subarray(0, length);
    return twice ? Buffer.concat([cut, cut]) : Buffer.from(cut);
  });
const rubbish = fc.oneof(
  mutated,
  fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
);
// A stream of all tasks does not end by itself.
const method = fc.constantFrom(
  ...[A2AService, TaskService].flatMap(({ typeName, methods }) =>
    methods.filter(({ name }) => name !== "WatchTasks").map(({ name }) => `${typeName}/${name}`),
  ),
);

/** A frame as gRPC and gRPC-Web have it; its flags and length may lie. */
const frame = fc
  .tuple(rubbish, fc.option(fc.nat(255), { freq: 4 }), fc.option(fc.nat(0xffffffff), { freq: 4 }))
  .map(([bytes, flags, length]) => {
    const head = Buffer.alloc(5);
    head[0] = flags ?? 0;
    head.writeUInt32BE(length ?? bytes.length, 1);
    return Buffer.concat([head, bytes]);
  });

async function post(name: string, type: string, body: Uint8Array): Promise<Response> {
  return fetch(`${app.httpUrl}/${name}`, {
    method: "POST",
    headers: { "content-type": type, "connect-protocol-version": "1" },
    body: Uint8Array.from(body),
  });
}

it.each(["application/proto", "application/json"])("Connect with %s", async (type) => {
  await fc.assert(
    fc.asyncProperty(method, rubbish, async (name, body) => {
      const response = await post(name, type, body);
      await response.arrayBuffer();
      expect([200, 400, 404, 408, 409, 415, 429, 500, 501, 503]).toContain(response.status);
    }),
    RUNS,
  );
});

it.each(["application/connect+proto", "application/grpc-web+proto"])("streams and frames with %s", async (type) => {
  await fc.assert(
    fc.asyncProperty(method, frame, async (name, body) => {
      const response = await post(name, type, body);
      await response.arrayBuffer();
      expect(response.status).toBeGreaterThanOrEqual(200);
    }),
    RUNS,
  );
});

it.each([
  ["the gRPC listener", () => `http://${app.grpcAddress}`],
  ["the HTTP listener", () => app.httpUrl],
])("gRPC on %s", async (_name, url) => {
  const session = http2.connect(url());
  session.on("error", () => {});
  try {
    await fc.assert(
      fc.asyncProperty(method, frame, async (name, body) => {
        const { promise, resolve } = Promise.withResolvers<void>();
        const stream = session.request({
          ":method": "POST",
          ":path": `/${name}`,
          "content-type": "application/grpc",
          te: "trailers",
        });
        stream.on("error", () => {});
        stream.once("close", resolve);
        stream.resume();
        stream.end(body);
        await promise;
        expect(session.destroyed).toBe(false);
      }),
      RUNS,
    );
  } finally {
    session.close();
  }
});
