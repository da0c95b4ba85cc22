/** What of a call tells who it comes from arrives over every transport, as the client has sent it. */

import { once } from "node:events";
import { rm } from "node:fs/promises";
import http from "node:http";
import http2 from "node:http2";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { gzipSync } from "node:zlib";
import { create, toBinary, toJsonString } from "@bufbuild/protobuf";
import { createClient, type Interceptor, type Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import * as grpc from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { A2AService, ListTasksRequestSchema, SubscribeToTaskRequestSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { recordingScheme, sha256 } from "./recording-scheme.ts";
import { startTestApp, type TestApp } from "./running-app.ts";

const EMPTY = sha256(new Uint8Array());
const scheme = recordingScheme();
const sockets = {
  http: join(tmpdir(), `sbx-${process.pid}-h.sock`),
  grpc: join(tmpdir(), `sbx-${process.pid}-g.sock`),
};
let app: TestApp;
beforeAll(async () => {
  app = await startTestApp({
    schemes: [scheme],
    flags: { "http.base-path": "/sb", "http.socket": sockets.http, "grpc.socket": sockets.grpc },
  });
});
afterAll(async () => {
  await app?.stop();
  await Promise.all(Object.values(sockets).map((path) => rm(path, { force: true })));
});

const signed = { "signature-input": 'sig1=("@method")', "x-forwarded-client-cert": 'URI="spiffe://x/y"' };
const request = create(ListTasksRequestSchema, { contextId: "c1" });
const binary = toBinary(ListTasksRequestSchema, request);
const framed = Buffer.concat([Buffer.from([0, 0, 0, 0, binary.length]), binary]);

const withHeaders: Interceptor = (next) => (req) => {
  for (const [name, value] of Object.entries(signed)) req.header.set(name, value);
  return next(req);
};

describe("HTTP+JSON and JSON-RPC", () => {
  test("tell the target with base path and query, and the digest of no body", async () => {
    await fetch(`${app.httpUrl}/tasks?pageSize=3&contextId=a%20b`, { headers: signed });
    expect(scheme.last()).toEqual({
      method: "GET",
      target: "/sb/tasks?pageSize=3&contextId=a%20b",
      authority: new URL(app.httpUrl).host,
      address: "127.0.0.1",
      isLocalSocket: false,
      certificate: undefined,
      digest: EMPTY,
      forwarded: signed["x-forwarded-client-cert"],
      signature: signed["signature-input"],
    });
  });

  test("tell the digest of the body, byte for byte", async () => {
    const body = '{ "jsonrpc":"2.0",\n "id":1, "method":"ListTasks" ,"params":{"contextId":"\\u00e9é"}}';
    const headers = { "content-type": "application/json" };
    for (const path of ["/rpc?x=1", "/agents/somebody/rpc"]) {
      const answer = await fetch(app.httpUrl + path, { method: "POST", headers, body });
      expect(answer.status).toBe(200);
      expect(scheme.last()).toMatchObject({ method: "POST", target: `/sb${path}`, digest: sha256(Buffer.from(body)) });
    }
    const message = '{"message":{"messageId":"m","role":"ROLE_USER","parts":[{"text":"x"}]}}';
    await fetch(`${app.httpUrl}/message:send`, { method: "POST", headers, body: message });
    expect(scheme.last()).toMatchObject({ target: "/sb/message:send", digest: sha256(Buffer.from(message)) });
    await fetch(`${app.httpUrl}/v1/tasks/t1:cancel`, { method: "POST" });
    expect(scheme.last()).toMatchObject({ target: "/sb/v1/tasks/t1:cancel", digest: EMPTY });
  });

  test("over a Unix socket there is no address", async () => {
    const sent = http.request({ socketPath: sockets.http, path: "/sb/tasks", headers: { host: "localhost" } }).end();
    const [response] = (await once(sent, "response")) as [http.IncomingMessage];
    await text(response);
    expect(response.statusCode).toBe(200);
    expect(scheme.last()).toMatchObject({ address: undefined, isLocalSocket: true, authority: "localhost" });
  });
});

describe.each<[string, () => Transport, string, string | undefined]>([
  [
    "Connect in JSON",
    () =>
      createConnectTransport({
        baseUrl: app.httpUrl,
        httpVersion: "1.1",
        useBinaryFormat: false,
        interceptors: [withHeaders],
      }),
    "/sb/lf.a2a.v1.A2AService/ListTasks",
    sha256(Buffer.from(toJsonString(ListTasksRequestSchema, request))),
  ],
  [
    "Connect over HTTP/2",
    () => createConnectTransport({ baseUrl: app.httpUrl, httpVersion: "2", interceptors: [withHeaders] }),
    "/sb/lf.a2a.v1.A2AService/ListTasks",
    sha256(binary),
  ],
  [
    "gRPC-Web",
    () => createGrpcWebTransport({ baseUrl: app.httpUrl, httpVersion: "1.1", interceptors: [withHeaders] }),
    "/sb/lf.a2a.v1.A2AService/ListTasks",
    sha256(framed),
  ],
  [
    "gRPC on the HTTP listener",
    () => createGrpcTransport({ baseUrl: app.httpUrl, interceptors: [withHeaders] }),
    "/sb/lf.a2a.v1.A2AService/ListTasks",
    sha256(framed),
  ],
  [
    "gRPC on its own listener",
    () => createGrpcTransport({ baseUrl: `http://${app.grpcAddress}`, interceptors: [withHeaders] }),
    "/lf.a2a.v1.A2AService/ListTasks",
    sha256(framed),
  ],
])("%s", (_, transport, target, digest) => {
  test("tells target and digest, also of a request for a stream", async () => {
    const client = createClient(A2AService, transport());
    await client.listTasks(request);
    expect(scheme.last()).toMatchObject({
      method: "POST",
      target,
      digest,
      address: "127.0.0.1",
      isLocalSocket: false,
      forwarded: signed["x-forwarded-client-cert"],
    });
    const wanted = create(SubscribeToTaskRequestSchema, { id: "none" });
    await expect(async () => {
      for await (const _ of client.subscribeToTask(wanted)) break;
    }).rejects.toThrow();
    expect(scheme.last().target).toBe(target.replace("ListTasks", "SubscribeToTask"));
    // Streams are framed in every protocol.
    const isJson = _ === "Connect in JSON";
    const bytes = isJson
      ? Buffer.from(toJsonString(SubscribeToTaskRequestSchema, wanted))
      : toBinary(SubscribeToTaskRequestSchema, wanted);
    expect(scheme.last().digest).toBe(sha256(Buffer.concat([Buffer.from([0, 0, 0, 0, bytes.length]), bytes])));
  });
});

test("Connect reads a body first only where it is signed", async () => {
  const url = `${app.httpUrl}/lf.a2a.v1.A2AService/ListTasks`;
  const headers = { "content-type": "application/json" };
  await fetch(url, { method: "POST", headers, body: "{}" });
  expect(scheme.last().digest).toBeUndefined();
  await fetch(url, { method: "POST", headers: { ...headers, "signature-input": "x" }, body: "{}" });
  expect(scheme.last().digest).toBe(sha256(Buffer.from("{}")));
  const tooLarge = await fetch(url, {
    method: "POST",
    headers: { ...headers, "signature-input": "x" },
    body: `{"contextId":"${"x".repeat(5_000_000)}"}`,
  });
  expect(tooLarge.status).toBe(429);
  expect(await tooLarge.json()).toMatchObject({ code: "resource_exhausted" });
});

describe("gRPC", () => {
  function client(address = app.grpcAddress) {
    const open = new grpc.Client(address, grpc.credentials.createInsecure(), { "grpc.use_local_subchannel_pool": 1 });
    return open;
  }

  test("over a Unix socket has no address", async () => {
    const open = client(`unix:${sockets.grpc}`);
    await new Promise<void>((resolve, reject) => {
      open.makeUnaryRequest(
        "/lf.a2a.v1.A2AService/ListTasks",
        (bytes: Buffer) => bytes,
        (bytes: Buffer) => bytes,
        Buffer.from(binary),
        (error) => (error ? reject(error) : resolve()),
      );
    });
    open.close();
    expect(scheme.last()).toMatchObject({ address: undefined, isLocalSocket: true, digest: sha256(framed) });
  });

  test("has no digest of what is compressed", async () => {
    const session = http2.connect(`http://${app.grpcAddress}`);
    const stream = session.request({
      ":method": "POST",
      ":path": "/lf.a2a.v1.A2AService/ListTasks",
      "content-type": "application/grpc",
      "grpc-encoding": "gzip",
      te: "trailers",
    });
    const zipped = gzipSync(binary);
    const prefix = Buffer.from([1, 0, 0, 0, zipped.length]);
    stream.end(Buffer.concat([prefix, zipped]));
    stream.resume();
    const [trailers] = (await once(stream, "trailers")) as [http2.IncomingHttpHeaders];
    session.close();
    expect(trailers["grpc-status"]).toBe("0");
    expect(scheme.last()).toMatchObject({ digest: undefined, address: "127.0.0.1" });
  });
});
