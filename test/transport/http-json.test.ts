import { create } from "@bufbuild/protobuf";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { CacheStatsSchema } from "../../gen/signalbox/v1/cache_pb.ts";
import { responseWriter } from "../../src/transport/proto-json.ts";
import { addressTargetKey } from "../../src/transport/rpc/bound.ts";
import { type Exchange, PROTOCOLS } from "./http-fixture.ts";
import {
  expectError,
  expectViolation,
  type HttpJsonServer,
  JSON_HEADERS,
  message,
  serveHttpJson,
} from "./http-json-server.ts";

describe.each(PROTOCOLS)("HTTP+JSON over %s", (protocol) => {
  let server: HttpJsonServer;

  beforeEach(async () => {
    server = await serveHttpJson(protocol);
  });

  afterEach(() => server.close());

  describe("requests", () => {
    test("a body becomes the request, and the answer is JSON", async () => {
      const reply = await server.post("/message:send", message("hi"));
      expect(reply.status).toBe(200);
      expect(reply.headers["content-type"]).toBe("application/json");
      expect(reply.headers["a2a-extensions"]).toBe("urn:x");
      const status = { state: "TASK_STATE_WORKING", timestamp: "2023-11-14T22:13:20.123Z" };
      expect(reply.json).toEqual({ task: { id: "t1", contextId: "c1", status } });
      expect(server.lastRequest()).toEqual(message("hi"));
      expect(server.service.last.context).toMatchObject({
        protocolName: "http+json",
        requestMethod: "POST",
        url: "/message:send",
      });
    });

    test("path, then body, then query", async () => {
      await server.post("/a.x/message:send?configuration.historyLength=3", { ...message("hi"), tenant: "a.other" });
      expect(server.lastRequest()).toEqual({ ...message("hi"), tenant: "a.x" });
    });

    test("field names in both spellings, unknown fields at any depth", async () => {
      await server.post("/message:send", {
        message: { message_id: "m", parts: [{ text: "x", media_type: "a/b", kind: "text" }] },
        z: [1],
      });
      expect(server.lastRequest()).toEqual({ message: { messageId: "m", parts: [{ text: "x", mediaType: "a/b" }] } });
    });

    test("query parameters of every kind", async () => {
      await server.get(
        "/tasks?contextId=a%20b&status=TASK_STATE_WORKING&page_size=5&includeArtifacts=true" +
          "&statusTimestampAfter=2025-11-09T10:30:00Z&historyLength=0&unknown=1&tenant.x=1",
      );
      expect(server.lastRequest()).toEqual({
        contextId: "a b",
        status: "TASK_STATE_WORKING",
        pageSize: 5,
        includeArtifacts: true,
        statusTimestampAfter: "2025-11-09T10:30:00Z",
        historyLength: 0,
      });
      await server.get("/tasks?status=2&includeArtifacts=false");
      expect(server.lastRequest()).toEqual({ status: "TASK_STATE_WORKING", includeArtifacts: false });
    });

    test("a body that is one field, a mask in the query, and an id in the path", async () => {
      const reply = await server.send({
        method: "PATCH",
        path: "/v1/agents/echo?update_mask=card_url,card&A2A-Version=1.0",
        body: JSON.stringify({ agent_id: "other", cardUrl: "http://x" }),
        headers: JSON_HEADERS,
      });
      expect(reply.json).toEqual({ agentId: "echo", cardUrl: "http://x" });
      expect(server.lastRequest()).toEqual({
        agent: { agentId: "echo", cardUrl: "http://x" },
        updateMask: "cardUrl,card",
      });
    });

    test.each([
      ["POST", "/v1/tasks", { capability: "write", text: "x" }, "capability", "Did you mean capabilityId?"],
      ["POST", "/v1/tasks:cleanup", { olderThan: 604800 }, "olderThan", "There are olderThanSeconds."],
      ["POST", "/v1/tasks:batchSubmit", { requests: [{ txt: "x" }] }, "requests[0].txt", "Did you mean text?"],
      ["GET", "/v1/tasks?agent=writer", undefined, "agent", "Did you mean agentId?"],
      ["GET", "/v1/tasks?agentId.x=writer", undefined, "agentId.x", "is no query parameter"],
      ["GET", "/v1/tasks/t1:wait?taskId=t2", undefined, "taskId", "is said by the path"],
      ["POST", "/v1/tasks?agentId=writer", { text: "x" }, "agentId", "from the body"],
      ["PATCH", "/v1/agents/echo?agent.etag=x", { cardUrl: "http://x" }, "agent.etag", "give agent as the body"],
      ["PATCH", "/v1/agents/echo", { cardURI: "http://x" }, "agent.cardURI", "Did you mean cardUrl?"],
    ])("our own %s %s refuses what it does not know in %j", async (method, path, body, field, remedy) => {
      const text = body && { body: JSON.stringify(body), headers: JSON_HEADERS };
      const reply = await server.send({ method, path, ...text });
      expectViolation(reply, field);
      expect(reply.json.error.message).toContain(remedy);
      expect(server.service.seen).toEqual([]);
    });

    test.each(["HIGH", "TASK_PRIORITY_HIGH", 4])("a priority may be said as %j", async (priority) => {
      expect((await server.post("/v1/tasks", { text: "x", priority })).status).toBe(200);
      expect(server.lastRequest()).toEqual({ text: "x", priority: "TASK_PRIORITY_HIGH" });
    });

    test("names of our own enums need no prefix in an address, and a refusal says which there are", async () => {
      await server.get("/v1/tasks?state=COMPLETED");
      expect(server.lastRequest()).toEqual({ state: "ENGINE_STATE_COMPLETED" });
      const reply = await server.post("/v1/tasks:batchSubmit", { requests: [{ text: "x", priority: "URGENT" }] });
      expectViolation(reply, "requests[0].priority");
      expect(reply.json.error.message).toContain(
        '"URGENT" is no TaskPriority. There are BACKGROUND, LOW, NORMAL, HIGH,',
      );
      expectViolation(await server.get("/tasks?status=WORKING"), "status");
    });

    test("what A2A defines stays lenient within our own requests, and any request may name the version", async () => {
      const card = { name: "n", nobodyKnows: 1, skills: [{ id: "s", novel: true }] };
      const path = "/v1/agents/echo?A2A-Version=1.0";
      const reply = await server.send({ method: "PATCH", path, body: JSON.stringify({ card }), headers: JSON_HEADERS });
      expect(reply.status).toBe(200);
      expect(server.lastRequest()).toMatchObject({ agent: { card: { name: "n", skills: [{ id: "s" }] } } });
    });

    test.each([
      ["", { etag: "e", agentId: "echo", safe_to_repeat: false, createTime: null }, "safeToRepeat"],
      ["", { maxConcurrency: null, cardUrl: "http://x" }, "maxConcurrency,cardUrl"],
      ["?updateMask=", { cardUrl: "http://x" }, "cardUrl"],
      ["?updateMask=*", { cardUrl: "http://x" }, "*"],
    ])("a PATCH%s of %j changes %3$j", async (query, body, updateMask) => {
      const path = `/v1/agents/echo${query}`;
      const reply = await server.send({ method: "PATCH", path, body: JSON.stringify(body), headers: JSON_HEADERS });
      expect(reply.status, reply.text).toBe(200);
      expect(server.lastRequest()).toMatchObject({ updateMask });
    });

    test.each([undefined, {}, { etag: "e" }, { createTime: "2026-01-01T00:00:00Z" }])(
      "a PATCH of %j names no change",
      async (body) => {
        const text = body && { body: JSON.stringify(body) };
        await server.send({ method: "PATCH", path: "/v1/agents/echo", ...text, headers: JSON_HEADERS });
        expect(server.lastRequest()).toMatchObject({ updateMask: "" });
      },
    );

    test("ids are percent-decoded, a path field in the query is not heeded", async () => {
      await server.get("/tasks/a%2Fb%20c?id=other&historyLength=2");
      expect(server.lastRequest()).toEqual({ id: "a/b c", historyLength: 2 });
    });

    test.each(["/tasks/t1:cancel", "/a.x/tasks/t1:cancel"])("POST %s with an empty body", async (path) => {
      const reply = await server.send({ method: "POST", path, headers: JSON_HEADERS });
      expect(reply.status).toBe(200);
      expect(server.lastRequest()).toMatchObject({ id: "t1" });
      expect((await server.send({ method: "POST", path })).status).toBe(200);
    });

    test("Content-Type may be A2A's own and name the charset; the answer follows", async () => {
      const type = "Application/A2A+JSON; Charset=UTF-8";
      expect((await server.post("/message:send", message("x"), { "content-type": type })).headers["content-type"]).toBe(
        "application/a2a+json",
      );
      const accept = "application/a2a+json, application/json";
      expect((await server.get("/tasks/t1", { accept })).headers["content-type"]).toBe("application/a2a+json");
      expect((await server.get("/tasks/missing", { accept })).headers["content-type"]).toBe("application/a2a+json");
    });

    test("the version may be a parameter; the header wins", async () => {
      const version = () => server.service.last.context.requestHeader.get("a2a-version");
      await server.get("/tasks/t1?A2A-Version=1.0");
      expect(version()).toBe("1.0");
      await server.get("/tasks/t1?A2A-Version=0.9", { "a2a-version": "1.0" });
      expect(version()).toBe("1.0");
      await server.get("/tasks/t1");
      expect(version()).toBeNull();
    });

    test("headers and the target of the address reach the implementation", async () => {
      await server.get("/tasks/t1", { "x-test-target": "a.x", authorization: "Bearer b" });
      expect(server.service.last.context.values.get(addressTargetKey)).toBe("a.x");
      expect(server.service.last.context.requestHeader.get("authorization")).toBe("Bearer b");
      expect([...server.service.last.context.requestHeader.keys()].some((name) => name.startsWith(":"))).toBe(false);
    });
  });

  describe("answers", () => {
    test("required fields of an answer are there when they are empty", async () => {
      expect((await server.get("/tasks")).json).toEqual({ tasks: [], nextPageToken: "", pageSize: 0, totalSize: 0 });
      expect((await server.get("/extendedAgentCard")).json).toEqual({
        name: "n",
        description: "",
        supportedInterfaces: [],
        version: "",
        defaultInputModes: [],
        defaultOutputModes: [],
        skills: [],
      });
    });

    test("counts of our own are there when they are 0", async () => {
      expect((await server.post("/v1/tasks:cleanup", {})).json).toEqual({ deletedCount: "0" });
      const lookups = { hits: "0", misses: "0", followed: "0" };
      const stats = create(CacheStatsSchema, {
        lookups: {},
        capabilities: [{ capabilityId: "c", lookups: {} }],
      });
      const capabilities = [{ capabilityId: "c", entries: "0", lookups }];
      expect(responseWriter(CacheStatsSchema)(stats)).toEqual({ entries: "0", lookups, capabilities });
    });

    test("nothing is an empty object", async () => {
      const reply = await server.send({ method: "DELETE", path: "/tasks/t1/pushNotificationConfigs/p" });
      expect([reply.status, reply.text]).toEqual([200, "{}"]);
    });
  });

  describe("errors", () => {
    test.each([
      ["POST", "/v1/tasks/t1:nope", "POST knows :cancel."],
      ["POST", "/tasks/t1:nope", "POST knows :cancel, :subscribe."],
    ])("%s %s: a verb that there is not, with those there are", async (method, path, known) => {
      const reply = await server.send({ method, path });
      expectError(reply, 404, "NOT_FOUND", "ROUTE_NOT_FOUND");
      expect(reply.json.error.message).toBe(`There is no verb ":nope" here. ${known}`);
      expect((await server.send({ method: "PUT", path })).json.error.details[0].reason).toBe("METHOD_NOT_ALLOWED");
    });

    test("a domain error in AIP-193", async () => {
      const reply = await server.get("/tasks/missing");
      expectError(reply, 404, "NOT_FOUND", "TASK_NOT_FOUND");
      expect(reply.json.error.details[0]).toMatchObject({
        domain: "a2a-protocol.org",
        metadata: { taskId: "missing" },
      });
    });

    test("when to try again", async () => {
      const reply = await server.post("/message:send", message("busy"));
      expectError(reply, 429, "RESOURCE_EXHAUSTED", "RATE_LIMITED");
      expect(reply.headers["retry-after"]).toBe("2");
      expect(reply.json.error.details[1]).toEqual({
        "@type": "type.googleapis.com/google.rpc.RetryInfo",
        retryDelay: "1.500s",
      });
    });

    test("what should not happen is masked and reported", async () => {
      const reply = await server.post("/message:send", message("crash"));
      expectError(reply, 500, "INTERNAL", "INTERNAL");
      expect(reply.text).not.toContain("secret");
      expect(server.errors).toEqual([new TypeError("a secret")]);
    });

    test("an unknown path is left to others, a known one says what it takes", async () => {
      expectError(await server.get("/nowhere"), 404, "NOT_FOUND", "ROUTE_NOT_FOUND");
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
      expect(server.service.seen).toEqual([]);
    });

    test("a syntax error says where", async () => {
      const reply = await server.post("/message:send", '{"message": {"parts": [1,]}}');
      expect(reply.json.error.message).toMatch(/no JSON.*\]\}\}/);
    });

    test.each(["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin1", ""])(
      "Content-Type %j is 415",
      async (type) => {
        const reply = await server.post("/message:send", message("x"), { "content-type": type });
        expectError(reply, 415, "INVALID_ARGUMENT", "UNSUPPORTED_MEDIA_TYPE");
      },
    );

    test("a body without Content-Type, or compressed, is 415", async () => {
      const untyped = await server.send({ method: "POST", path: "/message:send", body: "{}" });
      expectError(untyped, 415, "INVALID_ARGUMENT", "UNSUPPORTED_MEDIA_TYPE");
      const packed = await server.post("/message:send", "x", { "content-encoding": "gzip" });
      expectError(packed, 415, "INVALID_ARGUMENT", "UNSUPPORTED_MEDIA_TYPE");
    });
  });
});
