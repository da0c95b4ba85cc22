/** Whatever is thrown at the JSON bindings: the answer is well formed, nothing unexpected happens, the server goes on. */
import fc from "fast-check";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { createHttpJsonHandler } from "../../src/transport/http-json/handler.ts";
import { createJsonRpcHandler } from "../../src/transport/json-rpc/handler.ts";
import { PROTOCOLS, type Reply, serve, type TestServer } from "./http-fixture.ts";
import { MemoryService } from "./memory-service.ts";

const RUNS = 250;
const headers = { "content-type": "application/json" };

const sendMessage = {
  message: {
    messageId: "m1",
    role: "ROLE_USER",
    parts: [{ text: "hi" }, { data: { a: [1, null, true] } }, { raw: "aGk=" }],
    metadata: { k: "v" },
    extensions: ["urn:x"],
  },
  configuration: { historyLength: 2, returnImmediately: true, acceptedOutputModes: ["text/plain"] },
};

/** `text` with a few of its bytes replaced, cut out or repeated. */
function mutated(text: string): fc.Arbitrary<Uint8Array> {
  const bytes = Buffer.from(text);
  const change = fc.record({
    at: fc.nat(bytes.length),
    drop: fc.nat(4),
    insert: fc.oneof(
      fc.uint8Array({ maxLength: 4 }),
      fc.constantFrom("{", "[", '"', "\\", "null", "1e999", "__proto__").map((s) => Buffer.from(s)),
    ),
  });
  return fc
    .array(change, { minLength: 1, maxLength: 4 })
    .map((changes) =>
      changes.reduce(
        (now, { at, drop, insert }) => Buffer.concat([now.subarray(0, at), insert, now.subarray(at + drop)]),
        bytes,
      ),
    );
}

/** JSON that has the contract's names and any values. */
const almostRequest = fc.letrec((tie) => ({
  value: fc.oneof(
    { maxDepth: 5 },
    fc.jsonValue({ maxDepth: 2 }),
    tie("object"),
    fc.array(tie("value"), { maxLength: 3 }),
  ),
  object: fc.dictionary(
    fc.constantFrom(
      "message",
      "parts",
      "text",
      "data",
      "role",
      "metadata",
      "configuration",
      "historyLength",
      "history_length",
      "id",
      "__proto__",
      "constructor",
    ),
    tie("value"),
    { maxKeys: 5 },
  ),
})).value;

const anyBody = (valid: unknown) =>
  fc.oneof(
    fc.uint8Array({ maxLength: 200 }),
    mutated(JSON.stringify(valid)),
    almostRequest.map((value) => Buffer.from(JSON.stringify(value))),
    fc.string({ unit: "binary", maxLength: 100 }).map((text) => Buffer.from(text)),
  );

describe.each(PROTOCOLS)("over %s", (protocol) => {
  const service = new MemoryService();
  const errors: unknown[] = [];
  let server: TestServer;

  beforeAll(async () => {
    const options = { rpcs: service.rpcs(), maxBytes: 4096, onError: (error: unknown) => errors.push(error) };
    const rest = createHttpJsonHandler(options);
    const rpc = createJsonRpcHandler(options);
    server = await serve(protocol, (req, res) => {
      const path = req.url ?? "";
      if (path === "/rpc") void rpc(req, res);
      else if (rest(req, res, path) === undefined) res.end("unrouted");
    });
  });
  afterAll(() => server.close());
  beforeEach(() => {
    errors.length = 0;
    service.seen.length = 0;
  });

  function expectHttpJson(reply: Reply): void {
    if (reply.text === "unrouted" || reply.headers["content-type"] === "text/event-stream") return;
    if (reply.status === 200) expect(reply.json).toBeTypeOf("object");
    else {
      expect(reply.status).toBeGreaterThanOrEqual(400);
      expect(reply.status).toBeLessThan(500);
      expect(reply.json.error).toMatchObject({ code: reply.status, status: expect.stringMatching(/^[A-Z_]+$/) });
      expect(reply.json.error.details[0].reason).toMatch(/^[A-Z_]+$/);
    }
    expect(errors).toEqual([]);
  }

  test("bodies of HTTP+JSON", async () => {
    await fc.assert(
      fc.asyncProperty(anyBody(sendMessage), async (body) => {
        expectHttpJson(await server.send({ method: "POST", path: "/message:send", body, headers }));
      }),
      { numRuns: RUNS },
    );
  });

  test("addresses of HTTP+JSON", async () => {
    const piece = fc.oneof(
      fc.constantFrom(
        "tasks",
        "a.x",
        "t1",
        "v1",
        "agents",
        "pushNotificationConfigs",
        "message:send",
        ":cancel",
        ":subscribe",
        "%",
        "%zz",
        "%2F",
        "..",
        "?",
        "&",
      ),
      fc.constantFrom("pageSize=", "status=", "tenant=", "updateMask=", "statusTimestampAfter=", "agent.card.skills="),
      fc.webFragments(),
    );
    const path = fc.array(piece, { maxLength: 6 }).map((pieces) => `/${pieces.join("/").replace(/\/([?&:])/g, "$1")}`);
    const method = fc.constantFrom("GET", "POST", "DELETE", "PATCH", "PUT");
    await fc.assert(
      fc.asyncProperty(method, path, async (method, path) => {
        // The stream of a task that never ends is of no use here.
        fc.pre(!path.includes("endless") && !path.includes("flood"));
        expectHttpJson(await server.send({ method, path, headers }));
      }),
      { numRuns: RUNS },
    );
  });

  test("bodies of JSON-RPC", async () => {
    const request = { jsonrpc: "2.0", id: 1, method: "SendMessage", params: sendMessage };
    const withParams = almostRequest.map((params) => Buffer.from(JSON.stringify({ ...request, params })));
    await fc.assert(
      fc.asyncProperty(fc.oneof(anyBody(request), withParams), async (body) => {
        const reply = await server.send({ method: "POST", path: "/rpc", body, headers });
        if (reply.status === 204) expect(reply.text).toBe("");
        else if (reply.headers["content-type"] !== "text/event-stream") {
          expect(reply.status).toBe(200);
          expect(reply.json.jsonrpc).toBe("2.0");
          expect("result" in reply.json).toBe(!("error" in reply.json));
          if ("error" in reply.json) {
            expect(reply.json.error.code).toBeTypeOf("number");
            expect(reply.json.error.data[0].reason).toMatch(/^[A-Z_]+$/);
          }
        }
        expect(errors).toEqual([]);
      }),
      { numRuns: RUNS },
    );
  });
});
