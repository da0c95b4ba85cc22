import { once } from "node:events";
import net from "node:net";
import { create, fromBinary, toBinary, toJson } from "@bufbuild/protobuf";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type SendMessageRequest, StreamResponseSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { errorBody, httpStatus, routeNotFound } from "../../src/transport/http-errors.ts";
import { sendText } from "../../src/transport/http-exchange.ts";
import { createHttpJsonHandler } from "../../src/transport/http-json/handler.ts";
import { addressTargetKey } from "../../src/transport/rpc/bound.ts";
import {
  type Exchange,
  framesOf,
  MemoryService,
  PROTOCOLS,
  type Reply,
  serve,
  type TestServer,
} from "./http-fixture.ts";

const MAX_BYTES = 64 * 1024;
const JSON_HEADERS = { "content-type": "application/json" };

describe.each(PROTOCOLS)("HTTP+JSON over %s", (protocol) => {
  let service: MemoryService;
  let server: TestServer;
  let errors: unknown[];
  let answered: Promise<void>[];

  beforeEach(async () => {
    service = new MemoryService();
    errors = [];
    answered = [];
    const handle = createHttpJsonHandler({
      rpcs: service.rpcs(),
      maxBytes: MAX_BYTES,
      bodyTimeoutMs: 100,
      keepAliveMs: 20,
      onError: (error) => errors.push(error),
    });
    server = await serve(protocol, (req, res) => {
      const done = handle(req, res, req.url ?? "", req.headers["x-test-target"] as string | undefined);
      if (done !== undefined) answered.push(done);
      else {
        const error = routeNotFound(req.method ?? "", req.url ?? "");
        sendText(res, httpStatus(error), "application/json", JSON.stringify(errorBody(error)));
      }
    });
  });

  afterEach(() => server.close());

  const get = (path: string, headers: Record<string, string> = {}) => server.send({ path, headers });
  const post = (path: string, body: unknown, headers: Record<string, string> = {}) => {
    const text = typeof body === "string" || body instanceof Uint8Array ? body : JSON.stringify(body);
    return server.send({ method: "POST", path, body: text, headers: { ...JSON_HEADERS, ...headers } });
  };
  const message = (text: string) => ({ message: { messageId: "m1", role: "ROLE_USER", parts: [{ text }] } });
  const lastRequest = () => toJson(service.last.context.method.input, service.last.request);

  function expectError(reply: Reply, status: number, code: string, reason: string): void {
    expect(reply.json?.error, reply.text).toMatchObject({ code: status, status: code });
    expect(reply.status).toBe(status);
    expect(reply.json.error.details[0]).toMatchObject({ "@type": "type.googleapis.com/google.rpc.ErrorInfo", reason });
  }

  function expectViolation(reply: Reply, field: string): void {
    expectError(reply, 400, "INVALID_ARGUMENT", "INVALID_ARGUMENT");
    const { "@type": type, fieldViolations } = reply.json.error.details[1];
    expect(type).toBe("type.googleapis.com/google.rpc.BadRequest");
    // ProtoJSON leaves the empty path of the whole body out.
    expect(fieldViolations[0].field ?? "").toBe(field);
    expect(fieldViolations[0].description).not.toBe("");
  }

  describe("requests", () => {
    test("a body becomes the request, and the answer is JSON", async () => {
      const reply = await post("/message:send", message("hi"));
      expect(reply.status).toBe(200);
      expect(reply.headers["content-type"]).toBe("application/json");
      expect(reply.headers["a2a-extensions"]).toBe("urn:x");
      const status = { state: "TASK_STATE_WORKING", timestamp: "2023-11-14T22:13:20.123Z" };
      expect(reply.json).toEqual({ task: { id: "t1", contextId: "c1", status } });
      expect(lastRequest()).toEqual(message("hi"));
      expect(service.last.context).toMatchObject({
        protocolName: "http+json",
        requestMethod: "POST",
        url: "/message:send",
      });
    });

    test("path, then body, then query", async () => {
      await post("/a.x/message:send?configuration.historyLength=3", { ...message("hi"), tenant: "a.other" });
      expect(lastRequest()).toEqual({ ...message("hi"), tenant: "a.x" });
    });

    test("field names in both spellings, unknown fields at any depth", async () => {
      await post("/message:send", {
        message: { message_id: "m", parts: [{ text: "x", media_type: "a/b", kind: "text" }] },
        z: [1],
      });
      expect(lastRequest()).toEqual({ message: { messageId: "m", parts: [{ text: "x", mediaType: "a/b" }] } });
    });

    test("query parameters of every kind", async () => {
      await get(
        "/tasks?contextId=a%20b&status=TASK_STATE_WORKING&page_size=5&includeArtifacts=true" +
          "&statusTimestampAfter=2025-11-09T10:30:00Z&historyLength=0&unknown=1&tenant.x=1",
      );
      expect(lastRequest()).toEqual({
        contextId: "a b",
        status: "TASK_STATE_WORKING",
        pageSize: 5,
        includeArtifacts: true,
        statusTimestampAfter: "2025-11-09T10:30:00Z",
        historyLength: 0,
      });
      await get("/tasks?status=2&includeArtifacts=false");
      expect(lastRequest()).toEqual({ status: "TASK_STATE_WORKING", includeArtifacts: false });
    });

    test("a body that is one field, a mask in the query, and an id in the path", async () => {
      const reply = await server.send({
        method: "PATCH",
        path: "/v1/agents/echo?update_mask=card_url,card&agent.etag=nobody-asked",
        body: JSON.stringify({ agent_id: "other", cardUrl: "http://x" }),
        headers: JSON_HEADERS,
      });
      expect(reply.json).toEqual({ agentId: "echo", cardUrl: "http://x" });
      expect(lastRequest()).toEqual({ agent: { agentId: "echo", cardUrl: "http://x" }, updateMask: "cardUrl,card" });
    });

    test("ids are percent-decoded, a path field in the query is not heeded", async () => {
      await get("/tasks/a%2Fb%20c?id=other&historyLength=2");
      expect(lastRequest()).toEqual({ id: "a/b c", historyLength: 2 });
    });

    test.each(["/tasks/t1:cancel", "/a.x/tasks/t1:cancel"])("POST %s with an empty body", async (path) => {
      const reply = await server.send({ method: "POST", path, headers: JSON_HEADERS });
      expect(reply.status).toBe(200);
      expect(lastRequest()).toMatchObject({ id: "t1" });
      expect((await server.send({ method: "POST", path })).status).toBe(200);
    });

    test("Content-Type may be A2A's own and name the charset; the answer follows", async () => {
      const type = "Application/A2A+JSON; Charset=UTF-8";
      expect((await post("/message:send", message("x"), { "content-type": type })).headers["content-type"]).toBe(
        "application/a2a+json",
      );
      const accept = "application/a2a+json, application/json";
      expect((await get("/tasks/t1", { accept })).headers["content-type"]).toBe("application/a2a+json");
      expect((await get("/tasks/missing", { accept })).headers["content-type"]).toBe("application/a2a+json");
    });

    test("the version may be a parameter; the header wins", async () => {
      const version = () => service.last.context.requestHeader.get("a2a-version");
      await get("/tasks/t1?A2A-Version=1.0");
      expect(version()).toBe("1.0");
      await get("/tasks/t1?A2A-Version=0.9", { "a2a-version": "1.0" });
      expect(version()).toBe("1.0");
      await get("/tasks/t1");
      expect(version()).toBeNull();
    });

    test("headers and the target of the address reach the implementation", async () => {
      await get("/tasks/t1", { "x-test-target": "a.x", authorization: "Bearer b" });
      expect(service.last.context.values.get(addressTargetKey)).toBe("a.x");
      expect(service.last.context.requestHeader.get("authorization")).toBe("Bearer b");
      expect([...service.last.context.requestHeader.keys()].some((name) => name.startsWith(":"))).toBe(false);
    });
  });

  describe("answers", () => {
    test("required fields of an answer are there when they are empty", async () => {
      expect((await get("/tasks")).json).toEqual({ tasks: [], nextPageToken: "", pageSize: 0, totalSize: 0 });
      expect((await get("/extendedAgentCard")).json).toEqual({
        name: "n",
        description: "",
        supportedInterfaces: [],
        version: "",
        defaultInputModes: [],
        defaultOutputModes: [],
        skills: [],
      });
    });

    test("nothing is an empty object", async () => {
      const reply = await server.send({ method: "DELETE", path: "/tasks/t1/pushNotificationConfigs/p" });
      expect([reply.status, reply.text]).toEqual([200, "{}"]);
    });
  });

  describe("errors", () => {
    test("a domain error in AIP-193", async () => {
      const reply = await get("/tasks/missing");
      expectError(reply, 404, "NOT_FOUND", "TASK_NOT_FOUND");
      expect(reply.json.error.details[0]).toMatchObject({
        domain: "a2a-protocol.org",
        metadata: { taskId: "missing" },
      });
    });

    test("when to try again", async () => {
      const reply = await post("/message:send", message("busy"));
      expectError(reply, 429, "RESOURCE_EXHAUSTED", "RATE_LIMITED");
      expect(reply.headers["retry-after"]).toBe("2");
      expect(reply.json.error.details[1]).toEqual({
        "@type": "type.googleapis.com/google.rpc.RetryInfo",
        retryDelay: "1.500s",
      });
    });

    test("what should not happen is masked and reported", async () => {
      const reply = await post("/message:send", message("crash"));
      expectError(reply, 500, "INTERNAL", "INTERNAL");
      expect(reply.text).not.toContain("secret");
      expect(errors).toEqual([new TypeError("a secret")]);
    });

    test("an unknown path is left to others, a known one says what it takes", async () => {
      expectError(await get("/nowhere"), 404, "NOT_FOUND", "ROUTE_NOT_FOUND");
      const reply = await server.send({ method: "DELETE", path: "/tasks/t1:subscribe" });
      expectError(reply, 405, "UNIMPLEMENTED", "METHOD_NOT_ALLOWED");
      expect(reply.headers.allow).toBe("GET, POST");
    });

    test.each<[string, Exchange]>([
      ["id", { path: "/tasks/%zz" }],
      ["id", { path: "/tasks/%ff" }],
      ["pageSize", { path: "/tasks?pageSize=ten" }],
      ["pageSize", { path: "/tasks?pageSize=1.5" }],
      ["pageSize", { path: "/tasks?pageSize=99999999999" }],
      ["pageSize", { path: "/tasks?pageSize=1&pageSize=2" }],
      ["status", { path: "/tasks?status=TASK_STATE_DREAMING" }],
      ["includeArtifacts", { path: "/tasks?includeArtifacts=yes" }],
      ["statusTimestampAfter", { path: "/tasks?statusTimestampAfter=yesterday" }],
      ["message.role", { path: "/message:send", body: '{"message":{"role":"ROLE_GHOST"}}' }],
      ["message.parts[1].text", { path: "/message:send", body: '{"message":{"parts":[{"text":"a"},{"text":1}]}}' }],
      ["message.parts", { path: "/message:send", body: '{"message":{"parts":{}}}' }],
      ["message.parts[0]", { path: "/message:send", body: '{"message":{"parts":[null]}}' }],
      ["configuration", { path: "/message:send", body: '{"configuration":[]}' }],
      ["metadata", { path: "/message:send", body: '{"metadata":7}' }],
      ["", { path: "/message:send", body: '{"message":{"parts":[{"text":"a","url":"b"}]}}' }],
      ["", { path: "/message:send", body: "[]" }],
      ["", { path: "/message:send", body: "null" }],
      ["", { path: "/message:send", body: '{"message":' }],
      ["", { path: "/message:send", body: "{'message':1}" }],
      ["agent", { method: "PATCH", path: "/v1/agents/echo", body: '"x"' }],
    ])("a bad value of %j names the field", async (field, exchange) => {
      const method = exchange.method ?? (exchange.body === undefined ? "GET" : "POST");
      expectViolation(await server.send({ method, headers: JSON_HEADERS, ...exchange }), field);
      expect(service.seen).toEqual([]);
    });

    test("a syntax error says where", async () => {
      const reply = await post("/message:send", '{"message": {"parts": [1,]}}');
      expect(reply.json.error.message).toMatch(/no JSON.*\]\}\}/);
    });

    test.each(["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin1", ""])(
      "Content-Type %j is 415",
      async (type) => {
        const reply = await post("/message:send", message("x"), { "content-type": type });
        expectError(reply, 415, "INVALID_ARGUMENT", "UNSUPPORTED_MEDIA_TYPE");
      },
    );

    test("a body without Content-Type, or compressed, is 415", async () => {
      const untyped = await server.send({ method: "POST", path: "/message:send", body: "{}" });
      expectError(untyped, 415, "INVALID_ARGUMENT", "UNSUPPORTED_MEDIA_TYPE");
      const packed = await post("/message:send", "x", { "content-encoding": "gzip" });
      expectError(packed, 415, "INVALID_ARGUMENT", "UNSUPPORTED_MEDIA_TYPE");
    });
  });

  describe("limits", () => {
    test("the largest body passes, one byte more does not", async () => {
      const frame = JSON.stringify(message(""));
      const text = "x".repeat(MAX_BYTES - frame.length);
      expect((await post("/message:send", message(text))).status).toBe(200);
      const reply = await post("/message:send", message(`${text}x`));
      expectError(reply, 413, "RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE");
      expect(reply.json.error.message).toMatch(/65536.*limits\.message-bytes/);
    });

    test("a large body of unknown length is refused while it comes", async () => {
      const body = "x".repeat(MAX_BYTES + 1);
      const reply = await server.start({
        method: "POST",
        path: "/message:send",
        body,
        headers: JSON_HEADERS,
        unfinished: true,
      }).reply;
      expectError(reply, 413, "RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE");
    });

    test("a large body is answered, not cut off", async () => {
      const reply = await post("/message:send", "x".repeat(8 * 1024 * 1024));
      expectError(reply, 413, "RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE");
    });

    test("a body that does not come", async () => {
      const slow = server.start({
        method: "POST",
        path: "/message:send",
        body: "{",
        headers: JSON_HEADERS,
        unfinished: true,
      });
      expectError(await slow.reply, 408, "DEADLINE_EXCEEDED", "BODY_TIMEOUT");
    });

    test.each(["[", '{"message":', '{"metadata":{"a":[', '{"\\\\":["\\"[",'])("nesting bomb of %j", async (piece) => {
      expectViolation(await post("/message:send", piece.repeat(Math.floor(MAX_BYTES / piece.length))), "");
    });

    test("brackets in strings are no nesting", async () => {
      expect((await post("/message:send", message(`\\"${"[{".repeat(500)}\\`))).status).toBe(200);
    });

    test.each([
      ["[", "", "]"],
      ['{"a":', "1", "}"],
    ])("data of %j nests as deep as can be stored, and no deeper", async (open, middle, close) => {
      const nested = (levels: number) => {
        const data = `${open.repeat(levels)}${middle}${close.repeat(levels)}`;
        return post("/message:send", `{"message":{"parts":[{"data":${data}}]}}`);
      };
      expect((await nested(40)).status).toBe(200);
      const history = [(service.last.request as SendMessageRequest).message!];
      const stored = create(StreamResponseSchema, { payload: { case: "task", value: { history } } });
      const bytes = toBinary(StreamResponseSchema, stored);
      expect(toBinary(StreamResponseSchema, fromBinary(StreamResponseSchema, bytes))).toEqual(bytes);
      expectViolation(await nested(50), "message.parts[0].data");
    });

    test.each([
      [0xff, 0xfe],
      [0x7b, 0x22, 0xc3, 0x28, 0x22, 0x7d],
      [0x22, 0xed, 0xa0, 0x80, 0x22],
    ])("bytes that are no UTF-8: %j, ...", async (...bytes) => {
      const reply = await post("/message:send", Uint8Array.from(bytes));
      expectViolation(reply, "");
      expect(reply.json.error.message).toContain("UTF-8");
    });
  });

  describe("streams", () => {
    test("one item a frame, with its sequence number", async () => {
      const reply = await post("/message:stream", message("go"));
      expect(reply.status).toBe(200);
      expect(reply.headers).toMatchObject({
        "content-type": "text/event-stream",
        "cache-control": "no-cache",
        "x-accel-buffering": "no",
      });
      const frames = framesOf(reply.text);
      expect(frames.map(({ id, event }) => [id, event])).toEqual([
        ["1", undefined],
        ["2", undefined],
      ]);
      expect(JSON.parse(frames[0]!.data!)).toHaveProperty("task.id", "t1");
      expect(JSON.parse(frames[1]!.data!)).toHaveProperty("statusUpdate.status.state", "TASK_STATE_COMPLETED");
    });

    test.each([{ method: "GET" }, { method: "POST", headers: JSON_HEADERS }, { method: "POST" }])(
      "subscribing by %j",
      async (how) => {
        const reply = await server.send({ path: "/tasks/t1:subscribe", ...how });
        expect(framesOf(reply.text)).toHaveLength(1);
        expect(lastRequest()).toEqual({ id: "t1" });
      },
    );

    test("an error before the first item is an ordinary error", async () => {
      expectError(await post("/message:stream", message("first")), 404, "NOT_FOUND", "TASK_NOT_FOUND");
    });

    test.each([
      ["second", "NOT_FOUND", "TASK_NOT_FOUND"],
      ["crash", "INTERNAL", "INTERNAL"],
    ])("an error after the first item (%s) is the last frame", async (text, status, reason) => {
      const reply = await post("/message:stream", message(text));
      expect(reply.status).toBe(200);
      const frames = framesOf(reply.text);
      expect(frames).toHaveLength(2);
      expect(frames[1]!.event).toBe("error");
      expect(JSON.parse(frames[1]!.data!).error).toMatchObject({ status, details: [{ reason }] });
      expect(reply.text).not.toContain("secret");
    });

    test("a stream without items", async () => {
      const reply = await post("/message:stream", message("none"));
      expect([reply.status, reply.headers["content-type"], reply.text]).toEqual([200, "text/event-stream", ""]);
    });

    test("a silent stream says that it lives, and ends when its watcher leaves", async () => {
      const pending = server.start({ path: "/tasks/endless:subscribe" });
      let text = "";
      for await (const chunk of pending.chunks) {
        text += chunk;
        if (text.match(/: keep-alive\n\n/g)?.length === 2) break;
      }
      pending.leave();
      expect(await service.endlessLeft.promise).toMatchObject({ code: "CANCELLED" });
      await Promise.all(answered);
    });

    test("goes no faster than its reader, and stops when the reader leaves", async () => {
      const pending = server.start({ path: "/tasks/flood:subscribe" });
      // One piece read, then no more: the source has to stop long before its end.
      for await (const _ of pending.chunks) break;
      pending.leave();
      await service.endlessLeft.promise;
      expect(service.flooded).toBeLessThan(1000);
      await Promise.all(answered);
      expect(errors).toEqual([]);
    });
  });

  test("a client that leaves aborts its call", async () => {
    const pending = server.start({
      method: "POST",
      path: "/message:send",
      body: JSON.stringify(message("wait")),
      headers: JSON_HEADERS,
    });
    const signal = await service.waiting.promise;
    expect(signal.aborted).toBe(false);
    pending.leave();
    if (!signal.aborted) await once(signal, "abort");
    await Promise.all(answered);
    expect(errors).toEqual([]);
  });

  test("a client that leaves in its body is forgotten", async () => {
    if (protocol !== "HTTP/1.1") return;
    const socket = net.connect(server.port, "127.0.0.1");
    socket.write(
      "POST /message:send HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{",
    );
    await expect.poll(() => answered.length).toBe(1);
    socket.destroy();
    await Promise.all(answered);
    expect([service.seen, errors]).toEqual([[], []]);
  });
});
