/** The client and the command line over connections that break: what they show is what they would have shown over one. */
import fc from "fast-check";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { type StreamResponse, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { createSignalboxClient, type SignalboxClient, sequenceOf } from "../../src/sdk/client.ts";
import { createPuppet, type Turn } from "../fault/puppet.ts";
import { asTask, failureOf, lineOf } from "../fault/said.ts";
import { startTcpProxy, type TcpProxy } from "../fault/tcp-proxy.ts";
import { type LogLine, logLines } from "../store/log-lines.ts";
import { runCommand, startTestApp, type TestApp } from "./running-app.ts";

const { INPUT_REQUIRED, COMPLETED } = TaskState;

const puppet = createPuppet();
const logged = logLines();
let app: TestApp;
let wire: TcpProxy;
/** Its calls go over the wire that tests cut. */
let client: SignalboxClient;

beforeAll(async () => {
  app = await startTestApp({ agents: { puppet: puppet.handler }, log: logged.log });
  wire = await startTcpProxy(Number(new URL(app.httpUrl).port));
  client = createSignalboxClient({ baseUrl: wireUrl() });
});
afterEach(() => wire.mend());
afterAll(async () => {
  await wire?.close();
  await app?.stop();
});

const wireUrl = () => `http://127.0.0.1:${wire.port}`;

async function begun(): Promise<{ id: string; turn: Turn }> {
  const [answer, turn] = await Promise.all([client.send("begin", { wait: false }), puppet.turn()]);
  turn.task();
  return { id: asTask(answer).id, turn };
}

/** The lines of a stream, up to one that is `last`, or to the end. */
async function linesOf(items: AsyncIterator<StreamResponse>, last?: string): Promise<string[]> {
  const lines: string[] = [];
  for (let next = await items.next(); !next.done; next = await items.next()) {
    lines.push(lineOf(next.value));
    if (lines.at(-1) === last) break;
  }
  return lines;
}

describe("watch", () => {
  test("gives each update once, wherever the wire is cut", async () => {
    /** The agent says so much; then the wire is cut, for good until the agent has said something more if `away`. */
    const cut = fc.record({ said: fc.nat({ max: 3 }), missed: fc.nat({ max: 3 }), away: fc.boolean() });
    await fc.assert(
      fc.asyncProperty(fc.array(cut, { minLength: 1, maxLength: 4 }), async (cuts) => {
        const { id, turn } = await begun();
        const options = { after: 0, signal: AbortSignal.timeout(25_000) };
        const items = client.watch(id, options)[Symbol.asyncIterator]();
        const lines = await linesOf(items, "WORKING");
        let count = 0;
        const say = (chunks: number) => {
          for (let i = 0; i < chunks; i++) turn.chunk(`${count++};`);
        };
        for (const { said, missed, away } of cuts) {
          say(said);
          if (said > 0) lines.push(...(await linesOf(items, `chunk ${count - 1};`)));
          if (away) wire.sever();
          else wire.cut();
          say(missed);
          wire.mend();
          if (missed > 0) lines.push(...(await linesOf(items, `chunk ${count - 1};`)));
        }
        turn.status(COMPLETED);
        turn.end();
        lines.push(...(await linesOf(items)));
        const chunks = Array.from({ length: count }, (_, i) => `chunk ${i};`);
        expect(lines).toEqual(["task SUBMITTED", "WORKING", ...chunks, "COMPLETED"]);
      }),
      { numRuns: 10 },
    );
  });

  test("tells the rest of a task that ended while the wire was cut", async () => {
    const { id, turn } = await begun();
    turn.chunk("seen");
    const items = client.watch(id, { after: 0 })[Symbol.asyncIterator]();
    await linesOf(items, "chunk seen");
    wire.sever();
    turn.chunk("missed");
    turn.status(COMPLETED, "done");
    turn.end();
    const rest = linesOf(items);
    await createSignalboxClient({ baseUrl: app.httpUrl }).waitFor(id);
    wire.mend();
    expect(await rest).toEqual(["chunk missed", "COMPLETED: done"]);
  });

  test("goes on after a number that its caller kept", async () => {
    const { id, turn } = await begun();
    for (const text of ["a", "b", "c"]) turn.chunk(text);
    turn.status(COMPLETED);
    turn.end();
    await client.waitFor(id);
    const all: StreamResponse[] = [];
    for await (const item of client.watch(id, { after: 0 })) all.push(item);
    expect(all.map(lineOf)).toEqual(["task SUBMITTED", "WORKING", "chunk a", "chunk b", "chunk c", "COMPLETED"]);
    for (const [index, item] of all.entries()) {
      const [first, ...rest] = await itemsOf(client.watch(id, { after: sequenceOf(item)! }));
      expect([first?.payload.case, sequenceOf(first!)]).toEqual(["task", sequenceOf(item)]);
      expect(rest).toEqual(all.slice(index + 1));
    }
    expect(await failureOf(itemsOf(client.watch(id, { after: 4711 })))).toMatchObject({ code: "InvalidArgument" });
  });

  test("gives up when the server stays away, and at once when told so", async () => {
    const { id, turn } = await begun();
    const impatient = createSignalboxClient({ baseUrl: wireUrl(), reconnects: 0 });
    const stubborn = createSignalboxClient({ baseUrl: wireUrl(), reconnects: 2 });
    const streams = [impatient, stubborn].map(({ watch }) => watch(id)[Symbol.asyncIterator]());
    for (const stream of streams) await stream.next();
    wire.sever();
    for (const stream of streams) {
      expect(["Aborted", "Unavailable"]).toContain((await failureOf(linesOf(stream))).code);
    }
    turn.status(COMPLETED);
    turn.end();
  });

  test("closes its connection when its reader leaves, also one that was made anew", async () => {
    const { id, turn } = await begun();
    turn.chunk("a");
    const requestId = "leaving";
    const leaving = createSignalboxClient({ baseUrl: wireUrl(), headers: { "X-Request-Id": requestId } });
    const items = leaving.watch(id, { after: 0 })[Symbol.asyncIterator]();
    await linesOf(items, "chunk a");
    wire.cut();
    await ended(requestId, 1);
    turn.chunk("b");
    await linesOf(items, "chunk b");
    await items.return?.();
    await ended(requestId, 2);
    for await (const _ of leaving.watch(id)) break;
    await ended(requestId, 3);
    turn.status(COMPLETED);
    turn.end();
  });

  test("ends with its signal while it waits to connect again", async () => {
    const { id, turn } = await begun();
    const stop = new AbortController();
    const items = client.watch(id, { signal: stop.signal })[Symbol.asyncIterator]();
    await items.next();
    wire.sever();
    const rest = linesOf(items);
    stop.abort();
    expect(await failureOf(rest)).toMatchObject({ code: "Canceled" });
    turn.status(COMPLETED);
    turn.end();
  });
});

describe("stream", () => {
  test("sends its message once, and goes on with its task over other connections", async () => {
    const items = client.stream("begin")[Symbol.asyncIterator]();
    const turn = await puppet.turn();
    turn.task();
    turn.chunk("a");
    expect(await linesOf(items, "chunk a")).toEqual(["task SUBMITTED", "WORKING", "chunk a"]);
    wire.cut();
    turn.chunk("b");
    expect(await linesOf(items, "chunk b")).toEqual(["chunk b"]);
    wire.cut();
    turn.status(INPUT_REQUIRED, "where?");
    turn.end();
    // It closes with the question, as it would have over one connection.
    expect(await linesOf(items)).toEqual(["INPUT_REQUIRED: where?"]);
    const { totalSize } = await client.a2a.listTasks({ status: INPUT_REQUIRED });
    expect(totalSize).toBe(1);
  });

  test("is not sent again when the connection breaks before anything has come", async () => {
    const items = client.stream("begin")[Symbol.asyncIterator]();
    const turn = await puppet.turn();
    wire.cut();
    expect(["Aborted", "Unavailable", "Unknown"]).toContain((await failureOf(items.next())).code);
    turn.task();
    turn.status(COMPLETED);
    turn.end();
  });
});

describe("signalbox task watch", () => {
  test("shows what it would have shown over one connection, and goes on after a number", async () => {
    const { id, turn } = await begun();
    const { shown, done } = cli("task", "watch", id, "--after", "0");
    turn.chunk("a ");
    await shown(/a /);
    wire.cut();
    turn.chunk("b ");
    await shown(/b /);
    wire.cut();
    turn.chunk("c");
    turn.status(COMPLETED, "done");
    turn.end();
    const { code, out, err } = await done;
    expect({ code, err }).toEqual({ code: 0, err: "" });
    expect(out).toMatch(/^Task \S+\nSUBMITTED\nWORKING\nArtifact story:\na b c\nCOMPLETED: done\n$/);

    const lines = (await cli("task", "watch", id, "--json", "--after", "0").done).out.trimEnd().split("\n");
    const [, , chunk] = lines.map((line) => JSON.parse(line));
    const { sequence } = chunk.artifactUpdate.metadata["urn:signalbox:a2a:updates:v1"];
    const rest = (await cli("task", "watch", id, "--json", "--after", sequence).done).out.trimEnd().split("\n");
    expect(rest.slice(1)).toEqual(lines.slice(3));
  });

  test("says what is wrong with a number", async () => {
    const { code, err } = await cli("task", "watch", "any", "--after", "x").done;
    expect(code).toBe(2);
    expect(err).toContain("It is 0 or more");
  });
});

/** Waits until so many calls with a request id have ended at the server. */
async function ended(requestId: string, count: number): Promise<void> {
  const isOne = (line: LogLine) => line.msg === "call ended" && line.requestId === requestId;
  while (logged.lines.filter(isOne).length < count) await logged.next();
}

async function itemsOf(items: AsyncIterable<StreamResponse>): Promise<StreamResponse[]> {
  const all: StreamResponse[] = [];
  for await (const item of items) all.push(item);
  return all;
}

/** Runs a command against the server at the other end of the wire. */
function cli(...args: string[]) {
  let text = "";
  let look = () => {};
  const done = runCommand(wireUrl(), args, {
    onText({ out }) {
      text = out;
      look();
    },
  });
  const shown = (pattern: RegExp): Promise<void> =>
    new Promise((resolve) => {
      look = () => pattern.test(text) && resolve();
      look();
    });
  return { shown, done };
}
