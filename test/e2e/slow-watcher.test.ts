/** A watcher that does not read: its task and the other watchers do not wait for it, and it misses nothing. */
import { once } from "node:events";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { StreamResponseSchema, SubscribeToTaskRequestSchema, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { createSignalboxClient, type SignalboxClient } from "../../src/sdk/client.ts";
import { readEvents } from "../conformance/bindings/server-sent-events.ts";
import { createPuppet } from "../fault/puppet.ts";
import { asTask } from "../fault/said.ts";
import { BACKENDS } from "../store/backends.ts";
import { startTestApp, type TestApp } from "./running-app.ts";

/** Far more than sockets and the server hold for a reader that has stopped: 16 MiB in more updates than a watcher keeps. */
const CHUNKS = 1024;
const CHUNK_BYTES = 16 * 1024;

const chunkText = (index: number) => `${index};`.padEnd(CHUNK_BYTES, ".");
const indexOf = (text: unknown) => Number(String(text).split(";", 1)[0]);

/** A subscription whose first item has come, and that reads the others only when it is told to. */
interface PausedWatcher {
  /** Reads to the end; the chunks as they came. */
  rest(): Promise<number[]>;
}

const WATCHERS: [string, (app: TestApp, id: string) => Promise<PausedWatcher>][] = [
  ["gRPC", watchByGrpc],
  ["server-sent events", watchByEvents],
  ["Connect", watchByConnect],
];

describe.each(BACKENDS)("on %s", (backend) => {
  const puppet = createPuppet();
  let app: TestApp;
  let client: SignalboxClient;

  beforeAll(async () => {
    app = await startTestApp({ backend, agents: { puppet: puppet.handler } });
    client = createSignalboxClient({ baseUrl: app.httpUrl });
  });
  afterAll(() => app?.stop());

  test.each(WATCHERS)("over %s", async (_, watch) => {
    const [answer, turn] = await Promise.all([client.send("flood", { wait: false }), puppet.turn()]);
    const { id } = asTask(answer);
    turn.task();
    const slow = await watch(app, id);
    const quick = chunksOf(client, id);
    for (let i = 0; i < CHUNKS; i++) turn.chunk(chunkText(i));
    turn.status(TaskState.COMPLETED);
    turn.end();
    // The task ends, and who reads has read all, while the slow one has not begun to.
    expect(asTask(await client.waitFor(id)).status?.state).toBe(TaskState.COMPLETED);
    const all = Array.from({ length: CHUNKS }, (_, i) => i);
    expect(await quick).toEqual(all);
    expect(await slow.rest()).toEqual(all);
  });
});

async function chunksOf(client: SignalboxClient, id: string): Promise<number[]> {
  const chunks: number[] = [];
  for await (const { payload } of client.watch(id)) {
    if (payload.case === "artifactUpdate") chunks.push(indexOf(payload.value.artifact?.parts[0]?.content.value));
    // What it came too late for stands in the task.
    if (payload.case === "task") {
      for (const { parts } of payload.value.artifacts) chunks.push(...parts.map((p) => indexOf(p.content.value)));
    }
  }
  return chunks;
}

async function watchByGrpc({ grpcAddress }: TestApp, id: string): Promise<PausedWatcher> {
  const client = new grpc.Client(grpcAddress, grpc.credentials.createInsecure());
  const stream = client.makeServerStreamRequest(
    "/lf.a2a.v1.A2AService/SubscribeToTask",
    (bytes: Buffer) => bytes,
    (bytes) => fromBinary(StreamResponseSchema, bytes),
    Buffer.from(toBinary(SubscribeToTaskRequestSchema, create(SubscribeToTaskRequestSchema, { id }))),
  );
  await once(stream, "readable");
  return {
    async rest() {
      const chunks: number[] = [];
      for await (const { payload } of stream) {
        if (payload.case === "artifactUpdate") chunks.push(indexOf(payload.value.artifact?.parts[0]?.content.value));
      }
      client.close();
      return chunks;
    },
  };
}

async function watchByEvents({ httpUrl }: TestApp, id: string): Promise<PausedWatcher> {
  const response = await fetch(`${httpUrl}/tasks/${id}:subscribe`);
  const events = readEvents(response.body!);
  await events.next();
  return {
    async rest() {
      const chunks: number[] = [];
      for await (const { data } of events) {
        const { artifactUpdate } = JSON.parse(data);
        if (artifactUpdate) chunks.push(indexOf(artifactUpdate.artifact.parts[0].text));
      }
      return chunks;
    },
  };
}

async function watchByConnect({ httpUrl }: TestApp, id: string): Promise<PausedWatcher> {
  const stream = createSignalboxClient({ baseUrl: httpUrl, reconnects: 0 }).a2a.subscribeToTask({ id });
  const items = stream[Symbol.asyncIterator]();
  await items.next();
  return {
    async rest() {
      const chunks: number[] = [];
      for (let next = await items.next(); !next.done; next = await items.next()) {
        const { payload } = next.value;
        if (payload.case === "artifactUpdate") chunks.push(indexOf(payload.value.artifact?.parts[0]?.content.value));
      }
      return chunks;
    },
  };
}
