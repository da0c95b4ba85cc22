/**
 * Watchers of tasks over gRPC, thousands of streams on few connections: a client of Node's HTTP/2 that reads the frames itself, so
 * that it costs little beside the server. Asked as `bench/lab/watchers.ts` asks.
 */
import { once } from "node:events";
import { type ClientHttp2Session, type ClientHttp2Stream, connect } from "node:http2";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { WireType } from "@bufbuild/protobuf/wire";
import { A2AService, StreamResponseSchema, SubscribeToTaskRequestSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { A2A_VERSION, frame, pathOf } from "../lab/grpc.ts";
import type { WatchersQuestion, Watching } from "../lab/watchers.ts";
import { announce } from "./announce.ts";

/** What a client may be sent before it has said that it read it, in bytes. */
const WINDOW = 16 * 1024 * 1024;
/** Streams that are opened before the first of them have shown their task. */
const OPENED_AT_ONCE = 250;

let sessions: ClientHttp2Session[] = [];
let watchers: Watcher[] = [];
let timesMs: number[] = [];
/** Streams that have shown their task. */
let shown = 0;
/** Of all streams. */
let chunks = 0;
let waiting: { isOver: () => boolean; resolve: () => void; reject: (error: Error) => void } | undefined;
let failure: Error | undefined;
/** Counts what was closed: streams of before have nothing to say any more. */
let era = 0;

/** The first byte of an item that is a chunk. */
const CHUNK = (StreamResponseSchema.field.artifactUpdate.number << 3) | WireType.LengthDelimited;

class Watcher {
  chunks = 0;
  #hasTask = false;
  #rest: Buffer | undefined;

  constructor(stream: ClientHttp2Stream, isTimed: boolean) {
    const own = era;
    const fail = (why: string) => own === era && breakOff(why);
    stream.on("data", (bytes: Buffer) => this.#take(bytes, isTimed));
    stream.on("response", ({ ":status": status, "grpc-status": code }) => {
      if (status !== 200 || code !== undefined) fail(`a stream was answered with HTTP ${status}, gRPC ${code}`);
    });
    stream.on("trailers", (headers) => fail(`a stream ended: ${headers["grpc-status"]} ${headers["grpc-message"]}`));
    stream.on("error", (error) => fail(String(error)));
    stream.on("close", () => fail("a stream was closed"));
  }

  #take(more: Buffer, isTimed: boolean): void {
    const bytes = this.#rest ? Buffer.concat([this.#rest, more]) : more;
    let at = 0;
    while (bytes.length >= at + 5) {
      const end = at + 5 + bytes.readUInt32BE(at + 1);
      if (end > bytes.length) break;
      this.#note(bytes.subarray(at + 5, end), isTimed);
      at = end;
    }
    this.#rest = at < bytes.length ? bytes.subarray(at) : undefined;
    if (waiting?.isOver()) settle();
  }

  #note(item: Buffer, isTimed: boolean): void {
    if (!this.#hasTask) {
      this.#hasTask = true;
      shown += 1;
    } else if (item[0] === CHUNK) {
      this.chunks += 1;
      chunks += 1;
      if (isTimed) timesMs.push(ageOf(item));
    }
  }
}

/** How long ago a chunk was said, in milliseconds. Processes of one machine have one clock. */
function ageOf(bytes: Uint8Array): number {
  const { payload } = fromBinary(StreamResponseSchema, bytes);
  const content = payload.case === "artifactUpdate" ? payload.value.artifact?.parts[0]?.content : undefined;
  if (content?.case !== "text") throw new Error(`a watcher got ${payload.case}`);
  return Number(process.hrtime.bigint() - BigInt(content.value.split(" ", 1)[0]!)) / 1e6;
}

function settle(): void {
  const over = waiting;
  waiting = undefined;
  over?.resolve();
}

function breakOff(why: string): void {
  failure ??= new Error(why);
  waiting?.reject(failure);
  waiting = undefined;
}

/** Resolves when it is over. Looked at with each piece that comes. */
function until(isOver: () => boolean): Promise<void> {
  return new Promise((resolve, reject) => {
    waiting = { isOver, resolve, reject };
    if (failure) reject(failure);
    else if (isOver()) settle();
  });
}

async function open({ authority, taskIds, streams, connections, headers = {}, isTimed = false }: Watching) {
  const settings = { initialWindowSize: WINDOW };
  const opened = Array.from({ length: connections }, () => connect(`http://${authority}`, { settings }));
  sessions.push(...opened);
  await Promise.all(opened.map((session) => once(session, "connect")));
  for (const session of opened) {
    session.setLocalWindowSize(WINDOW);
    // Its streams tell what it means.
    session.on("error", () => {});
  }
  const { subscribeToTask } = A2AService.method;
  const bodies = taskIds.map((id) =>
    frame(toBinary(SubscribeToTaskRequestSchema, create(SubscribeToTaskRequestSchema, { id }))),
  );
  const all = {
    ":method": "POST",
    ":path": pathOf(subscribeToTask),
    "content-type": "application/grpc",
    te: "trailers",
    ...A2A_VERSION,
    ...headers,
  };
  for (let begun = 0; begun < streams; ) {
    for (let i = 0; i < OPENED_AT_ONCE && begun < streams; i++, begun++) {
      const stream = opened[begun % connections]!.request(all);
      stream.end(bodies[begun % bodies.length]);
      watchers.push(new Watcher(stream, isTimed));
    }
    await until(() => shown === watchers.length);
  }
}

/** Resolves when each stream has had so many chunks. */
function reached(each: number): Promise<void> {
  // Those that have them are looked at no more.
  let behind = watchers;
  return until(() => {
    // Cheap as long as the last one that was behind still is.
    if (behind.length > 0 && behind.at(-1)!.chunks < each) return false;
    behind = behind.filter((watcher) => watcher.chunks < each);
    return behind.length === 0;
  });
}

function close(): void {
  era += 1;
  for (const session of sessions) session.destroy();
  sessions = [];
  watchers = [];
  timesMs = [];
  shown = 0;
  chunks = 0;
  failure = undefined;
}

async function answer(question: WatchersQuestion): Promise<unknown> {
  switch (question.what) {
    case "open":
      return open(question.watching);
    case "each":
      return reached(question.chunks);
    case "all":
      await until(() => chunks >= question.chunks);
      return watchers.filter((watcher) => watcher.chunks > 0).length;
    case "times": {
      const taken = timesMs;
      timesMs = [];
      return taken;
    }
    case "close":
      return close();
  }
}

announce({}, { answer });
