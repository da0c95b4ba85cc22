/** Who may name this server, and which pages may call it: DNS rebinding and posts from other origins stay outside. */
import { once } from "node:events";
import http from "node:http";
import http2 from "node:http2";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestApp, type TestApp } from "./running-app.ts";

let app: TestApp;
let port: string;
beforeAll(async () => {
  app = await startTestApp({
    flags: {
      "public.url": "https://router.example.com/a2a",
      "public.grpc": "grpc.example.com:443",
      "http.cors-origins": "https://page.example.com",
    },
  });
  port = new URL(app.httpUrl).port;
});
afterAll(() => app?.stop());

/** One request over HTTP/1.1 with headers that fetch would not let through. */
async function ask(method: string, path: string, headers: http.OutgoingHttpHeaders) {
  const body = method === "POST" ? '{"jsonrpc":"2.0","id":1,"method":"ListTasks"}' : undefined;
  const sent = { "content-type": "application/json", ...headers };
  const request = http.request({ host: "127.0.0.1", port, method, path, headers: sent }).end(body);
  const [response] = (await once(request, "response")) as [http.IncomingMessage];
  const said = await text(response);
  return { status: response.statusCode, said };
}

async function askOverHttp2(authority: string): Promise<unknown> {
  const session = http2.connect(`http://127.0.0.1:${port}`);
  try {
    const stream = session.request({ ":path": "/tasks", ":authority": authority });
    const [headers] = (await once(stream, "response")) as [http2.IncomingHttpHeaders];
    return headers[":status"];
  } finally {
    session.destroy();
  }
}

describe("the host of a request", () => {
  test.each([
    "localhost",
    "LOCALHOST:1",
    "console.localhost:8080",
    "localhost.",
    "127.0.0.1",
    "127.9.9.9:80",
    "[::1]:8080",
    "router.example.com",
    "router.example.com:444",
    "grpc.example.com",
  ])("%s is ours", async (host) => {
    expect((await ask("GET", "/tasks", { host })).status).toBe(200);
    expect(await askOverHttp2(host)).toBe(200);
  });

  test.each([
    "evil.example",
    "evil.example:8080",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "notlocalhost",
    "example.com",
    "0.0.0.0",
    "192.168.0.1",
    "[::]",
    "localhost@evil.example",
    "evil.example#localhost",
  ])("%j is not", async (host) => {
    for (const path of ["/tasks", "/healthz", "/lf.a2a.v1.A2AService/ListTasks", "/nowhere"]) {
      const { status, said } = await ask("GET", path, { host });
      expect(status).toBe(421);
      expect(JSON.parse(said).error).toMatchObject({
        code: 421,
        status: "PERMISSION_DENIED",
        message: expect.stringContaining("public.url"),
        details: [{ reason: "HOST_NOT_ALLOWED", domain: "signalbox", metadata: { host } }],
      });
    }
    // Node itself refuses these two over HTTP/2.
    if (!/[@#]/.test(host)) expect(await askOverHttp2(host)).toBe(421);
  });
});

describe("the page that calls", () => {
  test.each([
    ["https://page.example.com", "localhost"],
    ["https://router.example.com", "127.0.0.1:8080"],
    ["http://localhost:8080", "localhost:8080"],
    ["http://localhost", "localhost:80"],
    ["https://console.localhost", "console.localhost"],
  ])("from %s may post to %s", async (origin, host) => {
    expect((await ask("POST", "/rpc", { host, origin })).status).toBe(200);
  });

  test.each([
    ["https://evil.example", "localhost"],
    ["http://localhost:3000", "localhost:8080"],
    ["http://page.example.com", "localhost"],
    ["http://127.0.0.1:8080", "localhost:8080"],
    ["null", "localhost"],
    ["file://", "localhost"],
    ["", "localhost"],
  ])("from %j may not post to %s", async (origin, host) => {
    for (const path of ["/rpc", "/message:send", "/lf.a2a.v1.A2AService/SendMessage", "/v1/agents"]) {
      const { status, said } = await ask("POST", path, { host, origin });
      expect(status).toBe(403);
      expect(JSON.parse(said).error).toMatchObject({
        status: "PERMISSION_DENIED",
        message: expect.stringContaining("http.cors-origins"),
        details: [{ reason: "ORIGIN_NOT_ALLOWED", domain: "signalbox", metadata: { origin } }],
      });
    }
    expect((await ask("DELETE", "/v1/agents/a", { host, origin })).status).toBe(403);
    expect((await ask("GET", "/tasks", { host, origin })).status).toBe(200);
  });
});
