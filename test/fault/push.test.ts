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
import { startWebhook, type Webhook } from "./webhook.ts";

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
  const settings = { "database.url": url, "push.attempts": "3", "push.timeout-ms": "200", ...flags };
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
async function sendWithConfig(): Promise<Task> {
  const config = {
    url: webhook.url,
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

const lines = () => webhook.posts.map(({ body }) => lineOf(body));

test("every update of a task arrives once, in order, with its headers", async () => {
  const task = await sendWithConfig();
  const turn = await puppet.turn();
  turn.task();
  const chunks = Array.from({ length: 50 }, (_, i) => `chunk ${i + 1}`);
  for (const chunk of chunks) turn.chunk(chunk.slice(6));
  turn.status(COMPLETED, "Done.");
  const expected = ["WORKING", ...chunks, "COMPLETED: Done."];
  for (const line of expected) {
    const { path, headers, body } = await webhook.next();
    expect(lineOf(body)).toBe(line);
    expect(path).toBe("/hook");
    expect(headers).toMatchObject({
      authorization: "Bearer secret-credentials",
      "x-a2a-notification-token": "secret-token",
      "content-type": "application/a2a+json",
    });
    const { value } = body.payload as { value: { taskId: string; contextId: string } };
    expect([value.taskId, value.contextId]).toEqual([task.id, task.contextId]);
  }
  expect(await deliveries("delivered")).toBe(expected.length);
  expect(JSON.stringify(logged.lines)).not.toMatch(/secret-(token|credentials)/);
});

test("what a webhook refuses or lets time out is tried again, in order, and given up in the end", async () => {
  const { task, turn } = await begin();
  await configure(task.id);
  webhook.answer(500, "silence", 200, 503, 404, 500, 200);
  turn.task();
  turn.chunk("given up");
  turn.status(COMPLETED);
  // WORKING at the third try, the chunk given up after three, COMPLETED at the first.
  for (let n = 0; n < 7; n++) await webhook.next();
  const working = "WORKING";
  expect(lines()).toEqual([working, working, working, ...Array(3).fill("chunk given up"), "COMPLETED"]);
  const given = await logged.until("a push notification was given up");
  expect(given).toMatchObject({ taskId: task.id, configId: "hook", attempt: 3 });
  expect(await deliveries("failed")).toBe(1);
});

test("a webhook that is dead touches neither its task nor the others' webhooks", async () => {
  const { task, turn } = await begin();
  const dead = await startWebhook();
  await dead.close();
  await configure(task.id, "dead", dead.url);
  await configure(task.id, "living");
  turn.task();
  turn.status(COMPLETED, "Done.");
  expect(asTask(await client.waitFor(task.id)).status?.state).toBe(COMPLETED);
  expect(lineOf((await webhook.next()).body)).toBe("WORKING");
  expect(lineOf((await webhook.next()).body)).toBe("COMPLETED: Done.");
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
