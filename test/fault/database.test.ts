/** PostgreSQL is away: at the start, in the middle, and again and again. */
import { rm } from "node:fs/promises";
import { type Client, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { A2AService, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { createSignalboxClient, type SignalboxClient, userMessage } from "../../src/sdk/client.ts";
import { openPostgres } from "../../src/store/postgres.ts";
import { startTestApp, type TestApp } from "../e2e/running-app.ts";
import { type EmbeddedPostgres, startEmbeddedPostgres } from "../setup/embedded-postgres.ts";
import { createDatabase, silent, temporaryDirectory } from "../store/backends.ts";
import { type LogLines, logLines } from "../store/log-lines.ts";
import { checkLogs } from "./log-check.ts";
import { createPuppet, type Puppet } from "./puppet.ts";
import { asTask, failureOf, lineOf, statusOf, textOf } from "./said.ts";
import { launch } from "./server-process.ts";
import { startTcpProxy } from "./tcp-proxy.ts";

const { COMPLETED, INPUT_REQUIRED } = TaskState;
const UNAVAILABLE = { code: "Unavailable", reason: "DATABASE_UNAVAILABLE", retries: true };

let puppet: Puppet;
let logged: LogLines;
let app: TestApp;
let client: SignalboxClient;

async function startOn(url: string): Promise<void> {
  puppet = createPuppet();
  logged = logLines();
  app = await startTestApp({ flags: { "database.url": url }, agents: { puppet: puppet.handler }, log: logged.log });
  client = createSignalboxClient({ baseUrl: app.httpUrl });
}

const readiness = async () => (await fetch(`${app.httpUrl}/readyz`)).status;

/** The logs as they are at the end, after the server has stopped. */
async function checkStored(url: string) {
  const db = openPostgres({ url, poolSize: 2, log: silent });
  try {
    return await checkLogs(db);
  } finally {
    await db.close();
  }
}

describe("a server of its own", () => {
  let postgres: EmbeddedPostgres;
  beforeEach(async () => {
    postgres = await startEmbeddedPostgres();
  });
  afterEach(() => postgres.remove());

  test("that is away at the start is waited for, and the server comes up", async () => {
    await postgres.stop();
    const dataDir = await temporaryDirectory();
    onTestFinished(() => rm(dataDir, { recursive: true }));
    const server = launch({ "database.url": postgres.url, "data.dir": dataDir });
    onTestFinished(() => server.signal("SIGKILL"));
    const told = await server.logged.until("does not answer; next attempt in");
    expect(told).toMatchObject({ level: "warn", attempt: 1, why: expect.stringContaining("ECONNREFUSED") });
    expect(JSON.stringify(server.logged.lines)).not.toContain("password");

    await postgres.start();
    const { http } = await server.logged.until("serving");
    expect((await fetch(`${http}/readyz`)).status).toBe(200);
    server.signal("SIGTERM");
    expect(await server.exit).toEqual({ code: 0, signal: null });
  });

  test("that is waited for in vain can be given up with a signal", async () => {
    await postgres.stop();
    const server = launch({ "database.url": postgres.url });
    await server.logged.until("does not answer");
    server.signal("SIGINT");
    expect(await server.exit).toEqual({ code: 0, signal: null });
  });

  test.each(["fast", "kill"] as const)("that goes away (%s) and comes back loses no update", async (how) => {
    await startOn(postgres.url);
    const streams = await Promise.all(["one", "two", "three"].map(beginStream));
    const asking = client.send("question");
    const question = await puppet.turn();
    question.task();
    const blocking = client.send("blocked");
    const blocked = await puppet.turn();
    blocked.task();
    question.status(INPUT_REQUIRED, "Which?");
    question.end();
    const asked = asTask(await asking);

    await postgres.stop(how);
    expect(await readiness()).toBe(503);
    expect((await fetch(`${app.httpUrl}/healthz`)).status).toBe(200);
    for (const { turn } of streams) for (const text of ["2", "3", "4"]) turn.chunk(text);
    blocked.chunk("during the outage");

    expect(await failureOf(client.send("new"))).toMatchObject(UNAVAILABLE);
    expect(await failureOf(client.send("immediate", { wait: false }))).toMatchObject(UNAVAILABLE);
    expect(await failureOf(firstItem(client.stream("streamed")))).toMatchObject(UNAVAILABLE);
    expect(await failureOf(client.send("answer", { taskId: asked.id }))).toMatchObject(UNAVAILABLE);
    expect(await failureOf(client.a2a.getTask({ id: asked.id }))).toMatchObject(UNAVAILABLE);
    expect(await failureOf(client.a2a.listTasks({}))).toMatchObject(UNAVAILABLE);
    expect(await failureOf(grpc().sendMessage({ message: userMessage("over gRPC") }))).toMatchObject(UNAVAILABLE);

    await postgres.start();
    for (const { turn } of streams) turn.status(COMPLETED, "Done.");
    blocked.status(COMPLETED, "Done.");
    for (const { lines } of streams) {
      const chunks = ["chunk 1", "chunk 2", "chunk 3", "chunk 4"];
      expect(await lines).toEqual(["task SUBMITTED", "WORKING", ...chunks, "COMPLETED: Done."]);
    }
    const finished = asTask(await blocking);
    expect([statusOf(finished), textOf(finished)]).toEqual(["COMPLETED: Done.", "during the outage"]);
    expect(await readiness()).toBe(200);

    const answering = client.send("this one", { taskId: asked.id });
    const answer = await puppet.turn();
    expect(textOf(answer.message)).toBe("this one");
    answer.status(COMPLETED, "Thanks.");
    expect(statusOf(asTask(await answering))).toBe("COMPLETED: Thanks.");

    await app.stop();
    const images = await checkStored(postgres.url);
    expect(images.map(({ task }) => statusOf(task)).sort()).toEqual([
      ...Array(4).fill("COMPLETED: Done."),
      "COMPLETED: Thanks.",
    ]);
    expect(logged.lines.filter(({ level }) => level >= 50)).toEqual([]);
  });
});

test("a connection that breaks again and again loses and repeats nothing", async () => {
  const { url, drop } = await createDatabase();
  onTestFinished(drop);
  const target = new URL(url);
  const proxy = await startTcpProxy(Number(target.port));
  onTestFinished(() => proxy.close());
  target.port = String(proxy.port);
  await startOn(target.href);

  const streams = await Promise.all(["one", "two", "three", "four"].map(beginStream));
  const total = 200;
  for (let n = 2; n <= total; n++) {
    for (const { turn } of streams) turn.chunk(String(n));
    if (n % 20 === 0) {
      // Wherever the statements are at this moment: before, on or after the wire.
      await streams[0]!.seen(n - 10);
      proxy.cut();
    }
  }
  for (const { turn } of streams) turn.status(COMPLETED);
  const chunks = Array.from({ length: total }, (_, i) => `chunk ${i + 1}`);
  for (const { lines } of streams) expect(await lines).toEqual(["task SUBMITTED", "WORKING", ...chunks, "COMPLETED"]);

  await app.stop();
  const images = await checkStored(url);
  expect(images.map(({ seq }) => seq)).toEqual(Array(4).fill(total + 3));
  expect(logged.lines.filter(({ level }) => level >= 50)).toEqual([]);
});

/** A stream that has shown its first chunk, the turn of the agent behind it, and all that it will show. */
async function beginStream(text: string) {
  const shown = new Map<number, PromiseWithResolvers<void>>();
  const mark = (n: number) => {
    const found = shown.get(n) ?? Promise.withResolvers<void>();
    shown.set(n, found);
    return found;
  };
  const lines = (async () => {
    const all: string[] = [];
    for await (const item of client.stream(text)) {
      all.push(lineOf(item));
      const chunk = /^chunk (\d+)$/.exec(lineOf(item));
      if (chunk) mark(Number(chunk[1])).resolve();
    }
    return all;
  })();
  const turn = await puppet.turn();
  turn.task();
  turn.chunk("1");
  await mark(1).promise;
  return { turn, lines, seen: (n: number) => mark(n).promise };
}

async function firstItem<T>(items: AsyncIterable<T>): Promise<T | undefined> {
  for await (const item of items) return item;
  return undefined;
}

function grpc(): Client<typeof A2AService> {
  return createClient(A2AService, createGrpcTransport({ baseUrl: `http://${app.grpcAddress}` }));
}
