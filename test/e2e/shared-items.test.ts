/** Many watch one task at one server: each gets what it would get alone, whoever else watches, and however much comes at once. */
import { once } from "node:events";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  type StreamResponse,
  StreamResponseSchema,
  SubscribeToTaskRequestSchema,
  TaskState,
} from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { UPDATES_EXTENSION } from "../../src/domain/updates-extension.ts";
import { createSignalboxClient } from "../../src/sdk/client.ts";
import { readEvents } from "../conformance/bindings/server-sent-events.ts";
import { createPuppet } from "../fault/puppet.ts";
import { asTask } from "../fault/said.ts";
import { startTestApp, type TestApp } from "./running-app.ts";

/** More than a stream hands to HTTP/2 at a time, and fewer than a watcher keeps. */
const CHUNKS = 200;

const puppet = createPuppet();
let app: TestApp;
let client: grpc.Client;
beforeAll(async () => {
  app = await startTestApp({ agents: { puppet: puppet.handler } });
  client = new grpc.Client(app.grpcAddress, grpc.credentials.createInsecure());
});
afterAll(async () => {
  client?.close();
  await app?.stop();
});

/** A stream whose task has come; the rest of it, as bytes. */
async function watchByGrpc(id: string, headers: Record<string, string> = {}) {
  const stream = client.makeServerStreamRequest(
    "/lf.a2a.v1.A2AService/SubscribeToTask",
    (bytes: Buffer) => bytes,
    (bytes) => Buffer.from(bytes),
    Buffer.from(toBinary(SubscribeToTaskRequestSchema, create(SubscribeToTaskRequestSchema, { id }))),
    grpc.Metadata.fromHttp2Headers(headers),
  );
  await once(stream, "readable");
  return { items: allOf(stream as AsyncIterable<Buffer>).then((all) => all.slice(1)) };
}

async function watchByEvents(path: string, init: RequestInit = {}) {
  const events = readEvents((await fetch(`${app.httpUrl}${path}`, init)).body!);
  await events.next();
  return { items: allOf(events) };
}

async function allOf<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const each of items) all.push(each);
  return all;
}

const decoded = (bytes: Buffer): StreamResponse => fromBinary(StreamResponseSchema, bytes);
const textOf = ({ payload }: StreamResponse): unknown =>
  payload.case === "artifactUpdate" ? payload.value.artifact?.parts[0]?.content.value : payload.case;

test("the same bytes and the same text for all, and numbers for who names the extension", async () => {
  const sdk = createSignalboxClient({ baseUrl: app.httpUrl });
  const [answer, turn] = await Promise.all([sdk.send("go", { wait: false }), puppet.turn()]);
  const { id } = asTask(answer);
  turn.task();
  // Whoever comes now has nothing of the task's beginning to hear.
  turn.chunk("first");
  for await (const { payload } of sdk.watch(id)) {
    if (payload.case === "artifactUpdate" || (payload.case === "task" && payload.value.artifacts.length > 0)) break;
  }
  const named = { "a2a-extensions": UPDATES_EXTENSION };
  const rpc = { jsonrpc: "2.0", id: 7, method: "SubscribeToTask", params: { id } };
  const [one, numbered, other, rest, events] = await Promise.all([
    watchByGrpc(id),
    watchByGrpc(id, named),
    watchByGrpc(id),
    watchByEvents(`/tasks/${id}:subscribe`),
    watchByEvents("/rpc", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(rpc),
    }),
  ]);
  for (let i = 0; i < CHUNKS; i++) turn.chunk(`chunk ${i}`);
  turn.status(TaskState.COMPLETED);
  turn.end();

  const plain = await one.items;
  const said = [...Array.from({ length: CHUNKS }, (_, i) => `chunk ${i}`), "statusUpdate"];
  expect(plain.map((bytes) => textOf(decoded(bytes)))).toEqual(said);
  expect(await other.items).toEqual(plain);
  const withNumbers = (await numbered.items).map(decoded);
  expect(withNumbers.map(textOf)).toEqual(said);
  const numbers = withNumbers.map(({ payload }) =>
    Object.keys((payload.value as { metadata?: object }).metadata ?? {}),
  );
  expect(numbers).toEqual(said.map(() => [UPDATES_EXTENSION]));
  for (const bytes of plain) {
    expect(bytes.includes(UPDATES_EXTENSION)).toBe(false);
    expect(bytes.equals(toBinary(StreamResponseSchema, decoded(bytes)))).toBe(true);
  }

  const texts = (await rest.items).map(({ data }) => data);
  expect(texts.map((text) => JSON.parse(text).artifactUpdate?.artifact.parts[0].text ?? "statusUpdate")).toEqual(said);
  expect((await events.items).map(({ data }) => JSON.parse(data))).toEqual(
    texts.map((text) => ({ jsonrpc: "2.0", id: 7, result: JSON.parse(text) })),
  );
});
