/**
 * Clients that abuse HTTP/2, and HTTP/1.1, written byte by byte: the server cuts each of them off, and answers its neighbours meanwhile, on
 * both listeners.
 */
import { once } from "node:events";
import http2 from "node:http2";
import net from "node:net";
import * as grpc from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { openGrpcListener } from "../../src/transport/grpc/grpc-listener.ts";
import { openHttpListener } from "../../src/transport/http-listener.ts";
import { MemoryService } from "../transport/memory-service.ts";
import { startTestApp, type TestApp } from "./running-app.ts";

const PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
const FRAME = { DATA: 0, HEADERS: 1, PRIORITY: 2, RST_STREAM: 3, SETTINGS: 4, PING: 6, GOAWAY: 7, CONTINUATION: 9 };
const END_HEADERS = 4;

function frame(type: number, flags: number, stream: number, payload: Uint8Array = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** A header as HPACK writes it without its tables: never indexed, and no Huffman code. */
function header(name: string, value: string): Buffer {
  const length = (bytes: number) => {
    if (bytes < 127) return Buffer.from([bytes]);
    const parts = [127];
    let rest = bytes - 127;
    for (; rest >= 128; rest >>= 7) parts.push((rest & 127) | 128);
    return Buffer.from([...parts, rest]);
  };
  return Buffer.concat([
    Buffer.from([0x10]),
    length(name.length),
    Buffer.from(name),
    length(value.length),
    Buffer.from(value),
  ]);
}

const requestHeaders = (more: Buffer[] = []) =>
  Buffer.concat([
    header(":method", "POST"),
    header(":scheme", "http"),
    header(":path", "/lf.a2a.v1.A2AService/ListTasks"),
    header(":authority", "localhost"),
    header("content-type", "application/grpc"),
    header("te", "trailers"),
    ...more,
  ]);

/** A connection that has begun to speak HTTP/2. */
function attacker(port: number) {
  const socket = net.connect(port, "127.0.0.1");
  const goaways: number[] = [];
  let rest = Buffer.alloc(0);
  socket.on("error", () => {});
  socket.on("data", (chunk: Buffer) => {
    rest = Buffer.concat([rest, chunk]);
    while (rest.length >= 9 && rest.length >= 9 + rest.readUIntBE(0, 3)) {
      const length = rest.readUIntBE(0, 3);
      if (rest[3] === FRAME.GOAWAY) goaways.push(rest.readUInt32BE(13));
      rest = rest.subarray(9 + length);
    }
  });
  const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
  socket.write(Buffer.concat([PREFACE, frame(FRAME.SETTINGS, 0, 0)]));
  /** Sends batches of frames until the server has had enough. */
  async function flood(batch: () => Buffer): Promise<void> {
    while (!socket.destroyed && socket.writable) {
      await new Promise<void>((resolve) => socket.write(batch(), () => resolve()));
      await new Promise((resolve) => setImmediate(resolve));
    }
    await closed;
  }
  return { socket, goaways, closed, flood };
}

let app: TestApp;
const ports = { http: 0, grpc: 0 };
beforeAll(async () => {
  app = await startTestApp({ flags: { "limits.header-bytes": "8192", "limits.connection-streams": "50" } });
  ports.http = Number(new URL(app.httpUrl).port);
  ports.grpc = Number(app.grpcAddress.split(":").pop());
});
afterAll(() => app?.stop());

const repeat = (count: number, one: (i: number) => Buffer) =>
  Buffer.concat(Array.from({ length: count }, (_, i) => one(i)));

describe.each(["http", "grpc"] as const)("on the %s listener", (which) => {
  /** Runs an attack while a neighbour calls. It must end with the attacker cut off, and no call of the neighbour failed. */
  async function withNeighbour(attack: () => Promise<void>): Promise<void> {
    const neighbour = new grpc.Client(`127.0.0.1:${ports[which]}`, grpc.credentials.createInsecure(), {
      "grpc.use_local_subchannel_pool": 1,
    });
    let isOver = false;
    let answered = 0;
    const call = () =>
      new Promise<void>((resolve, reject) => {
        const asIs = (bytes: Buffer) => bytes;
        const options = { deadline: Date.now() + 120_000 };
        neighbour.makeUnaryRequest(
          "/lf.a2a.v1.A2AService/ListTasks",
          asIs,
          asIs,
          Buffer.alloc(0),
          new grpc.Metadata(),
          options,
          (e) => (e ? reject(e) : resolve()),
        );
      });
    await call();
    const calls = (async () => {
      do {
        await call();
        answered++;
      } while (!isOver);
    })();
    calls.catch(() => {});
    try {
      await attack();
    } finally {
      isOver = true;
      await calls;
      neighbour.close();
    }
    expect(answered).toBeGreaterThan(0);
  }

  test("rapid reset: streams that are opened and reset at once", async () => {
    await withNeighbour(async () => {
      const { flood, goaways } = attacker(ports[which]);
      let stream = 1;
      await flood(() =>
        repeat(100, () => {
          const id = stream;
          stream += 2;
          return Buffer.concat([
            frame(FRAME.HEADERS, END_HEADERS, id, requestHeaders()),
            frame(FRAME.RST_STREAM, 0, id, Buffer.from([0, 0, 0, 8])),
          ]);
        }),
      );
      // What a client may do at once, and what was on its way.
      expect(stream / 2).toBeLessThan(20_000);
      expect(goaways.every((code) => code !== 0)).toBe(true);
    });
  }, 180_000);

  test("pings without end, whose answers are read", async () => {
    await withNeighbour(async () => {
      const { flood, goaways } = attacker(ports[which]);
      await flood(() => repeat(100, () => frame(FRAME.PING, 0, 0, Buffer.alloc(8))));
      expect(goaways).toContain(http2.constants.NGHTTP2_ENHANCE_YOUR_CALM);
    });
  });

  test("settings without end", async () => {
    await withNeighbour(async () => {
      const { flood, goaways } = attacker(ports[which]);
      await flood(() => repeat(20, () => frame(FRAME.SETTINGS, 0, 0, Buffer.from([0, 4, 0, 1, 0, 0]))));
      expect(goaways).toContain(http2.constants.NGHTTP2_ENHANCE_YOUR_CALM);
    });
  });

  test("pings whose answers nobody reads", async () => {
    await withNeighbour(async () => {
      const { socket, closed } = attacker(ports[which]);
      socket.pause();
      socket.resume = () => socket;
      const batch = repeat(1_000, () => frame(FRAME.PING, 0, 0, Buffer.alloc(8)));
      const write = () => {
        if (socket.writable) socket.write(batch, write);
      };
      write();
      net.Socket.prototype.resume.call(socket);
      await closed;
    });
  });

  test("a header block in continuations without end", async () => {
    await withNeighbour(async () => {
      const { socket, flood } = attacker(ports[which]);
      socket.write(frame(FRAME.HEADERS, 0, 1, requestHeaders()));
      await flood(() => repeat(100, (i) => frame(FRAME.CONTINUATION, 0, 1, header(`x-${i}`, "y".repeat(100)))));
    });
  });

  test("headers that are larger than allowed", async () => {
    await withNeighbour(async () => {
      const session = http2.connect(`http://127.0.0.1:${ports[which]}`);
      session.on("error", () => {});
      await once(session, "remoteSettings");
      expect(session.remoteSettings).toMatchObject({ maxHeaderListSize: 8192, maxConcurrentStreams: 50 });
      const big = Object.fromEntries(Array.from({ length: 20 }, (_, i) => [`x-${i}`, "y".repeat(1_000)]));
      const stream = session.request({ ":method": "POST", ":path": "/lf.a2a.v1.A2AService/ListTasks", ...big });
      const outcome = await Promise.race([
        once(stream, "response").then(([headers]) => headers[":status"]),
        once(stream, "error").then(([error]) => error.message),
        once(stream, "close").then(() => "closed"),
      ]).catch((error: Error) => error.message);
      session.destroy();
      expect(String(outcome)).not.toBe("200");
    });
  });

  test("frames that mean nothing", async () => {
    await withNeighbour(async () => {
      const { socket, flood } = attacker(ports[which]);
      socket.write(frame(FRAME.HEADERS, END_HEADERS, 1, requestHeaders()));
      await flood(() => repeat(100, () => frame(FRAME.DATA, 0, 1)));
    });
  });

  test("streams beyond the limit are refused, and the connection goes on", async () => {
    const { socket } = attacker(ports[which]);
    onTestFinished(() => void socket.destroy());
    let refused = 0;
    socket.on("data", (chunk: Buffer) => {
      for (let at = 0; at + 9 <= chunk.length; at += 9 + chunk.readUIntBE(at, 3))
        if (chunk[at + 3] === FRAME.RST_STREAM) refused++;
    });
    socket.write(repeat(60, (i) => frame(FRAME.HEADERS, END_HEADERS, 2 * i + 1, requestHeaders())));
    await expect.poll(() => refused).toBe(10);
  });
});

describe("over HTTP/1.1", () => {
  const open = async (options: Partial<Parameters<typeof openHttpListener>[0]>) => {
    const listener = await openHttpListener({
      host: "127.0.0.1",
      port: 0,
      handler: (_, res) => void res.end("ok"),
      ...options,
    });
    onTestFinished(() => listener.close());
    const socket = net.connect(listener.port, "127.0.0.1").setEncoding("latin1");
    onTestFinished(() => void socket.destroy());
    const closed = once(socket, "close");
    let said = "";
    socket.on("data", (text) => {
      said += text;
    });
    return { socket, closed, said: () => said };
  };

  test("headers that do not end are answered 408", async () => {
    const { socket, closed, said } = await open({ headersMs: 300 });
    socket.write("GET / HTTP/1.1\r\nhost: localhost\r\nx-a: ");
    await closed;
    expect(said()).toMatch(/^HTTP\/1\.1 408 /);
  });

  test("headers that are larger than allowed are answered 431", async () => {
    const { socket, closed, said } = await open({ limits: { headerBytes: 2_048 } });
    socket.write(`GET / HTTP/1.1\r\nhost: localhost\r\nx-a: ${"y".repeat(4_096)}\r\n\r\n`);
    await closed;
    expect(said()).toMatch(/^HTTP\/1\.1 431 /);
  });

  test("a connection that is old is told so with its answer", async () => {
    const { socket, closed, said } = await open({ limits: { ageMs: 50 } });
    const ask = () => socket.writable && socket.write("GET / HTTP/1.1\r\nhost: localhost\r\n\r\n");
    socket.on("data", ask);
    ask();
    await closed;
    expect(said()).toMatch(/connection: close/i);
  });
});

describe("connections", () => {
  const listeners = [
    [
      "http",
      (options: object) =>
        openHttpListener({ host: "127.0.0.1", port: 0, handler: (_, res) => void res.end(), ...options }),
    ],
    [
      "grpc",
      (options: object) =>
        openGrpcListener({
          host: "127.0.0.1",
          port: 0,
          rpcs: new MemoryService().rpcs(),
          maxBytes: 1_000,
          onError() {},
          ...options,
        }),
    ],
  ] as const;

  test.each(listeners)("of the %s listener that ask for nothing are closed", async (_, open) => {
    const listener = await open({ silentMs: 100, limits: { silentMs: 100 } });
    onTestFinished(() => listener.close());
    const mute = net.connect(listener.port, "127.0.0.1").resume();
    mute.on("error", () => {});
    await Promise.all([once(mute, "close"), attacker(listener.port).closed]);
  });

  test.each(listeners)("of the %s listener are closed beyond the limit", async (_, open) => {
    const listener = await open({ connections: 3 });
    onTestFinished(() => listener.close());
    const first = await Promise.all(
      Array.from({ length: 3 }, async () => {
        const socket = net.connect(listener.port, "127.0.0.1");
        socket.on("error", () => {});
        await once(socket, "connect");
        return socket;
      }),
    );
    onTestFinished(() => first.forEach((socket) => void socket.destroy()));
    const more = net.connect(listener.port, "127.0.0.1").resume();
    more.on("error", () => {});
    await once(more, "close");
    expect(first.every((socket) => !socket.destroyed)).toBe(true);
  });

  test.each(listeners)(
    "of the %s listener that are old take no new call, and end with those they have",
    async (_, open) => {
      const listener = await open({ limits: { ageMs: 100 } });
      onTestFinished(() => listener.close());
      const { closed, goaways } = attacker(listener.port);
      await closed;
      expect(goaways[0]).toBe(http2.constants.NGHTTP2_NO_ERROR);
    },
  );
});
