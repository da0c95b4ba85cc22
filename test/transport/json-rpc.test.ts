import { once } from "node:events";
import { toJson } from "@bufbuild/protobuf";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createJsonRpcHandler } from "../../src/transport/json-rpc/handler.ts";
import { addressTargetKey } from "../../src/transport/rpc/bound.ts";
import { framesOf, PROTOCOLS, type Reply, serve, type TestServer } from "./http-fixture.ts";
import { MemoryService } from "./memory-service.ts";

const MAX_BYTES = 64 * 1024;
const JSON_HEADERS = { "content-type": "application/json" };

describe.each(PROTOCOLS)("JSON-RPC over %s", (protocol) => {
  let service: MemoryService;
  let server: TestServer;
  let errors: unknown[];
  let answered: Promise<void>[];

  beforeEach(async () => {
    service = new MemoryService();
    errors = [];
    answered = [];
    const handle = createJsonRpcHandler({
      rpcs: service.rpcs(),
      maxBytes: MAX_BYTES,
      bodyTimeoutMs: 100,
      keepAliveMs: 20,
      onError: (error) => errors.push(error),
    });
    server = await serve(protocol, (req, res) => {
      answered.push(handle(req, res, req.headers["x-test-target"] as string | undefined));
    });
  });

  afterEach(() => server.close());

  const post = (body: string | Uint8Array, headers: Record<string, string> = {}, path = "/rpc") =>
    server.send({ method: "POST", path, body, headers: { ...JSON_HEADERS, ...headers } });
  const call = (method: string, params?: unknown, id: unknown = 1) =>
    post(JSON.stringify({ jsonrpc: "2.0", id, method, params }));
  const message = (text: string) => ({ message: { messageId: "m1", role: "ROLE_USER", parts: [{ text }] } });
  const lastRequest = () => toJson(service.last.context.method.input, service.last.request);

  function expectError(
    reply: Reply,
    code: number,
    reason: string,
    { id = null, status = 200 }: { id?: unknown; status?: number } = {},
  ) {
    expect(reply.status).toBe(status);
    expect(reply.headers["content-type"]).toBe("application/json");
    expect(Object.keys(reply.json)).toEqual(["jsonrpc", "id", "error"]);
    expect(reply.json).toMatchObject({ jsonrpc: "2.0", id, error: { code } });
    expect(Object.keys(reply.json.error)).toEqual(["code", "message", "data"]);
    expect(reply.json.error.data[0]).toMatchObject({ "@type": "type.googleapis.com/google.rpc.ErrorInfo", reason });
  }

  describe("calls", () => {
    test("params become the request, the result is the answer", async () => {
      const reply = await call("SendMessage", message("hi"), "a-1");
      expect(reply.status).toBe(200);
      expect(reply.headers["a2a-extensions"]).toBe("urn:x");
      expect(reply.json).toMatchObject({ jsonrpc: "2.0", id: "a-1", result: { task: { id: "t1" } } });
      expect(lastRequest()).toEqual(message("hi"));
      expect(service.last.context.protocolName).toBe("json-rpc");
    });

    test.each(["1", "0", "-7", '"x"', '""', "null", "12345678901234567890", "1.5", '"\\u00e9\\n"'])(
      "the id %s comes back as it was",
      async (id) => {
        const reply = await post(`{"params":{"id":"t1","x":{"id":2.5}},"id":${id},"jsonrpc":"2.0","method":"GetTask"}`);
        expect(reply.json.result.id).toBe("t1");
        const sent = /"id":(.*?),"result"/.exec(reply.text)![1]!;
        expect(id.startsWith('"') ? JSON.parse(sent) : sent).toBe(id.startsWith('"') ? JSON.parse(id) : id);
      },
    );

    test("params in snake_case, null or not there", async () => {
      await call("GetTask", { id: "t1", history_length: 3 });
      expect(lastRequest()).toEqual({ id: "t1", historyLength: 3 });
      expect((await call("ListTasks")).json.result).toEqual({
        tasks: [],
        nextPageToken: "",
        pageSize: 0,
        totalSize: 0,
      });
      expect((await call("ListTasks", null)).json.result.tasks).toEqual([]);
    });

    test("deleting has the result null", async () => {
      const reply = await call("DeleteTaskPushNotificationConfig", { taskId: "t1", id: "p" });
      expect(reply.json).toEqual({ jsonrpc: "2.0", id: 1, result: null });
    });

    test("a notification is done and not answered", async () => {
      for (const method of ["SendMessage", "SendStreamingMessage"]) {
        const body = { jsonrpc: "2.0", method, params: message("hi") };
        const reply = await post(JSON.stringify(body));
        expect([reply.status, reply.text]).toEqual([204, ""]);
        expect(service.last.method).toBe(method);
      }
      const failing = await post(JSON.stringify({ jsonrpc: "2.0", method: "GetTask", params: { id: "missing" } }));
      expect([failing.status, failing.text]).toEqual([204, ""]);
    });

    test("version, headers and target", async () => {
      const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method: "GetTask", params: { id: "t1" } });
      await post(body, { "x-test-target": "a.x" }, "/?a2a-version=1.0");
      const { context } = service.last;
      expect(context.requestHeader.get("a2a-version")).toBe("1.0");
      expect(context.values.get(addressTargetKey)).toBe("a.x");
    });
  });

  describe("errors", () => {
    test("of A2A have the codes of its table", async () => {
      const reply = await call("GetTask", { id: "missing" }, 7);
      expectError(reply, -32001, "TASK_NOT_FOUND", { id: 7 });
      expect(reply.json.error.data[0]).toMatchObject({ domain: "a2a-protocol.org", metadata: { taskId: "missing" } });
    });

    test("of ours have those of the conventions", async () => {
      const reply = await call("SendMessage", message("busy"));
      expectError(reply, -32052, "RATE_LIMITED", { id: 1 });
      expect(reply.headers["retry-after"]).toBe("2");
    });

    test("that should not happen are masked and reported", async () => {
      const reply = await call("SendMessage", message("crash"));
      expectError(reply, -32603, "INTERNAL", { id: 1 });
      expect(reply.text).not.toContain("secret");
      expect(errors).toEqual([new TypeError("a secret")]);
    });

    test.each(["", "{", "nonsense", '{"jsonrpc":"2.0"', "\u0000"])("%j is no JSON: -32700", async (body) => {
      expectError(await post(body), -32700, "INVALID_JSON");
    });

    test("bytes that are no UTF-8, and bombs: -32700", async () => {
      expectError(await post(Uint8Array.of(0x22, 0xff, 0x22)), -32700, "INVALID_JSON");
      expectError(await post("[".repeat(MAX_BYTES)), -32700, "INVALID_JSON");
    });

    test.each([
      ["7", null],
      ["null", null],
      ["[]", null],
      ['[{"jsonrpc":"2.0","id":1,"method":"GetTask"}]', null],
      ["{}", null],
      ['{"id":4,"method":"GetTask"}', 4],
      ['{"jsonrpc":"1.0","id":"a","method":"GetTask"}', "a"],
      ['{"jsonrpc":"2.0","id":5}', 5],
      ['{"jsonrpc":"2.0","id":5,"method":1}', 5],
      ['{"jsonrpc":"2.0","id":{},"method":"GetTask"}', null],
      ['{"jsonrpc":"2.0","id":true,"method":"GetTask"}', null],
    ])("%s is no Request: -32600", async (body, id) => {
      expectError(await post(body), -32600, "INVALID_REQUEST", { id });
    });

    test("an unknown method says which there are", async () => {
      for (const method of ["message/send", "ListAgents", "toString", "__proto__"]) {
        const reply = await call(method, {});
        expectError(reply, -32601, "METHOD_NOT_FOUND", { id: 1 });
        expect(reply.json.error.message).toContain("SendMessage, SendStreamingMessage, GetTask");
      }
    });

    test("bad params name the field", async () => {
      const reply = await call("SendMessage", { message: { parts: [{ text: 1 }] } });
      expectError(reply, -32602, "INVALID_ARGUMENT", { id: 1 });
      expect(reply.json.error.data[1].fieldViolations[0].field).toBe("message.parts[0].text");
      expectError(await call("GetTask", ["t1"]), -32602, "INVALID_ARGUMENT", { id: 1 });
      expectError(await call("GetTask", "t1"), -32602, "INVALID_ARGUMENT", { id: 1 });
    });

    test("before the body is JSON, HTTP says it too", async () => {
      expectError(await post("{}", { "content-type": "text/plain" }), -32600, "UNSUPPORTED_MEDIA_TYPE", {
        status: 415,
      });
      expectError(await post("x".repeat(MAX_BYTES + 1)), -32052, "MESSAGE_TOO_LARGE", { status: 413 });
      const slow = server.start({ method: "POST", path: "/", body: "{", headers: JSON_HEADERS, unfinished: true });
      expectError(await slow.reply(), -32054, "BODY_TIMEOUT", { status: 408 });
      const reply = await server.send({ path: "/rpc" });
      expectError(reply, -32600, "METHOD_NOT_ALLOWED", { status: 405 });
      expect(reply.headers.allow).toBe("POST");
    });
  });

  describe("streams", () => {
    test("each item is a Response object with the id of the request", async () => {
      const reply = await call("SendStreamingMessage", message("go"), "s");
      expect(reply.headers["content-type"]).toBe("text/event-stream");
      const frames = framesOf(reply.text);
      expect(frames.map((frame) => frame.id)).toEqual(["1", "2"]);
      const items = frames.map((frame) => JSON.parse(frame.data!));
      expect(items[0]).toMatchObject({ jsonrpc: "2.0", id: "s", result: { task: { id: "t1" } } });
      expect(items[1]).toMatchObject({ result: { statusUpdate: { status: { state: "TASK_STATE_COMPLETED" } } } });
    });

    test("an error before the first item is a plain Response", async () => {
      expectError(await call("SubscribeToTask", { id: "missing" }), -32001, "TASK_NOT_FOUND", { id: 1 });
    });

    test("an error after the first item is the last Response", async () => {
      const frames = framesOf((await call("SendStreamingMessage", message("second"))).text);
      expect(frames).toHaveLength(2);
      expect(frames[1]!.event).toBeUndefined();
      expect(JSON.parse(frames[1]!.data!)).toMatchObject({ jsonrpc: "2.0", id: 1, error: { code: -32001 } });
    });

    test("a watcher that leaves ends its stream", async () => {
      const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method: "SubscribeToTask", params: { id: "endless" } });
      const pending = server.start({ method: "POST", path: "/", body, headers: JSON_HEADERS });
      for await (const _ of pending.chunks) break;
      pending.leave();
      expect(await service.endlessLeft.promise).toMatchObject({ code: "CANCELLED" });
      await Promise.all(answered);
      expect(errors).toEqual([]);
    });
  });

  test("a client that leaves aborts its call", async () => {
    const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method: "SendMessage", params: message("wait") });
    const pending = server.start({ method: "POST", path: "/", body, headers: JSON_HEADERS });
    const signal = await service.waiting.promise;
    pending.leave();
    if (!signal.aborted) await once(signal, "abort");
    await Promise.all(answered);
    expect(errors).toEqual([]);
  });
});
