/** `signalbox serve --workers 2`: what the workers share, what happens when one dies, and how all of them end. */
import { rm, writeFile } from "node:fs/promises";
import net from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { create } from "@bufbuild/protobuf";
import { type Client, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterEach, beforeEach, expect, test } from "vitest";
import { A2AService, ListTasksRequestSchema, type StreamResponse } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { createSignalboxClient, userMessage } from "../../src/sdk/client.ts";
import { startTestAgent, type TestAgent } from "../agents/test-agent.ts";
import { createTestAuthority } from "../setup/test-authority.ts";
import { createDatabase, temporaryDirectory } from "../store/backends.ts";
import { lineOf, statusOf } from "./said.ts";
import { launch, type ServerProcess, startServer } from "./server-process.ts";
import {
  getAlone,
  lives,
  metricsPage,
  sampleOf,
  samplesByWorker,
  sumOf,
  untilServed,
  workerPids,
} from "./worker-fleet.ts";

const CALLS = "signalbox_rpc_duration_seconds_count";
/** Longer than any test lasts. */
const LONG_MS = "600000";

let folder: string;
let database: Awaited<ReturnType<typeof createDatabase>>;
let agent: TestAgent;
let server: ServerProcess;

beforeEach(async () => {
  folder = await temporaryDirectory();
  database = await createDatabase();
  agent = await startTestAgent();
});
afterEach(async () => {
  for (const pid of server ? workerPids(server).values() : []) if (lives(pid)) process.kill(pid, "SIGKILL");
  server?.signal("SIGKILL");
  await server?.exit;
  await agent.close();
  await database.drop();
  await rm(folder, { recursive: true, force: true });
});

const settings = (more: Record<string, string> = {}) => ({
  workers: "2",
  "database.url": database.url,
  "data.dir": folder,
  "lease.ms": "1000",
  "task.silence-ms": "20",
  ...more,
});

async function start(more: Record<string, string> = {}): Promise<void> {
  server = await startServer(settings(more));
  await untilServed(server, 2);
}

/** A client with a connection of its own. */
const overGrpc = (): Client<typeof A2AService> =>
  createClient(A2AService, createGrpcTransport({ baseUrl: `http://${server.grpcAddress}` }));

/** A stream in which the agent has begun to work, over a connection of its own. It begins anew by itself when that breaks. */
async function working(): Promise<AsyncIterator<StreamResponse>> {
  const client = createSignalboxClient({ baseUrl: server.httpUrl });
  const iterator = client.stream("slow")[Symbol.asyncIterator]();
  while (lineOf((await iterator.next()).value) !== "WORKING: At it.");
  return iterator;
}

async function lastOf(stream: AsyncIterator<StreamResponse>): Promise<string> {
  for (let last = ""; ; ) {
    const { done, value } = await stream.next();
    if (done) return last;
    last = lineOf(value);
  }
}

const signalWorkers = (name: NodeJS.Signals) => {
  for (const pid of workerPids(server).values()) if (lives(pid)) process.kill(pid, name);
};

// Five starts of a worker, one after another.
test("workers share the listeners and one page; one that is killed is replaced, and nothing is lost; all are replaced; all end in order", {
  timeout: 120_000,
}, async () => {
  await start({ "drain.ms": LONG_MS });
  await server.client.registry.registerAgent({ source: { case: "cardUrl", value: agent.cardUrl } });
  const { hostname, port } = new URL(server.httpUrl);
  for (let i = 0; i < 4; i++) await overGrpc().listTasks(create(ListTasksRequestSchema, {}));
  for (let i = 0; i < 4; i++)
    await getAlone({ host: hostname, port, path: "/tasks", headers: { "a2a-version": "1.0" } });

  // One page: whoever makes it, it has the calls of both.
  const page = await metricsPage(server);
  const calls = samplesByWorker(page, "signalbox_worker_calls_total");
  expect([...calls.keys()]).toEqual([1, 2]);
  expect(Math.min(...calls.values())).toBeGreaterThan(0);
  expect(sumOf(page, CALLS)).toBe(calls.get(1)! + calls.get(2)!);
  expect(sampleOf(page, 'signalbox_workers{state="wanted"}')).toBe(2);
  expect(sampleOf(page, 'signalbox_workers{state="serving"}')).toBe(2);
  expect(sampleOf(page, 'signalbox_workers{state="silent"}')).toBe(0);
  expect(sampleOf(page, "signalbox_worker_restarts_total")).toBe(0);
  expect(sampleOf(page, "signalbox_ready")).toBe(1);

  // A dead worker.
  const streams = await Promise.all([working(), working(), working(), working()]);
  process.kill(workerPids(server).get(1)!, "SIGKILL");
  expect(await server.logged.until("another one is started")).toMatchObject({ worker: 1, signal: "SIGKILL" });
  await untilServed(server, 3);
  // Only once the other one follows its tasks do agents say that they go on.
  agent.release();
  for (const stream of streams) expect(await lastOf(stream)).toBe("COMPLETED");
  const { tasks } = await server.client.a2a.listTasks({});
  expect(tasks.map(statusOf)).toEqual(Array(4).fill("COMPLETED"));
  const after = await metricsPage(server);
  expect(sumOf(after, CALLS)).toBeGreaterThanOrEqual(sumOf(page, CALLS));
  expect([...samplesByWorker(after, "signalbox_worker_calls_total").keys()]).toEqual([2, 3]);
  expect(sampleOf(after, "signalbox_worker_restarts_total")).toBe(1);

  // One after another, with calls all the time: none fails.
  let replaced = false;
  const calling = (async () => {
    while (!replaced) {
      await getAlone({ host: hostname, port, path: "/healthz" });
      await sleep(20 * Math.random());
    }
  })();
  server.signal("SIGUSR2");
  await server.logged.until("all workers were replaced");
  replaced = true;
  await calling;
  const renewed = await metricsPage(server);
  expect([...samplesByWorker(renewed, "signalbox_worker_calls_total").keys()]).toEqual([4, 5]);
  expect(sumOf(renewed, CALLS)).toBeGreaterThanOrEqual(sumOf(after, CALLS));

  // To the group, as a terminal sends it, while a stream is open.
  const before = server.logged.lines.length;
  const stream = await working();
  server.signal("SIGTERM");
  signalWorkers("SIGTERM");
  await server.logged.until("draining");
  agent.release();
  expect(await lastOf(stream)).toBe("COMPLETED");
  expect(await server.exit).toEqual({ code: 0, signal: null });
  const said = server.logged.lines.slice(before).map(({ level, msg }) => `${level} ${msg}`);
  expect(said.toSorted()).toEqual(["info draining", "info draining", "info stopped", "info stopped"]);
});

test("they share Unix sockets and TLS, and a second signal ends all at once", { timeout: 120_000 }, async () => {
  const authority = await createTestAuthority();
  const { cert, key } = await authority.issue("localhost");
  const file = (name: string) => join(folder, name);
  await writeFile(file("cert.pem"), cert);
  await writeFile(file("key.pem"), key, { mode: 0o600 });
  const sockets = { "http.socket": file("http.sock"), "grpc.socket": file("grpc.sock") };
  await start({
    ...sockets,
    "tls.certificate": file("cert.pem"),
    "tls.key": file("key.pem"),
    "drain.ms": LONG_MS,
    "database.pool-size": "3",
  });
  const listTasks = async (secure: boolean) => {
    const nodeOptions = secure ? { ca: authority.ca } : { createConnection: () => net.connect(file("grpc.sock")) };
    const baseUrl = secure ? `https://${server.grpcAddress}` : "http://localhost";
    await createClient(A2AService, createGrpcTransport({ baseUrl, nodeOptions })).listTasks({});
  };
  for (const secure of [true, true, false, false]) await listTasks(secure);
  const page = await getAlone({ socketPath: file("http.sock"), path: "/metrics" });
  const calls = [...samplesByWorker(page, "signalbox_worker_calls_total").values()];
  expect(calls).toHaveLength(2);
  expect(Math.min(...calls)).toBeGreaterThan(0);

  const client = createSignalboxClient({ baseUrl: server.httpUrl, tls: { ca: authority.ca }, reconnects: 0 });
  await client.registry.registerAgent({ source: { case: "cardUrl", value: agent.cardUrl } });
  const message = userMessage("slow");
  client.send(message).catch(() => {});
  await agent.turn(message.messageId);
  server.signal("SIGINT");
  await server.logged.until("draining");
  server.signal("SIGINT");
  // Its output ends with that of its workers.
  expect(await server.exit).toEqual({ code: 1, signal: null });
});

test("workers whose first process is gone end by themselves", { timeout: 120_000 }, async () => {
  await start({ "drain.ms": "1000" });
  server.signal("SIGKILL");
  expect(await server.exit).toEqual({ code: null, signal: "SIGKILL" });
  const said = server.logged.lines.map(({ msg }) => msg);
  expect(said.filter((msg) => msg === "stopped")).toHaveLength(2);
});

test("a start that cannot work ends with its error, and is not tried again", async () => {
  const taken = net.createServer();
  await new Promise<void>((resolve) => taken.listen(0, "127.0.0.1", resolve));
  const { port } = taken.address() as net.AddressInfo;
  const { logged, exit } = launch(settings({ "http.port": String(port) }));
  expect(await exit).toEqual({ code: 1, signal: null });
  taken.close();
  const said = logged.lines.map(({ msg }) => msg);
  expect(said.filter((msg) => msg.includes(`Port ${port} on 127.0.0.1 is in use`))).toHaveLength(1);
  expect(said.filter((msg) => msg === "a worker is started")).toHaveLength(1);
});
