/** What clients see of tasks that were kept long enough, and that tasks which go on are left alone while others are removed. */
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from "vitest";
import { A2AService, type Task, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { isEmptied } from "../../src/domain/artifact-retention.ts";
import { createSignalboxClient, ROUTING_EXTENSION, type SignalboxClient } from "../../src/sdk/client.ts";
import { startTaskRetention, type TaskRetentionDeps } from "../../src/services/background/task-retention.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import { createUpdateHub } from "../../src/services/update-hub.ts";
import type { Database } from "../../src/store/database.ts";
import { openPostgres } from "../../src/store/postgres.ts";
import { createTaskRetention } from "../../src/store/task-retention.ts";
import { BINDINGS } from "../conformance/bindings/all-bindings.ts";
import type { Binding, Client } from "../conformance/bindings/binding.ts";
import { createPuppet } from "../fault/puppet.ts";
import { asTask } from "../fault/said.ts";
import { auditEntries, expectWholeChains } from "../store/audit-lines.ts";
import { createDatabase, silent } from "../store/backends.ts";
import { expectWholeLogs, raw } from "../store/tables.ts";
import { echoAgent } from "./echo-agent.ts";
import { EXTENSION, follow, type NumberedItem, numbered, taskOf } from "./numbered-items.ts";
import { startTestApp, type TestApp } from "./running-app.ts";

const HOUR = 3_600_000;
const system = systemRuntime();
const puppet = createPuppet();
const bindings = new Map<Binding, Client>();
let database: Awaited<ReturnType<typeof createDatabase>>;
let app: TestApp;
let sdk: SignalboxClient;
let db: Database;

beforeAll(async () => {
  database = await createDatabase();
  app = await startTestApp({
    flags: { "database.url": database.url },
    agents: { puppet: puppet.handler, echo: echoAgent("echo") },
  });
  sdk = createSignalboxClient({ baseUrl: app.httpUrl });
  db = openPostgres({ url: database.url, poolSize: 2, log: silent });
  for (const binding of BINDINGS) bindings.set(binding, binding.connect(app));
});
afterAll(async () => {
  for (const client of bindings.values()) client.close();
  await db?.close();
  await app?.stop();
  await database?.drop();
});

/** Removes without rest what is `olderMs` older than it is, until the test has finished. */
function retain(keep: TaskRetentionDeps["keep"], olderMs: number, onRemoved: TaskRetentionDeps["onRemoved"]) {
  const duty = startTaskRetention({
    retention: createTaskRetention(db, () => "other"),
    hub: createUpdateHub(),
    runtime: {
      ...system,
      now: () => new Date(Date.now() + olderMs),
      wait: (ms, signal) => system.wait(Math.min(ms, 2), signal),
    },
    log: silent,
    replicaId: () => "other",
    keep,
    onRemoved,
  });
  onTestFinished(duty.stop);
  return duty;
}

/** Resolves when the artifacts of all tasks that have ended are emptied, of which there are so many. */
async function emptied(artifacts: number): Promise<void> {
  const done = Promise.withResolvers<void>();
  let left = artifacts;
  const duty = retain({ tasksMs: 0, artifactsMs: HOUR }, HOUR, (_, count) => {
    left -= count;
    if (left <= 0) done.resolve();
  });
  await done.promise;
  await duty.stop();
}

/** A task that has an artifact, and goes on. */
async function begunTask() {
  const [answer, turn] = await Promise.all([sdk.send("long", { agent: "puppet", wait: false }), puppet.turn()]);
  turn.task();
  turn.chunk("begun");
  return { id: asTask(answer).id, turn };
}

async function told(binding: Binding, id: string, after: number): Promise<NumberedItem[]> {
  const headers = { "A2A-Extensions": EXTENSION, "signalbox-after-sequence": String(after) };
  const signal = AbortSignal.timeout(20_000);
  const call = { method: A2AService.method.subscribeToTask, request: { id }, headers, signal };
  const items: NumberedItem[] = [];
  for await (const item of bindings.get(binding)!.call(call)) items.push(numbered(item));
  return items;
}

test("a task whose artifacts were emptied is shown, listed, and told from every number of its log", async () => {
  const [answer, turn] = await Promise.all([sdk.send("begin", { agent: "puppet", wait: false }), puppet.turn()]);
  const { id } = asTask(answer);
  turn.task();
  for (const text of ["a", "b", "c"]) turn.chunk(text);
  turn.status(TaskState.COMPLETED, "done");
  turn.end();
  const before = await sdk.waitFor(id);
  const whole = await told(BINDINGS[0]!, id, 0);
  await emptied(1);

  const after = await sdk.a2a.getTask({ id });
  expect(after.artifacts.map(({ artifactId, name }) => [artifactId, name])).toEqual(
    before.artifacts.map(({ artifactId, name }) => [artifactId, name]),
  );
  expect(after.artifacts.every(isEmptied)).toBe(true);
  expect({ ...after, artifacts: [] }).toEqual({ ...before, artifacts: [] });
  const { tasks } = await sdk.a2a.listTasks({ includeArtifacts: true });
  expect(tasks.find((task) => task.id === id)?.artifacts).toEqual(after.artifacts);
  for (const binding of BINDINGS) {
    for (const { sequence } of [{ sequence: 0 }, ...whole]) {
      const [first, ...rest] = await told(binding, id, sequence);
      expect([first, ...rest].map((item) => item?.sequence)).toEqual([
        sequence,
        ...whole.slice(1).flatMap((item) => (item.sequence > sequence ? [item.sequence] : [])),
      ]);
      const seen = taskOf(first!);
      for (const update of rest) follow(seen, update);
      expect([seen.artifacts, seen.status]).toEqual([after.artifacts, after.status]);
    }
  }
});

test("a result that has lost its contents is not given again", async () => {
  await sdk.registry.addCapability({ agentId: "echo", capability: { capabilityId: "work", cacheTtlMs: 60_000n } });
  const ask = async () => asTask(await sdk.send("what is it?", { capability: "work" }));
  const from = (task: Task) => (task.metadata?.[ROUTING_EXTENSION] as { cachedFrom?: string } | undefined)?.cachedFrom;
  const text = (task: Task) => task.artifacts[0]?.parts[0]?.content.value;
  const first = await ask();
  expect(from(await ask())).toBe(first.id);
  await emptied(2);
  const anew = await ask();
  expect([from(anew), text(anew)]).toEqual([undefined, "echo heard what is it?"]);
  const again = await ask();
  expect([from(again), text(again)]).toEqual([anew.id, "echo heard what is it?"]);
});

test("while others are removed, tasks that go on are left alone, and the log of what was done stays whole", async () => {
  const [working, asking] = [await begunTask(), await begunTask()];
  asking.turn.status(TaskState.INPUT_REQUIRED, "where?");
  asking.turn.end();
  for await (const { payload } of sdk.watch(asking.id)) {
    if (payload.value && "status" in payload.value && payload.value.status?.state === TaskState.INPUT_REQUIRED) break;
  }
  const counts = { task: 0, artifact: 0 };
  const enough = Promise.withResolvers<void>();
  // Two at once, as where one was held up: nothing is kept for more than half a second, which nobody here needs.
  for (const _ of [1, 2]) {
    retain({ tasksMs: HOUR, artifactsMs: HOUR - 300 }, HOUR - 500, (what, count) => {
      counts[what] += count;
      if (counts.task >= 300) enough.resolve();
    });
  }
  let sent = 0;
  const send = async () => {
    while (counts.task < 300) {
      const task = asTask(await sdk.send(`say ${sent++}`, { agent: "echo" }));
      expect(task.status?.state).toBe(TaskState.COMPLETED);
      expect(task.artifacts).toHaveLength(1);
    }
  };
  await Promise.all([...Array.from({ length: 8 }, send), enough.promise]);

  for (const { id } of [working, asking]) {
    expect((await sdk.a2a.getTask({ id })).artifacts[0]?.parts[0]?.content.value).toBe("begun");
  }
  const ended = sdk.waitFor(working.id);
  working.turn.status(TaskState.COMPLETED);
  working.turn.end();
  expect((await ended).status?.state).toBe(TaskState.COMPLETED);
  await expectWholeLogs(db);
  await expectWholeChains(db);
  const removals = (await auditEntries(db)).filter(({ action }) => action === "task.remove");
  expect(new Set(removals.map(({ task }) => task)).size).toBe(removals.length);
  expect(removals.length).toBeGreaterThanOrEqual(300);
  const [orphans] = await raw(
    db,
    `select count(*)::int as n from task_updates u
     where not exists (select from tasks t where t.workspace_id = u.workspace_id and t.task_id = u.task_id)`,
  );
  expect(orphans).toEqual({ n: 0 });
}, 60_000);

test("a server that is started with a setting counts it for old tasks too, and shows what it does", async () => {
  const task = asTask(await sdk.send("old", { agent: "echo" }));
  const kept = await begunTask();
  const other = await startTestApp({ flags: { "database.url": database.url, "retention.tasks-ms": "1" } });
  onTestFinished(other.stop);
  const client = createSignalboxClient({ baseUrl: other.httpUrl });
  await vi.waitFor(
    async () => {
      const page = await (await fetch(`${other.httpUrl}/metrics`)).text();
      expect(page).toMatch(/^signalbox_retention_removed_total\{what="task"\} [1-9]/m);
      expect(page).toContain('signalbox_retention_behind_seconds{what="task"} 0\n');
    },
    { timeout: 50_000, interval: 200 },
  );
  await expect(client.a2a.getTask({ id: task.id })).rejects.toThrow("There is no task");
  expect((await client.a2a.getTask({ id: kept.id })).status?.state).toBe(TaskState.WORKING);
}, 60_000);
