/** A server that is asked to stop: what still runs ends well, or is told why it does not; nothing waits for nothing. */
import { once } from "node:events";
import { rm } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { type Client, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterEach, beforeEach, expect, test } from "vitest";
import { Health, HealthCheckResponse_ServingStatus as Status } from "../../gen/grpc/health/v1/health_pb.ts";
import { A2AService, type StreamResponse } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { userMessage } from "../../src/sdk/client.ts";
import { startTestAgent, type TestAgent } from "../agents/test-agent.ts";
import { createDatabase, temporaryDirectory } from "../store/backends.ts";
import { asTask, failureOf, lineOf, statusOf } from "./said.ts";
import { type ServerProcess, startServer } from "./server-process.ts";

const DRAINING = { code: "Unavailable", reason: "DRAINING", retries: true };
/** Longer than any test lasts: a drain that waits for its time is a failure. */
const LONG_MS = "600000";

let dataDir: string;
let database: Awaited<ReturnType<typeof createDatabase>>;
let agent: TestAgent;
let server: ServerProcess;

beforeEach(async () => {
  dataDir = await temporaryDirectory();
  database = await createDatabase();
  agent = await startTestAgent();
});
afterEach(async () => {
  server.signal("SIGKILL");
  await server.exit;
  await agent.close();
  await database.drop();
  await rm(dataDir, { recursive: true, force: true });
});

async function start(drainMs: string, backend: "pglite" | "postgres" = "postgres"): Promise<void> {
  const place = backend === "pglite" ? { "data.dir": dataDir } : { "database.url": database.url };
  server = await startServer({ ...place, "drain.ms": drainMs, "task.silence-ms": "20" });
}

async function startWithAgent(drainMs: string): Promise<void> {
  await start(drainMs);
  await server.client.registry.registerAgent({ source: { case: "cardUrl", value: agent.cardUrl } });
}

const grpcTransport = () => createGrpcTransport({ baseUrl: `http://${server.grpcAddress}` });
const grpc = (): Client<typeof A2AService> => createClient(A2AService, grpcTransport());

/** A stream in which the agent has begun to work. */
async function working(items: AsyncIterable<StreamResponse>): Promise<AsyncIterator<StreamResponse>> {
  const iterator = items[Symbol.asyncIterator]();
  while (lineOf((await iterator.next()).value) !== "WORKING: At it.");
  return iterator;
}

/** A connection over which one request was answered, and which stays open. */
async function keptAlive(): Promise<Socket> {
  const { hostname, port } = new URL(server.httpUrl);
  const socket = connect(Number(port), hostname);
  socket.write("GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n");
  await once(socket, "data");
  return socket;
}

/** Four calls of every kind that wait for the agent. */
async function callsUnderWay() {
  const streams = [
    await working(server.client.stream("slow")),
    await working(grpc().sendStreamingMessage({ message: userMessage("slow") })),
  ];
  const [one, two] = [userMessage("slow"), userMessage("slow")];
  const overGrpc = grpc().sendMessage({ message: two });
  const blocking = [server.client.send(one), overGrpc.then(({ payload }) => payload.value!)];
  await Promise.all([agent.turn(one.messageId), agent.turn(two.messageId)]);
  return { streams, blocking };
}

test("calls that end in time end well, health tells, and idle connections hold nothing up", async () => {
  await startWithAgent(LONG_MS);
  const { streams, blocking } = await callsUnderWay();
  const idle = await keptAlive();
  const idleEnds = once(idle.resume(), "close");
  const silent = connect(Number(new URL(server.httpUrl).port), "127.0.0.1");
  await once(silent, "connect");
  const health = createClient(Health, grpcTransport());
  const watch = health.watch({})[Symbol.asyncIterator]();
  expect((await watch.next()).value.status).toBe(Status.SERVING);

  server.signal("SIGTERM");
  expect((await watch.next()).value.status).toBe(Status.NOT_SERVING);
  expect(await failureOf(watch.next())).toMatchObject(DRAINING);
  await idleEnds;
  await expect(fetch(`${server.httpUrl}/healthz`)).rejects.toThrow();

  agent.release();
  for (const call of blocking) expect(statusOf(asTask(await call))).toBe("COMPLETED");
  for (const stream of streams) {
    expect(lineOf((await stream.next()).value)).toBe("COMPLETED");
    expect((await stream.next()).done).toBe(true);
  }
  silent.destroy();
  expect(await server.exit).toEqual({ code: 0, signal: null });
});

/** Reads what a stream still says. */
async function toItsEnd(stream: AsyncIterator<unknown>): Promise<void> {
  while (!(await stream.next()).done);
}

test("calls that do not end in time are told to come again, and their tasks go on after the restart", async () => {
  await startWithAgent("200");
  const { streams, blocking } = await callsUnderWay();
  const watch = server.client.watch((await server.client.a2a.listTasks({})).tasks[0]!.id)[Symbol.asyncIterator]();
  expect(lineOf((await watch.next()).value)).toContain("task");
  const failures = Promise.all([...blocking, ...[...streams, watch].map(toItsEnd)].map(failureOf));
  server.signal("SIGTERM");
  for (const failure of await failures) expect(failure).toMatchObject(DRAINING);
  expect(await server.exit).toEqual({ code: 0, signal: null });

  await start("200");
  agent.release();
  const { tasks } = await server.client.a2a.listTasks({});
  expect(tasks).toHaveLength(4);
  for (const { id } of tasks) expect(statusOf(await server.client.waitFor(id))).toBe("COMPLETED");
});

test("a JSON-RPC call and an SSE stream are told to come again", async () => {
  await startWithAgent("200");
  const post = (method: string) =>
    fetch(server.httpUrl, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({
        jsonrpc: "2.0",
        id: 1,
        method,
        params: { message: { messageId: method, role: "ROLE_USER", parts: [{ text: "slow" }] } },
      }),
    });
  const [unary, stream] = [post("SendMessage"), await post("SendStreamingMessage")];
  await agent.turn("SendMessage");
  server.signal("SIGTERM");
  const answer = (await (await unary).json()) as { error: unknown };
  expect(answer.error).toMatchObject({ code: -32053, data: [{ reason: "DRAINING" }, {}] });
  const events = (await stream.text()).trim().split("\n\n");
  expect(events.at(-1)).toContain('"code":-32053');
  expect(await server.exit).toEqual({ code: 0, signal: null });
});

test.each([
  ["SIGTERM", "pglite"],
  ["SIGINT", "postgres"],
] as const)("an idle server ends at once at %s on %s, and says little", async (name, backend) => {
  await start(LONG_MS, backend);
  server.signal(name);
  expect(await server.exit).toEqual({ code: 0, signal: null });
  const said = server.logged.lines.map(({ msg }) => msg);
  expect(said.slice(said.indexOf("serving"))).toEqual(["serving", "draining", "stopped"]);
});

test("a second signal ends it at once", async () => {
  await startWithAgent(LONG_MS);
  const { blocking } = await callsUnderWay();
  // Not waited for: connect-node does not always end a call whose connection ends after a GOAWAY.
  for (const call of blocking) call.catch(() => {});
  server.signal("SIGINT");
  await server.logged.until("draining");
  server.signal("SIGINT");
  expect(await server.exit).toEqual({ code: 1, signal: null });
  // The data can be taken up at once.
  await start(LONG_MS);
  // Those whose agent had not confirmed them are shown when it is decided that they failed.
  const size = async () => (await server.client.a2a.listTasks({})).totalSize;
  await expect.poll(size, { timeout: 20_000 }).toBe(4);
});
