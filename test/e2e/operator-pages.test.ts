/** Pages of operations where everybody must say who they are, what the refused are told, and names that nobody must know. */
import { once } from "node:events";
import http from "node:http";
import { Writable } from "node:stream";
import { text } from "node:stream/consumers";
import * as grpc from "@grpc/grpc-js";
import pino from "pino";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { warnOfPlainSecrets } from "../../src/app/listeners.ts";
import { loadConfig } from "../../src/config/load.ts";
import type { Scheme } from "../../src/services/identity/credentials.ts";
import { startTestApp, type TestApp } from "./running-app.ts";

/** Believes whatever `x-who` says: `<workspace>/<role>`. */
const believing: Scheme = {
  identify(credentials) {
    const [workspaceId, role] = credentials.header("x-who")?.split("/") ?? [];
    if (workspaceId === undefined || role === undefined) return undefined;
    return {
      id: "somebody",
      authentication: "api-key",
      actors: [],
      granted: { workspaceId, roles: [role], scopes: [] },
    };
  },
};

const lines: string[] = [];
const sink = new Writable({
  write(chunk, _, done) {
    lines.push(String(chunk));
    done();
  },
});

let app: TestApp;
beforeAll(async () => {
  app = await startTestApp({
    schemes: [believing],
    flags: { "auth.anonymous-role": "none", "auth.open-metrics": "false" },
    log: pino({ level: "debug" }, sink),
  });
  const made = await fetch(`${app.httpUrl}/v1/workspaces`, {
    method: "POST",
    headers: { "content-type": "application/json", "x-who": "default/admin" },
    body: JSON.stringify({ workspaceId: "other" }),
  });
  expect(made.status).toBe(200);
});
afterAll(() => app?.stop());

const get = (path: string, headers: Record<string, string> = {}) => fetch(app.httpUrl + path, { headers });

describe.each(["/metrics", "/health/deep"])("%s", (path) => {
  test("is for principals of the workspace default that may read metrics", async () => {
    for (const role of ["viewer", "operator", "admin"]) {
      const answer = await get(path, { "x-who": `default/${role}` });
      expect([200, 503]).toContain(answer.status);
    }
    for (const who of ["default/caller", "default/agent", "other/admin"]) {
      const answer = await get(path, { "x-who": who });
      expect(answer.status).toBe(403);
      // They show what all workspaces do.
      const reason = who === "other/admin" ? "NOT_THE_ROUTER" : "SCOPE_MISSING";
      expect(await answer.json()).toMatchObject({ error: { details: [{ reason }] } });
    }
    const nobody = await get(path);
    expect(nobody.status).toBe(401);
    expect(nobody.headers.get("www-authenticate")).toBe('Bearer realm="signalbox"');
    expect((await fetch(app.httpUrl + path, { method: "HEAD" })).status).toBe(401);
  });
});

test("health and readiness are open, and say nothing", async () => {
  expect(await (await get("/healthz")).json()).toEqual({ status: "ok" });
  expect(await (await get("/readyz")).json()).toEqual({ status: "ready" });
});

test("whoever must say who calls is told how, on every lane", async () => {
  const json = { "content-type": "application/json" };
  const post = (path: string, body: string, headers = json) =>
    fetch(app.httpUrl + path, { method: "POST", headers, body });
  const rest = await get("/tasks");
  const connect = await post("/lf.a2a.v1.A2AService/ListTasks", "{}");
  for (const answer of [rest, connect]) {
    expect(answer.status).toBe(401);
    expect(answer.headers.get("www-authenticate")).toBe('Bearer realm="signalbox"');
  }
  const wrong = await get("/tasks", { authorization: "Bearer nothing" });
  expect(wrong.headers.get("www-authenticate")).toBe('Bearer realm="signalbox", error="invalid_token"');
  const rpc = await post("/rpc", '{"jsonrpc":"2.0","id":1,"method":"ListTasks"}');
  expect(rpc.status).toBe(200);
  expect(rpc.headers.get("www-authenticate")).toBe('Bearer realm="signalbox"');
  expect(await rpc.json()).toMatchObject({ error: { code: -32050 } });
});

test("any name leads to a server that knows its callers; pages of other origins stay outside", async () => {
  const ask = async (headers: http.OutgoingHttpHeaders, method = "GET") => {
    const { hostname, port } = new URL(app.httpUrl);
    const sent = http.request({ host: hostname, port, path: "/tasks", method, headers }).end();
    const [response] = (await once(sent, "response")) as [http.IncomingMessage];
    await text(response);
    return response.statusCode;
  };
  expect(await ask({ host: "router.namespace.svc:8080", "x-who": "default/viewer" })).toBe(200);
  expect(await ask({ origin: "https://evil.example", "x-who": "default/admin" }, "POST")).toBe(403);
});

test("what callers send breaks no line of the log, and no header of an answer", async () => {
  const evil = 'a\u2028b\u0085c\u001b[31m","level":"fatal"';
  const path = `/v1/tasks/${encodeURIComponent(`x\r\nset-cookie: a=b\r\n\r\n${evil}`)}`;
  const answer = await get(path, { "x-who": "default/viewer", "x-request-id": "id with spaces\t!" });
  expect(answer.status).toBe(404);
  expect(answer.headers.get("set-cookie")).toBeNull();
  const client = new grpc.Client(app.grpcAddress, grpc.credentials.createInsecure());
  const metadata = new grpc.Metadata();
  metadata.set("x-who", "default/viewer");
  const asIs = (bytes: Buffer) => bytes;
  const id = Buffer.from(`x\r\nevil: 1\u0000${evil}`);
  const request = Buffer.concat([Buffer.from([0x12, id.length]), id]);
  const error = await new Promise<grpc.ServiceError | null>((resolve) => {
    client.makeUnaryRequest("/lf.a2a.v1.A2AService/GetTask", asIs, asIs, request, metadata, (failure) =>
      resolve(failure),
    );
  });
  client.close();
  expect(error?.metadata.getMap()).not.toHaveProperty("evil");
  expect(lines.length).toBeGreaterThan(0);
  for (const line of lines.join("").split("\n").filter(Boolean)) {
    expect(() => JSON.parse(line)).not.toThrow();
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for.
    expect(line).not.toMatch(/[\u0000-\u001f]/);
    expect(JSON.parse(line).level).not.toBe("fatal");
  }
});

test("secrets in the clear are warned of where other machines can read them", () => {
  const warnings = (flags: Record<string, string>) => {
    const said: unknown[] = [];
    const log = pino({ level: "warn" }, { write: (line: string) => void said.push(JSON.parse(line)) });
    warnOfPlainSecrets(loadConfig({ flags, env: {} }), log);
    return said;
  };
  expect(warnings({})).toEqual([]);
  expect(warnings({ host: "0.0.0.0" })).toMatchObject([
    { host: "0.0.0.0", msg: expect.stringContaining("tls.certificate") },
  ]);
  expect(warnings({ host: "0.0.0.0", "auth.trusted-proxies": "10.0.0.0/8", "tls.trust-domains": "mesh" })).toEqual([]);
});
