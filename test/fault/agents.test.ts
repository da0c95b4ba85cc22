/** Agents that are dead, mute, mad or cut off: each task ends as it should, with a reason, and nothing is left open. */
import type { RequestListener } from "node:http";
import { clone } from "@bufbuild/protobuf";
import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { type AgentCard, AgentCardSchema, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { createSignalboxClient, type SignalboxClient } from "../../src/sdk/client.ts";
import type { Database } from "../../src/store/database.ts";
import { openPostgres } from "../../src/store/postgres.ts";
import {
  cardOf,
  freePort,
  type RogueAgent,
  startRogueHttp,
  startRogueHttp2,
  startRogueTcp,
} from "../agents/rogue-agent.ts";
import { type Binding, startTestAgent } from "../agents/test-agent.ts";
import { startTestApp, type TestApp } from "../e2e/running-app.ts";
import { createDatabase, silent } from "../store/backends.ts";
import { type LogLines, logLines } from "../store/log-lines.ts";
import { checkLogs } from "./log-check.ts";
import { createPuppet } from "./puppet.ts";
import { asTask, failureOf, lineOf, statusOf, textOf } from "./said.ts";
import { startTcpProxy } from "./tcp-proxy.ts";

const { WORKING, COMPLETED } = TaskState;
const BINDINGS = ["GRPC", "JSONRPC", "HTTP+JSON"] as const satisfies readonly Binding[];
const HTTP_BINDINGS = ["JSONRPC", "HTTP+JSON"] as const;
/** Longest silence of an agent here, in milliseconds. */
const TIMEOUT_MS = 500;

const puppet = createPuppet();
let app: TestApp;
let client: SignalboxClient;
let db: Database;
let logged: LogLines;
let drop: () => Promise<void>;

beforeAll(async () => {
  const database = await createDatabase();
  drop = database.drop;
  db = openPostgres({ url: database.url, poolSize: 2, log: silent });
  logged = logLines();
  app = await startTestApp({
    flags: { "database.url": database.url, "agent.timeout-ms": String(TIMEOUT_MS), "task.silence-ms": "50" },
    agents: { puppet: puppet.handler },
    log: logged.log,
  });
  client = createSignalboxClient({ baseUrl: app.httpUrl });
});
afterAll(async () => {
  await app.stop();
  await checkLogs(db);
  await db.close();
  await drop();
  expect(logged.lines.filter(({ level }) => level >= 50)).toEqual([]);
});
afterEach(async () => {
  expect(await runningTasks()).toBe(0);
});

async function runningTasks(): Promise<number> {
  const metrics = await (await fetch(`${app.httpUrl}/metrics`)).text();
  return Number(/^signalbox_running_tasks (\d+)/m.exec(metrics)?.[1]);
}

let agents = 0;

/** Registers a card under an id of its own. */
async function register(card: AgentCard): Promise<string> {
  const agentId = `agent-${++agents}`;
  await client.registry.registerAgent({ agentId, source: { case: "card", value: card } });
  return agentId;
}

const urlOf = (binding: Binding, port: number) =>
  binding === "GRPC" ? `127.0.0.1:${port}` : `http://127.0.0.1:${port}`;

/** A card with one interface, at another port. */
function through(card: AgentCard, port: number): AgentCard {
  const moved = clone(AgentCardSchema, card);
  for (const offered of moved.supportedInterfaces) offered.url = offered.url.replace(/:\d+/, `:${port}`);
  return moved;
}

const portOf = (card: AgentCard) => Number(/:(\d+)/.exec(card.supportedInterfaces[0]!.url)![1]);

/** What the log keeps of the reason for a task's state, for operators. */
async function causeOf(taskId: string): Promise<string> {
  const text = "select cause from task_updates where task_id = $1 and cause is not null order by seq desc limit 1";
  const [row] = await db.query({ name: "cause", text }, [taskId]);
  return String(row?.cause);
}

describe.each(BINDINGS)("an agent over %s", (binding) => {
  test("that is dead fails the task", async () => {
    const agent = await register(cardOf(binding, urlOf(binding, await freePort())));
    const task = asTask(await client.send("anyone?", { agent }));
    expect(statusOf(task)).toBe("FAILED: The agent could not be reached: nothing listens at its address.");
    expect(statusOf(await client.a2a.getTask({ id: task.id }))).toBe(statusOf(task));
    expect(await causeOf(task.id)).toContain("unreachable");
  });

  test("that accepts and says nothing fails the task in time, and is hung up on", async () => {
    const mute = await startRogueTcp((socket) => socket.resume());
    onTestFinished(() => mute.close());
    const agent = await register(cardOf(binding, urlOf(binding, mute.port)));
    const task = asTask(await client.send("anyone?", { agent }));
    expect(statusOf(task)).toContain(`FAILED: The agent was silent for ${TIMEOUT_MS} ms`);
    // grpc-js keeps the one connection that it is still making; HTTP gives up what it is in.
    if (binding === "GRPC") expect(mute.sockets.size).toBeLessThanOrEqual(1);
    else await mute.idle();
  });

  test("that works on in silence fails the task only when it answers nothing at all", async () => {
    const real = await startTestAgent({ bindings: [binding] });
    onTestFinished(() => real.close());
    const agent = await register(real.card);
    expect(statusOf(asTask(await client.send("hang", { agent })))).toContain("FAILED: The agent was silent");
    const items = client.stream("slow", { agent })[Symbol.asyncIterator]();
    while (lineOf((await items.next()).value) !== "WORKING: At it.");
    // Silent for much longer than it may be, on one stream after another; but asked, it answers.
    const before = logged.lines.length;
    while (logged.lines.slice(before).filter(({ msg }) => msg.startsWith("no stream for the task")).length < 2) {
      await logged.next();
    }
    real.release();
    expect(lineOf((await items.next()).value)).toBe("COMPLETED");
  });

  test("whose stream is cut is subscribed to again", async () => {
    const real = await startTestAgent({ bindings: [binding] });
    const proxy = await startTcpProxy(portOf(real.card));
    onTestFinished(() => proxy.close().then(real.close));
    const agent = await register(through(real.card, proxy.port));
    const items = client.stream("slow", { agent })[Symbol.asyncIterator]();
    while (lineOf((await items.next()).value) !== "WORKING: At it.");
    proxy.cut();
    real.release();
    expect(lineOf((await items.next()).value)).toBe("COMPLETED");
    expect((await items.next()).done).toBe(true);
    // It was healed, not sent again.
    expect(real.received).toHaveLength(1);
  });

  test("that disappears in mid-task and comes back finishes it", async () => {
    const real = await startTestAgent({ bindings: [binding] });
    const proxy = await startTcpProxy(portOf(real.card));
    onTestFinished(() => proxy.close().then(real.close));
    const agent = await register(through(real.card, proxy.port));
    const items = client.stream("slow", { agent })[Symbol.asyncIterator]();
    while (lineOf((await items.next()).value) !== "WORKING: At it.");
    const before = logged.lines.length;
    proxy.sever();
    while (!logged.lines.slice(before).some(({ failures }) => failures === 2)) await logged.next();
    proxy.mend();
    real.release();
    expect(lineOf((await items.next()).value)).toBe("COMPLETED");
    expect(real.received).toHaveLength(1);
  });
});

describe("an agent over HTTP", () => {
  const RUBBISH: Record<string, [string, string, RegExp]> = {
    "a page": ["text/html", "<html>Welcome</html>", /is text\/html|is one answer/],
    "JSON of something else": [
      "application/json",
      '{"weather":"fine"}',
      /has neither result nor error|one answer|carries the id/,
    ],
    "events that are no JSON": ["text/event-stream", "data: hello\n\n", /is no JSON/],
    "events of something else": ["text/event-stream", 'data: {"result":{"weather":"fine"}}\n\n', /./],
  };

  async function answering(binding: Binding, listener: RequestListener): Promise<{ agent: string; rogue: RogueAgent }> {
    const rogue = await startRogueHttp(listener);
    onTestFinished(() => rogue.close());
    return { agent: await register(cardOf(binding, urlOf(binding, rogue.port))), rogue };
  }

  describe.each(HTTP_BINDINGS)("%s", (binding) => {
    test.each(Object.entries(RUBBISH))("answers %s", async (_, [type, body, reason]) => {
      const { agent } = await answering(binding, (_request, response) => {
        response.writeHead(200, { "content-type": type }).end(body);
      });
      // Who has not seen the task is told at once; the task stays hidden, with the raw text.
      const failure = await failureOf(client.send("hello", { agent }));
      expect(failure).toMatchObject({ code: "Internal", reason: "INVALID_AGENT_RESPONSE" });
      expect(failure.message).not.toContain("weather");
      const hidden = failure.metadata!.taskId!;
      expect(await failureOf(client.a2a.getTask({ id: hidden }))).toMatchObject({ reason: "TASK_NOT_FOUND" });
      const raw = body.startsWith("data: ") ? body.slice(6).trim() : body;
      expect(await causeOf(hidden)).toContain(raw);

      // Who has seen it finds it failed.
      const { id } = asTask(await client.send("hello", { agent, wait: false }));
      const status = statusOf(await client.waitFor(id));
      expect(status).toMatch(/^FAILED: The agent's answer to SendStreamingMessage/);
      expect(status).toMatch(reason);
      expect(status).not.toContain("weather");
      expect(await causeOf(id)).toContain(raw);
    });

    test("breaks off in the middle of its first event", async () => {
      const { agent } = await answering(binding, (_request, response) => {
        response.writeHead(200, { "content-type": "text/event-stream" });
        response.write('data: {"jsonrpc":"2.0","id":1,"result":{"task":{"id":"half', () => response.destroy());
      });
      const status = statusOf(asTask(await client.send("hello", { agent })));
      expect(status).toBe("FAILED: The connection to the agent broke during SendStreamingMessage.");
    });
  });

  test("breaks off between chunks, and nothing is lost or said twice", async () => {
    const task = { id: "t", contextId: "c", status: { state: "TASK_STATE_WORKING" } };
    const part = (text: string) => ({ artifactId: "a", parts: [{ text }] });
    const chunk = (text: string, append: boolean) => ({
      artifactUpdate: { taskId: "t", contextId: "c", artifact: part(text), append },
    });
    const streams: Record<string, unknown[]> = {
      SendStreamingMessage: [{ task }, chunk("1", false), chunk("2", true)],
      SubscribeToTask: [
        { task: { ...task, artifacts: [{ artifactId: "a", parts: ["1", "2", "3"].map((text) => ({ text })) }] } },
        chunk("4", true),
        { statusUpdate: { taskId: "t", contextId: "c", status: { state: "TASK_STATE_COMPLETED" } } },
      ],
    };
    const { agent } = await answering("JSONRPC", async (request, response) => {
      let body = "";
      for await (const bytes of request) body += bytes;
      const { id, method } = JSON.parse(body);
      response.writeHead(200, { "content-type": "text/event-stream" });
      const events = streams[method]!.map((result) => `data: ${JSON.stringify({ jsonrpc: "2.0", id, result })}\n\n`);
      response.write(events.join(""), () => response.destroy());
    });
    const lines: string[] = [];
    for await (const item of client.stream("go", { agent })) lines.push(lineOf(item));
    // The lost chunk came with the snapshot, which replaces what was known.
    expect(lines.slice(-5)).toEqual(["chunk 1", "chunk 2", "chunk 123", "chunk 4", "COMPLETED"]);
    const [stored] = (await client.a2a.listTasks({ tenant: `a.${agent}`, includeArtifacts: true })).tasks;
    expect(textOf(stored)).toBe("1234");
  });
});

test("an agent over gRPC answers what is no gRPC", async () => {
  const rogue = await startRogueHttp2((stream) => {
    stream.respond({ ":status": 200, "content-type": "text/html" });
    stream.end("<html>Welcome</html>");
  });
  onTestFinished(() => rogue.close());
  const agent = await register(cardOf("GRPC", urlOf("GRPC", rogue.port)));
  const failure = await failureOf(client.send("hello", { agent }));
  expect(failure).toMatchObject({ code: "Internal", reason: "INVALID_AGENT_RESPONSE" });
  expect(await causeOf(failure.metadata!.taskId!)).toMatch(/^INVALID_AGENT_RESPONSE: The agent's answer/);
});

test("an agent over gRPC sends a frame that is no message", async () => {
  const rogue = await startRogueHttp2((stream) => {
    stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
    stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
    stream.end(Buffer.from([0, 0, 0, 0, 3, 0xff, 0xff, 0xff]));
  });
  onTestFinished(() => rogue.close());
  const agent = await register(cardOf("GRPC", urlOf("GRPC", rogue.port)));
  const failure = await failureOf(client.send("hello", { agent }));
  expect(failure).toMatchObject({ code: "Internal", reason: "INVALID_AGENT_RESPONSE" });
  expect(await causeOf(failure.metadata!.taskId!)).toContain(Buffer.from([0xff, 0xff, 0xff]).toString("base64"));
});

test("an agent that is gone for good fails the task with the reason", async () => {
  const real = await startTestAgent({ bindings: ["JSONRPC"] });
  const agent = await register(real.card);
  const { id } = asTask(await client.send("slow", { agent, wait: false }));
  for await (const item of client.watch(id)) if (lineOf(item).includes("At it.")) break;
  await real.close();
  expect(statusOf(await client.waitFor(id))).toBe(
    "FAILED: The agent could not be reached: nothing listens at its address.",
  );
});

test("an agent that forgot the task when it came back fails it with its own words", async () => {
  const real = await startTestAgent({ bindings: ["JSONRPC"] });
  const proxy = await startTcpProxy(portOf(real.card));
  const agent = await register(through(real.card, proxy.port));
  const { id } = asTask(await client.send("slow", { agent, wait: false }));
  for await (const item of client.watch(id)) if (lineOf(item).includes("At it.")) break;
  proxy.sever();
  await real.close();
  const other = await startTestAgent({ bindings: ["JSONRPC"] });
  onTestFinished(() => proxy.close().then(other.close));
  proxy.mend(portOf(other.card));
  expect(statusOf(await client.waitFor(id))).toMatch(/^FAILED: The agent refused GetTask: .*not found/i);
});

test("an agent that reports on a foreign task fails its own, and touches no other", async () => {
  const first = client.send("first", { agent: "puppet" });
  const one = await puppet.turn();
  one.task();
  const second = client.send("second", { agent: "puppet" });
  const two = await puppet.turn();
  two.task();
  one.say({
    case: "statusUpdate",
    value: {
      $typeName: "lf.a2a.v1.TaskStatusUpdateEvent",
      taskId: two.taskId,
      contextId: "puppet",
      status: { $typeName: "lf.a2a.v1.TaskStatus", state: COMPLETED },
    },
  });
  const failure = await failureOf(first);
  expect(failure).toMatchObject({ code: "Internal", reason: "INVALID_AGENT_RESPONSE" });
  const failed = await client.a2a.getTask({ id: failure.metadata!.taskId! });
  expect(statusOf(failed)).toBe("FAILED: The agent reported on a task that is not the one it was asked about.");
  expect(await causeOf(failed.id)).toContain(two.taskId);
  two.status(COMPLETED, "Mine.");
  expect(statusOf(asTask(await second))).toBe("COMPLETED: Mine.");
});

test("what an agent says after the end is not heard", async () => {
  const lines: string[] = [];
  const read = (async () => {
    for await (const item of client.stream("go", { agent: "puppet" })) lines.push(lineOf(item));
  })();
  const turn = await puppet.turn();
  turn.task();
  turn.status(COMPLETED, "The end.");
  turn.chunk("late");
  turn.status(WORKING, "Once more.");
  turn.end();
  await read;
  expect(lines.slice(-1)).toEqual(["COMPLETED: The end."]);
  const { tasks } = await client.a2a.listTasks({ tenant: "a.puppet", pageSize: 1, includeArtifacts: true });
  expect([statusOf(tasks[0]!), textOf(tasks[0])]).toEqual(["COMPLETED: The end.", ""]);
});

test("an agent that sends 10,000 chunks is heard to the end, and its watchers too", async () => {
  const total = 10_000;
  const turns = puppet.turn();
  const watched = (async () => {
    let chunks = 0;
    for await (const { payload } of client.stream("flood", { agent: "puppet" })) {
      if (payload.case === "artifactUpdate") expect(textOf(payload.value.artifact as never)).toBe(`${++chunks};`);
    }
    return chunks;
  })();
  const turn = await turns;
  turn.task();
  for (let n = 1; n <= total; n++) turn.chunk(`${n};`);
  turn.status(COMPLETED);
  expect(await watched).toBe(total);
  const { tasks } = await client.a2a.listTasks({ tenant: "a.puppet", pageSize: 1, includeArtifacts: true });
  expect(textOf(tasks[0])).toBe(Array.from({ length: total }, (_, i) => `${i + 1};`).join(""));
});

test("nothing stays open after all of that", async () => {
  const openSockets = () => process.getActiveResourcesInfo().filter((kind) => kind === "TCPSocketWrap").length;
  const before = openSockets();
  const mute = await startRogueTcp((socket) => socket.resume());
  const real = await startTestAgent();
  const other = await startTestApp({ flags: { "agent.timeout-ms": "100" } });
  const otherClient = createSignalboxClient({ baseUrl: other.httpUrl });
  for (const [agentId, card] of Object.entries({
    dead: cardOf("GRPC", urlOf("GRPC", await freePort())),
    mute: cardOf("JSONRPC", urlOf("JSONRPC", mute.port)),
    real: real.card,
  })) {
    await otherClient.registry.registerAgent({ agentId, source: { case: "card", value: card } });
    await Promise.all(["hang", "hang", "complete"].map((text) => otherClient.send(text, { agent: agentId })));
  }
  await other.stop();
  await mute.idle();
  await real.close();
  await mute.close();
  // Sockets end in the turns of the event loop that follow.
  while (openSockets() > before) await new Promise(setImmediate);
});
