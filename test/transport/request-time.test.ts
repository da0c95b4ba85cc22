/** Half a request holds a call open for so long and no longer, over every protocol; a long answer is no long request. */
import { once } from "node:events";
import http2 from "node:http2";
import net from "node:net";
import { type Client, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { A2AService } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { createConnectLane } from "../../src/transport/connect/connect-lane.ts";
import { type GrpcListener, openGrpcListener } from "../../src/transport/grpc/grpc-listener.ts";
import { type HttpListener, openHttpListener } from "../../src/transport/http-listener.ts";
import { MemoryService } from "./memory-service.ts";

const TIMEOUT_MS = 100;
const MAX_BYTES = 64 * 1024;
const GET_TASK = `/${A2AService.typeName}/GetTask`;
const SUBSCRIBE = `/${A2AService.typeName}/SubscribeToTask`;
/** The head of a gRPC message of 256 bytes, and one of them. */
const HALF_FRAME = Buffer.from([0, 0, 0, 1, 0, 10]);

const errors: unknown[] = [];
let http: HttpListener;
let grpc: GrpcListener;

beforeAll(async () => {
  const rpcs = new MemoryService().rpcs();
  const onError = (error: unknown) => errors.push(error);
  const fallback = () => onError("fallback");
  const lane = createConnectLane({ rpcs, maxBytes: MAX_BYTES, compress: false, bodyTimeoutMs: TIMEOUT_MS, fallback });
  http = await openHttpListener({
    host: "127.0.0.1",
    port: 0,
    handler: (req, res) => void Promise.resolve(lane(req, res, req.url ?? "")).catch(onError),
  });
  const options = { host: "127.0.0.1", port: 0, rpcs, maxBytes: MAX_BYTES, onError };
  grpc = await openGrpcListener({ ...options, requestTimeoutMs: TIMEOUT_MS });
});
afterAll(() => {
  http.close();
  grpc.close();
  expect(errors).toEqual([]);
});

describe("a body that stops on its way", () => {
  test.each([
    ["Connect", GET_TASK, "application/json", "HTTP/1.1 504", "did not arrive within 100 ms"],
    ["Connect, a stream", SUBSCRIBE, "application/connect+json", "HTTP/1.1 200", "deadline_exceeded"],
    ["gRPC-Web", GET_TASK, "application/grpc-web+proto", "HTTP/1.1 200", "grpc-status: 4"],
    ["a type that is not read", GET_TASK, "text/plain", "HTTP/1.1 415", ""],
  ])("over HTTP/1.1: %s", async (_, path, type, status, body) => {
    const socket = net.connect(http.port, "127.0.0.1");
    socket.write(`POST ${path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: ${type}\r\ncontent-length: 1000\r\n\r\n{`);
    let said = "";
    socket.setEncoding("latin1").on("data", (text: string) => {
      said += text;
    });
    await once(socket, "close");
    expect(said).toContain(status);
    expect(said).toContain(body);
  });

  test.each([
    ["gRPC on the HTTP listener", () => http.port, GET_TASK, "close"],
    ["gRPC on the HTTP listener, a stream", () => http.port, SUBSCRIBE, "close"],
    // grpc-js leaves it to the client to end its side after the answer.
    ["the gRPC listener", () => grpc.port, GET_TASK, "end"],
    ["the gRPC listener, a stream", () => grpc.port, SUBSCRIBE, "end"],
  ])("over HTTP/2: %s", async (_, port, path, ending) => {
    const session = http2.connect(`http://127.0.0.1:${port()}`);
    try {
      const headers = { ":method": "POST", ":path": path, "content-type": "application/grpc", te: "trailers" };
      const stream = session.request(headers);
      const statuses: unknown[] = [];
      for (const event of ["response", "trailers"]) {
        stream.on(event, (said: http2.IncomingHttpHeaders) => statuses.push(said["grpc-status"]));
      }
      stream.write(HALF_FRAME);
      stream.resume();
      await once(stream, ending);
      expect(statuses).toContain("4");
    } finally {
      session.destroy();
    }
  });
});

describe("a stream of answers goes on for longer", () => {
  const clients: [string, () => Client<typeof A2AService>][] = [
    ["Connect over HTTP/1.1", () => connectClient("1.1")],
    ["Connect over HTTP/2", () => connectClient("2")],
    ["gRPC on the HTTP listener", () => grpcClient(http.port)],
    ["the gRPC listener", () => grpcClient(grpc.port)],
  ];
  const connectClient = (httpVersion: "1.1" | "2") =>
    createClient(A2AService, createConnectTransport({ baseUrl: `http://127.0.0.1:${http.port}`, httpVersion }));
  const grpcClient = (port: number) =>
    createClient(A2AService, createGrpcTransport({ baseUrl: `http://127.0.0.1:${port}` }));

  test.each(clients)("%s", async (_, client) => {
    const leaving = new AbortController();
    const stream = client().subscribeToTask({ id: "endless" }, { signal: leaving.signal });
    const items = stream[Symbol.asyncIterator]();
    expect((await items.next()).value?.payload.case).toBe("task");
    const next = items.next();
    // When a request that came later has run out of time, so would this one have.
    const socket = net.connect(http.port, "127.0.0.1");
    socket.write(
      `POST ${GET_TASK} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{`,
    );
    await once(socket.resume(), "close");
    expect(await Promise.race([next, Promise.resolve("still open")])).toBe("still open");
    leaving.abort();
    await expect(next).rejects.toThrow("aborted");
  });
});
