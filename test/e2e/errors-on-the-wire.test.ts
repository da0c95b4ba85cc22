/** Errors that repeat what a client or an agent said, however broken, reach the caller and leave the server standing. */
import { create, toBinary } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { A2AService, GetTaskRequestSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { startTestApp, type TestApp } from "./running-app.ts";

/** Cut at 128 units, the last character would be halved; a halved one cannot be put into a header. */
const ID = `${"a".repeat(127)}😀`;

let app: TestApp;
beforeAll(async () => {
  app = await startTestApp();
  return () => app.stop();
});

const LISTENERS = [
  ["the gRPC listener", () => app.grpcAddress],
  ["gRPC on the HTTP listener", () => new URL(app.httpUrl).host],
] as const;

describe.each(LISTENERS)("%s", (_, address) => {
  let client: grpc.Client;
  beforeAll(() => {
    client = new grpc.Client(address(), grpc.credentials.createInsecure());
  });
  afterAll(() => client.close());

  const request = Buffer.from(toBinary(GetTaskRequestSchema, create(GetTaskRequestSchema, { id: ID })));
  const bytes = (value: Buffer) => value;
  const path = (method: string) => `/${A2AService.typeName}/${method}`;

  test("answers a unary call about an id that ends in a pair of surrogates", async () => {
    const error = await new Promise<grpc.ServiceError | null>((resolve) => {
      client.makeUnaryRequest(path("GetTask"), bytes, bytes, request, resolve);
    });
    expect(error).toMatchObject({
      code: grpc.status.NOT_FOUND,
      details: expect.stringContaining(`${"a".repeat(127)}…`),
    });
  });

  test("answers a stream about an id that ends in a pair of surrogates", async () => {
    const error = await new Promise((resolve) => {
      client.makeServerStreamRequest(path("SubscribeToTask"), bytes, bytes, request).on("error", resolve).resume();
    });
    expect(error).toMatchObject({
      code: grpc.status.NOT_FOUND,
      details: expect.stringContaining(`${"a".repeat(127)}…`),
    });
  });
});

// connect-node repeats the value in an error of its own, which it then cannot send.
test.each([
  ["application/grpc+json", 500],
  ["application/grpc-web+json", 500],
  ["application/json", 400],
])("half a pair in a body of %s is answered", async (type, status) => {
  const json = Buffer.from('{"id":"a","historyLength":"\\ud83d"}');
  const head = Buffer.alloc(type === "application/json" ? 0 : 5);
  if (head.length > 0) head.writeUInt32BE(json.length, 1);
  const answer = await fetch(`${app.httpUrl}/${A2AService.typeName}/GetTask`, {
    method: "POST",
    headers: { "content-type": type },
    body: Buffer.concat([head, json]),
  });
  expect(answer.status).toBe(status);
  await answer.text();
});
