/** The server is killed with -9 and started again on the same data: what it acknowledged is there and can move on. */
import { rm } from "node:fs/promises";
import { toJson } from "@bufbuild/protobuf";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type Task, TaskSchema, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { stateOf } from "../../src/domain/task-log.ts";
import { isTerminal } from "../../src/domain/task-state.ts";
import type { SignalboxClient } from "../../src/sdk/client.ts";
import type { Database } from "../../src/store/database.ts";
import { openPglite } from "../../src/store/pglite.ts";
import { openPostgres } from "../../src/store/postgres.ts";
import { startTestAgent, type TestAgent } from "../agents/test-agent.ts";
import { createDatabase, pgliteDirectory, silent } from "../store/backends.ts";
import { checkLogs } from "./log-check.ts";
import { randomFrom } from "./random.ts";
import { asTask, statusOf, textOf } from "./said.ts";
import { type ServerProcess, startServer } from "./server-process.ts";

const { SUBMITTED, WORKING, INPUT_REQUIRED, COMPLETED, FAILED } = TaskState;
const UNCONFIRMED = "The router stopped before the agent confirmed the task.";

describe.each(["pglite", "postgres"] as const)("kill -9 on %s", (backend) => {
  let dataDir: string;
  let url: string | undefined;
  let drop: (() => Promise<void>) | undefined;
  let agent: TestAgent;
  let server: ServerProcess;

  beforeEach(async () => {
    dataDir = await pgliteDirectory();
    if (backend === "postgres") ({ url, drop } = await createDatabase());
    agent = await startTestAgent();
    server = await start();
    await server.client.registry.registerAgent({ source: { case: "cardUrl", value: agent.cardUrl } });
  });
  afterEach(async () => {
    server.signal("SIGKILL");
    await server.exit;
    await agent.close();
    await drop?.();
    await rm(dataDir, { recursive: true, force: true });
  });

  const start = () =>
    startServer({
      "data.dir": dataDir,
      "task.silence-ms": "20",
      // On PostgreSQL nobody else can know sooner that the server is dead.
      "lease.ms": "1000",
      ...(url !== undefined && { "database.url": url }),
    });

  async function killAndRestart(): Promise<SignalboxClient> {
    server.signal("SIGKILL");
    expect(await server.exit).toEqual({ code: null, signal: "SIGKILL" });
    server = await start();
    return server.client;
  }

  /** Stops the server in peace and looks into its database. */
  async function lookInside<T>(look: (db: Database) => Promise<T>): Promise<T> {
    server.signal("SIGTERM");
    expect(await server.exit).toEqual({ code: 0, signal: null });
    const db = url === undefined ? await openPglite({ dataDir, log: silent }) : openUrl(url);
    try {
      return await look(db);
    } finally {
      await db.close();
    }
  }

  test("every acknowledged task is there and moves on, or has ended with the reason", async () => {
    let { client } = server;
    const completed = asTask(await client.send("complete"));
    const asked = asTask(await client.send("ask"));
    const slow = asTask(await client.send("slow", { wait: false }));
    await until(client, slow.id, WORKING);
    const hanging = await firstOf(client, "hang");
    const immediate = await Promise.all(
      ["complete", "slow", "chunks 20"].map(async (text) => asTask(await client.send(text, { wait: false }))),
    );
    const blocked = client.send("slow").catch((error: unknown) => error);
    const before = await client.a2a.getTask({ id: slow.id });

    client = await killAndRestart();
    expect(await blocked).toBeInstanceOf(Error);

    const json = async (task: Task) => [
      toJson(TaskSchema, await client.a2a.getTask({ id: task.id })),
      toJson(TaskSchema, task),
    ];
    for (const task of [completed, asked, before]) {
      const [now, then] = await json(task);
      expect(now).toEqual(then);
    }
    expect(statusOf(await client.waitFor(hanging.id))).toContain(`FAILED: ${UNCONFIRMED}`);

    const answered = asTask(await client.send("blue", { taskId: asked.id }));
    expect(statusOf(answered)).toBe("COMPLETED: You said: blue");
    expect(answered.history.map(textOf)).toEqual(["ask", "What else?", "blue"]);

    agent.release();
    const finished = await client.waitFor(slow.id);
    expect(statusOf(finished)).toBe("COMPLETED");
    expect(finished.history.map(textOf)).toEqual(["slow", "At it."]);
    for (const task of immediate) expectEnded(await client.waitFor(task.id));
    await settleAll(client);

    const images = await lookInside(checkLogs);
    expect(images.map(stateOf).filter((state) => state !== COMPLETED && state !== FAILED)).toEqual([]);
  });

  test("killed at random moments under load", async () => {
    const seed = Number(process.env.FAULT_SEED ?? Math.floor(Math.random() * 2 ** 32));
    console.log(`crash on ${backend}: FAULT_SEED=${seed}`);
    const random = randomFrom(seed);
    const acknowledged = new Map<string, string>();

    for (let round = 0; round < 3; round++) {
      const { client } = server;
      const texts = Array.from({ length: 30 }, () => TEXTS[Math.floor(random() * TEXTS.length)]!);
      const moment = Math.floor(random() * 20);
      const killed = Promise.withResolvers<void>();
      let count = 0;
      const acknowledge = (text: string, id: string) => {
        acknowledged.set(id, text);
        if (++count > moment) killed.resolve();
      };
      const sends = texts.map((text) => sendAnyhow(client, text, random(), acknowledge));
      await Promise.race([killed.promise, Promise.all(sends)]);
      server.signal("SIGKILL");
      await Promise.all([server.exit, ...sends]);
      server = await start();
    }

    const { client } = server;
    agent.release();
    const unconfirmed: string[] = [];
    for (const [id, text] of acknowledged) {
      const task = await client.waitFor(id);
      if (statusOf(task).startsWith(`FAILED: ${UNCONFIRMED}`)) unconfirmed.push(id);
      else expectDone(task, text);
    }
    await settleAll(client);
    const waiting = await client.a2a.listTasks({ status: INPUT_REQUIRED, pageSize: 100 });
    for (const { id } of waiting.tasks) expectDone(asTask(await client.send("blue", { taskId: id })), "blue");

    const images = await lookInside(checkLogs);
    console.log(`${images.length} tasks, ${acknowledged.size} acknowledged, ${unconfirmed.length} never confirmed`);
    expect(images.map((image) => image.header.taskId)).toEqual(expect.arrayContaining([...acknowledged.keys()]));
    const open = images.filter((image) => !isTerminal(stateOf(image)));
    expect(open.map(({ task }) => task)).toEqual([]);
  }, 60_000);
});

const TEXTS = ["complete", "chunks 6", "ask", "slow", "message", "fail", "reject", "large 5000"];

/** Sends by any of the three ways, and tells the id as soon as the client knows it. Failures are the kill's. */
async function sendAnyhow(
  client: SignalboxClient,
  text: string,
  way: number,
  acknowledge: (text: string, id: string) => void,
): Promise<void> {
  const wait = way < 0.3 && text !== "slow";
  try {
    if (way >= 0.6) {
      for await (const { payload } of client.stream(text))
        if (payload.case === "task") acknowledge(text, payload.value.id);
      return;
    }
    const answer = await client.send(text, { wait });
    if (answer.$typeName === "lf.a2a.v1.Task") acknowledge(text, answer.id);
  } catch {
    // The server was killed.
  }
}

/** That the agent did all that it was told to, once. */
function expectDone(task: Task, text: string): void {
  const [word] = text.split(" ");
  const status = statusOf(task).split(":")[0];
  const expected = { fail: "FAILED", reject: "REJECTED", ask: "INPUT_REQUIRED" }[word!] ?? "COMPLETED";
  expect(status, `${text}: ${statusOf(task)}`).toBe(expected);
  if (word === "chunks") expect(textOf(task)).toBe("chunk 1;chunk 2;chunk 3;chunk 4;chunk 5;chunk 6;");
  if (word === "large") expect(textOf(task)).toHaveLength(5000);
}

/** Done, or failed with the one reason that a crash gives. */
function expectEnded(task: Task): void {
  if (task.status?.state === FAILED) expect(statusOf(task)).toContain(UNCONFIRMED);
  else expect(statusOf(task)).toMatch(/^COMPLETED/);
}

/** Waits until no task that a client can see is under way. */
async function settleAll(client: SignalboxClient): Promise<void> {
  for (const status of [SUBMITTED, WORKING]) {
    const { tasks } = await client.a2a.listTasks({ status, pageSize: 100 });
    for (const { id } of tasks) await client.waitFor(id);
  }
}

async function until(client: SignalboxClient, id: string, state: TaskState): Promise<void> {
  for await (const { payload } of client.watch(id)) {
    if ((payload.case === "task" || payload.case === "statusUpdate") && payload.value.status?.state === state) return;
  }
}

/** The task as a stream shows it first. */
async function firstOf(client: SignalboxClient, text: string): Promise<Task> {
  for await (const { payload } of client.stream(text)) if (payload.case === "task") return payload.value;
  throw new Error("the stream showed no task");
}

const openUrl = (url: string): Database => openPostgres({ url, poolSize: 3, log: silent });
