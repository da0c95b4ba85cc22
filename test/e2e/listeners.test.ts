/** Two listeners and what may come in at them: the protocols that they tell apart, and what is none. */
import { once } from "node:events";
import http2 from "node:http2";
import net from "node:net";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { Health, HealthCheckResponse_ServingStatus as Status } from "../../gen/grpc/health/v1/health_pb.ts";
import { type HttpListener, openHttpListener } from "../../src/transport/http-listener.ts";
import { startTestApp, type TestApp } from "./running-app.ts";

const OK_BODY = '{"status":"ok"}';

let app: TestApp;
let httpPort: number;
let grpcPort: number;

beforeAll(async () => {
  app = await startTestApp({ backend: "pglite" });
  httpPort = Number(new URL(app.httpUrl).port);
  grpcPort = Number(new URL(`http://${app.grpcAddress}`).port);
});
afterAll(() => app?.stop());

const isAlive = async () => (await fetch(`${app.httpUrl}/healthz`)).text();

describe("the HTTP listener", () => {
  test("speaks HTTP/1.1", async () => {
    expect(await isAlive()).toBe(OK_BODY);
  });

  test("speaks HTTP/2 to who knows it beforehand", async () => {
    expect(await overHttp2(httpPort)).toEqual({ status: 200, body: OK_BODY });
  });

  test("answers in HTTP/1.1 who offers to upgrade, as curl --http2 does", async () => {
    const offer =
      "Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA";
    const said = await exchange(httpPort, `GET /healthz HTTP/1.1\r\nHost: localhost\r\n${offer}\r\n\r\n`);
    expect(said).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
    expect(said).toContain(OK_BODY);
  });

  // "PRI" tells; 24 is the length of the preface.
  test.each([1, 2, 3, 4, 23, 24, 25])("waits for the rest when the first %i bytes come alone", async (length) => {
    const proxy = await startSplitter(httpPort, length);
    try {
      expect(await overHttp2(proxy.port)).toEqual({ status: 200, body: OK_BODY });
      expect(await exchange(proxy.port, "GET /healthz HTTP/1.0\r\n\r\n")).toContain(OK_BODY);
      // It begins as the preface does.
      expect(await exchange(proxy.port, "PROPFIND /healthz HTTP/1.0\r\n\r\n")).toMatch(/^HTTP\/1\.1 404 /);
    } finally {
      await proxy.close();
    }
  });

  test.each([
    ["zeros", Buffer.alloc(1000)],
    ["a TLS handshake", Buffer.from("16030100a5010000a10303", "hex")],
    ["HTTP/2 that goes on as rubbish", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nrubbish, rubbish, rubbish, rubbish"],
    ["half a preface and rubbish", "PRI * HTTP/1.1\r\n\r\nrubbish"],
    ["a verb that is none", "rubbish\r\n\r\n"],
    ["headers without an end", `GET / HTTP/1.1\r\nX: ${"x".repeat(64 * 1024)}`],
    ["a chunk without a length", "POST /rpc HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"],
    ["two lengths", "POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}"],
  ])("ends a connection that says %s, and goes on", async (_, bytes) => {
    const said = await exchange(httpPort, bytes);
    expect(said).not.toContain(" 200 ");
    expect(await isAlive()).toBe(OK_BODY);
  });
});

describe("a connection that says nothing", () => {
  async function withListener(silentMs: number, use: (listener: HttpListener) => Promise<void>): Promise<void> {
    const handler = () => {
      throw new Error("nothing was asked");
    };
    const listener = await openHttpListener({ host: "127.0.0.1", port: 0, handler, silentMs });
    await use(listener).finally(() => listener.close());
  }

  test.each(["", "P", "PR"])("is closed in time after %j", async (bytes) => {
    await withListener(20, async ({ port }) => expect(await exchange(port, bytes)).toBe(""));
  });

  test.each(["", "PR"])("does not hold up a drain after %j", async (bytes) => {
    await withListener(60_000, async (listener) => {
      const { port } = listener;
      const silent = await connect(port, bytes);
      // Connections are taken in turn, so the silent one is known when this one is.
      await connect(port, "").then((socket) => socket.destroy());
      const closed = once(silent, "close");
      await Promise.all([listener.drain(), closed]);
    });
  });
});

describe("the gRPC listener", () => {
  test.each([
    ["HTTP/1.1", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"],
    ["zeros", Buffer.alloc(1000)],
    ["HTTP/2 that goes on as rubbish", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nrubbish, rubbish, rubbish, rubbish"],
  ])("ends a connection that says %s, and goes on", async (_, bytes) => {
    await exchange(grpcPort, bytes);
    const health = createClient(Health, createGrpcTransport({ baseUrl: `http://${app.grpcAddress}` }));
    expect((await health.check({})).status).toBe(Status.SERVING);
  });
});

describe("a second server", () => {
  test.each([
    ["http.port", () => httpPort, "HTTP"],
    ["grpc.port", () => grpcPort, "gRPC"],
  ])("on the same %s says so in one sentence", async (setting, port, name) => {
    const printed = vi.spyOn(console, "error");
    const start = startTestApp({ flags: { [setting]: String(port()) } });
    await expect(start).rejects.toMatchObject({
      name: "SignalboxError",
      reason: "CANNOT_LISTEN",
      message:
        `Port ${port()} on 127.0.0.1 is in use, so the ${name} listener cannot open. ` +
        `Stop what uses it, or choose another ${setting} (0 takes any free port).`,
    });
    expect(printed).not.toHaveBeenCalled();
    printed.mockRestore();
    expect(await isAlive()).toBe(OK_BODY);
  });

  test("on the same data directory is refused, and harms nothing", async () => {
    await expect(startTestApp({ flags: { "data.dir": app.dataDir } })).rejects.toMatchObject({
      reason: "DATA_DIRECTORY_LOCKED",
      message: expect.stringContaining(`in use by process ${process.pid}`),
    });
    expect((await fetch(`${app.httpUrl}/readyz`)).status).toBe(200);
  });
});

async function connect(port: number, bytes: string | Buffer): Promise<net.Socket> {
  const socket = net.connect({ host: "127.0.0.1", port, noDelay: true });
  // Being reset is an answer too.
  socket.on("error", () => {});
  await once(socket, "connect");
  if (bytes.length > 0) socket.write(bytes);
  return socket;
}

/** Says `bytes`, and returns what comes back until the server ends the connection. */
async function exchange(port: number, bytes: string | Buffer): Promise<string> {
  const socket = await connect(port, bytes);
  let said = "";
  socket.setEncoding("latin1").on("data", (text: string) => {
    said += text;
  });
  await once(socket, "close");
  return said;
}

/** Asks for /healthz in HTTP/2 without TLS. */
async function overHttp2(port: number): Promise<{ status: number | undefined; body: string }> {
  const session = http2.connect(`http://127.0.0.1:${port}`);
  try {
    const stream = session.request({ ":path": "/healthz" }).setEncoding("utf8");
    const [headers] = (await once(stream, "response")) as [http2.IncomingHttpHeaders & http2.IncomingHttpStatusHeader];
    let body = "";
    for await (const text of stream) body += text;
    return { status: headers[":status"], body };
  } finally {
    session.destroy();
  }
}

/** Passes connections on to `port`. The first `length` bytes of each go alone: the rest waits until the server has them. */
async function startSplitter(port: number, length: number): Promise<{ port: number; close(): Promise<void> }> {
  const server = net.createServer(async (client) => {
    const upstream = await connect(port, "");
    client.on("error", () => upstream.destroy());
    client.once("close", () => upstream.destroy());
    upstream.pipe(client);
    let head = Buffer.alloc(0);
    for await (const chunk of client as AsyncIterable<Buffer>) {
      const all = Buffer.concat([head, chunk]);
      if (head.length < length && all.length >= length) {
        upstream.write(all.subarray(head.length, length));
        // The server reads in turn: when it has answered another, it has seen these bytes.
        await isAlive();
        upstream.write(all.subarray(length));
      } else {
        upstream.write(chunk);
      }
      head = all;
    }
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  return {
    port: (server.address() as net.AddressInfo).port,
    async close() {
      server.close();
      await once(server, "close");
    },
  };
}
