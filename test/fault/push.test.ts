/** Push notifications to a real webhook, on good days and bad ones. */
import { create } from "@bufbuild/protobuf";
import { afterEach, beforeEach, expect, test } from "vitest";
import {
  SendMessageRequestSchema,
  type Task,
  TaskPushNotificationConfigSchema,
  TaskState,
} from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { createSignalboxClient, type SignalboxClient, userMessage } from "../../src/sdk/client.ts";
import { startTestApp, type TestApp } from "../e2e/running-app.ts";
import { createDatabase } from "../store/backends.ts";
import { type LogLines, logLines } from "../store/log-lines.ts";
import { createPuppet, type Puppet } from "./puppet.ts";
import { asTask, failureOf, lineOf } from "./said.ts";
import { type Post, startWebhook, type Webhook } from "./webhook.ts";

const { COMPLETED } = TaskState;

let puppet: Puppet;
let webhook: Webhook;
let logged: LogLines;
let app: TestApp;
let client: SignalboxClient;

/** Stops the app of the test, once. */
let stop: () => Promise<void>;

beforeEach(async () => {
  webhook = await startWebhook();
  await startApp({});
});
afterEach(async () => {
  await stop();
  await webhook.close();
});

async function startApp(flags: Record<string, string>): Promise<void> {
  puppet = createPuppet();
  logged = logLines();
  const { url, drop } = await createDatabase();
  const settings = { "database.url": url, "push.attempts": "3", "push.timeout-ms": "1000", ...flags };
  app = await startTestApp({ flags: settings, agents: { puppet: puppet.handler }, log: logged.log });
  client = createSignalboxClient({ baseUrl: app.httpUrl });
  stop = async () => {
    stop = async () => {};
    await app.stop();
    await drop();
  };
}

const configure = (taskId: string, id = "hook", url = webhook.url) =>
  client.a2a.createTaskPushNotificationConfig({ taskId, id, url, token: "secret-token" });

/** A task with a config of its own in the message. */
async function sendWithConfig(url = webhook.url): Promise<Task> {
  const config = {
    url,
    token: "secret-token",
    authentication: { scheme: "Bearer", credentials: "secret-credentials" },
  };
  const request = create(SendMessageRequestSchema, {
    message: userMessage("go"),
    configuration: {
      returnImmediately: true,
      taskPushNotificationConfig: create(TaskPushNotificationConfigSchema, config),
    },
  });
  const { payload } = await client.a2a.sendMessage(request);
  return asTask(payload.value!);
}

/** A task under way without a config, and the turn of its agent. */
async function begin() {
  const task = asTask(await client.send("go", { wait: false }));
  return { task, turn: await puppet.turn() };
}

async function deliveries(outcome: string): Promise<number> {
  const metrics = await (await fetch(`${app.httpUrl}/metrics`)).text();
  return Number(
    new RegExp(`^signalbox_push_deliveries_total\\{outcome="${outcome}"\\} (\\d+)`, "m").exec(metrics)?.[1],
  );
}

/** The id of the task of which a post tells. */
const taskOf = ({ body }: Post) => (body.payload.value as { taskId: string }).taskId;

const lines = () => webhook.posts.map(({ body }) => lineOf(body));

test("every update of a task arrives once, in order, with its headers", async () => {
  const task = await sendWithConfig();
  const turn = await puppet.turn();
  turn.task();
  const chunks = Array.from({ length: 50 }, (_, i) => `chunk ${i + 1}`);
  for (const chunk of chunks) turn.chunk(chunk.slice(6));
  turn.status(COMPLETED, "Done.");
  const expected = ["WORKING", ...chunks, "COMPLETED: Done."];
  let last = 1;
  for (const line of expected) {
    const { path, headers, body } = await webhook.next();
    expect(lineOf(body)).toBe(line);
    expect(path).toBe("/hook");
    expect(headers).toMatchObject({
      authorization: "Bearer secret-credentials",
      "x-a2a-notification-token": "secret-token",
      "content-type": "application/a2a+json",
    });
    const sequence = Number(headers["signalbox-sequence"]);
    expect(sequence).toBeGreaterThan(last);
    last = sequence;
    const { value } = body.payload as { value: { taskId: string; contextId: string } };
    expect([value.taskId, value.contextId]).toEqual([task.id, task.contextId]);
  }
  expect(await deliveries("delivered")).toBe(expected.length);
  expect(JSON.stringify(logged.lines)).not.toMatch(/secret-(token|credentials)/);
});

test("what a webhook refuses or lets time out is tried again, in order", async () => {
  const { task, turn } = await begin();
  await configure(task.id);
  webhook.answer(500, "silence", 200, 503, 404, 200);
  turn.task();
  turn.chunk("late");
  turn.status(COMPLETED);
  for (let n = 0; n < 7; n++) await webhook.next();
  expect(lines()).toEqual([...Array(3).fill("WORKING"), ...Array(3).fill("chunk late"), "COMPLETED"]);
  const numbers = webhook.posts.map(({ headers }) => headers["signalbox-sequence"]);
  expect([new Set(numbers.slice(0, 3)).size, new Set(numbers.slice(3, 6)).size, new Set(numbers).size]).toEqual([
    1, 1, 3,
  ]);
});

test("a webhook that fails every try is given up for its task; a new config in its place is not", async () => {
  const { task, turn } = await begin();
  await configure(task.id);
  webhook.answer(500, 500, 500);
  turn.task();
  turn.chunk("given up too");
  const given = await logged.until("a webhook was given up for its task");
  expect(given).toMatchObject({ taskId: task.id, configId: "hook", attempt: 3 });
  await configure(task.id, "other", `${webhook.url}/other`);
  for (let n = 0; n < 3; n++) await webhook.next();
  turn.chunk("for the other");
  expect((await webhook.next()).path).toBe("/hook/other");
  await configure(task.id, "hook", `${webhook.url}/mended`);
  turn.status(COMPLETED);
  expect([(await webhook.next()).path, (await webhook.next()).path].sort()).toEqual(["/hook/mended", "/hook/other"]);
  expect(lines()).toEqual([...Array(3).fill("WORKING"), "chunk for the other", "COMPLETED", "COMPLETED"]);
  expect(await deliveries("failed")).toBe(1);
  expect(logged.lines.filter(({ msg }) => msg === given.msg)).toHaveLength(1);
});

test("a webhook that does not answer touches neither its task nor the others' webhooks", async () => {
  await stop();
  await startApp({ "push.timeout-ms": "600000" });
  const { task, turn } = await begin();
  const dead = await startWebhook();
  dead.answer("silence");
  await configure(task.id, "dead", dead.url);
  await configure(task.id, "living");
  turn.task();
  turn.chunk("meanwhile");
  turn.status(COMPLETED, "Done.");
  expect(asTask(await client.waitFor(task.id)).status?.state).toBe(COMPLETED);
  for (const line of ["WORKING", "chunk meanwhile", "COMPLETED: Done."]) {
    expect(lineOf((await webhook.next()).body)).toBe(line);
  }
  expect(lineOf((await dead.next()).body)).toBe("WORKING");
  expect(dead.posts).toHaveLength(1);
  await dead.close();
});

test("more dead webhooks than there are places do not silence the others", async () => {
  await stop();
  await startApp({ "push.attempts": "100", "push.timeout-ms": "200" });
  const dead = await startWebhook();
  dead.answer(...Array<"silence">(10_000).fill("silence"));
  for (let n = 0; n < 80; n++) {
    await sendWithConfig(dead.url);
    const turn = await puppet.turn();
    turn.task();
    turn.status(COMPLETED);
  }
  // Each has been tried, and none has answered.
  const tried = new Set<string>();
  while (tried.size < 80) tried.add(taskOf(await dead.next()));
  await sendWithConfig();
  const turn = await puppet.turn();
  turn.task();
  const chunks = Array.from({ length: 20 }, (_, i) => `chunk ${i + 1}`);
  for (const chunk of chunks) turn.chunk(chunk.slice(6));
  turn.status(COMPLETED);
  // On a busy machine even the living webhook may answer too late: then an update comes once more.
  const next = async (but?: string): Promise<string> => {
    const line = lineOf((await webhook.next()).body);
    return line === but ? next(but) : line;
  };
  let last: string | undefined;
  for (const line of ["WORKING", ...chunks, "COMPLETED"]) {
    last = await next(last);
    expect(last).toBe(line);
  }
  await stop();
  await dead.close();
});

test("a config that is made while its task is under way gets what comes after it", async () => {
  const { task, turn } = await begin();
  await configure(task.id, "early", `${webhook.url}/early`);
  turn.task();
  await webhook.next();
  await configure(task.id, "late", `${webhook.url}/late`);
  turn.chunk("for both");
  turn.status(COMPLETED);
  for (let n = 0; n < 4; n++) await webhook.next();
  const linesAt = (path: string) => webhook.posts.filter((post) => post.path === path).map(({ body }) => lineOf(body));
  expect(linesAt("/hook/early")).toEqual(["WORKING", "chunk for both", "COMPLETED"]);
  expect(linesAt("/hook/late")).toEqual(["chunk for both", "COMPLETED"]);
});

test("each config of a task gets every update; a deleted one gets no more", async () => {
  const { task, turn } = await begin();
  await configure(task.id, "one", `${webhook.url}/one`);
  await configure(task.id, "two", `${webhook.url}/two`);
  turn.task();
  expect([(await webhook.next()).path, (await webhook.next()).path].sort()).toEqual(["/hook/one", "/hook/two"]);
  await client.a2a.deleteTaskPushNotificationConfig({ taskId: task.id, id: "one" });
  turn.chunk("after");
  turn.status(COMPLETED);
  for (const line of ["chunk after", "COMPLETED"]) {
    const { path, body } = await webhook.next();
    expect([path, lineOf(body)]).toEqual(["/hook/two", line]);
  }
});

test("a config that is deleted while its webhook is down is not tried again", async () => {
  const { task, turn } = await begin();
  await configure(task.id);
  webhook.answer(500, 500);
  turn.task();
  await webhook.next();
  await client.a2a.deleteTaskPushNotificationConfig({ taskId: task.id, id: "hook" });
  await configure(task.id, "other", `${webhook.url}/other`);
  turn.status(COMPLETED);
  expect(await webhook.next()).toMatchObject({ path: "/hook/other" });
  expect(lines()).toEqual(["WORKING", "COMPLETED"]);
});

test("a config for a task that has ended is kept, and nothing is posted", async () => {
  const { task, turn } = await begin();
  turn.task();
  turn.status(COMPLETED);
  await client.waitFor(task.id);
  await configure(task.id);
  const { configs } = await client.a2a.listTaskPushNotificationConfigs({ taskId: task.id });
  expect(configs.map(({ id }) => id)).toEqual(["hook"]);
  // Another task's notification comes, and none before it.
  const next = await begin();
  await configure(next.task.id, "hook", `${webhook.url}/next`);
  next.turn.task();
  expect((await webhook.next()).path).toBe("/hook/next");
  next.turn.status(COMPLETED);
  await webhook.next();
});

test("private addresses are refused where they are not allowed", async () => {
  await stop();
  await startApp({ "allow-private-urls": "false" });
  const { task, turn } = await begin();
  for (const url of [
    "http://127.0.0.1:9/",
    "http://[::1]/",
    "http://169.254.169.254/",
    "http://localhost/",
    "ftp://x/",
  ]) {
    const failure = await failureOf(configure(task.id, "hook", url));
    expect(failure).toMatchObject({ code: "InvalidArgument", reason: "INVALID_ARGUMENT" });
    expect(failure.message).toMatch(/^url: /);
  }
  expect(await failureOf(sendWithConfig())).toMatchObject({
    code: "InvalidArgument",
    message: expect.stringMatching(/^configuration\.taskPushNotificationConfig\.url: /),
  });
  expect((await client.a2a.listTasks({})).totalSize).toBe(1);
  turn.task();
  turn.status(COMPLETED);
});

test("a webhook that never answers does not hold up a stop", async () => {
  await stop();
  await startApp({ "push.timeout-ms": "600000" });
  const { task, turn } = await begin();
  await configure(task.id);
  webhook.answer("silence");
  turn.task();
  await webhook.next();
  await stop();
});
