/** Two servers on one database, and a workspace that is suspended: what stops, what goes on, and what comes back when it is resumed. */
import { create, fromJson, type MessageInitShape } from "@bufbuild/protobuf";
import { beforeAll, describe, expect, onTestFinished, test, vi } from "vitest";
import {
  AgentCardSchema,
  GetTaskRequestSchema,
  Role,
  SendMessageRequestSchema,
  StreamResponseSchema,
  SubscribeToTaskRequestSchema,
  type Task,
  TaskPushNotificationConfigSchema,
  TaskState,
} from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { ListEntriesRequestSchema } from "../../gen/signalbox/v1/audit_pb.ts";
import { PutPolicyRequestSchema } from "../../gen/signalbox/v1/policy_pb.ts";
import { RegisterAgentRequestSchema, UpdateAgentRequestSchema } from "../../gen/signalbox/v1/registry_pb.ts";
import { CreateWorkspaceRequestSchema, SuspendWorkspaceRequestSchema } from "../../gen/signalbox/v1/workspace_pb.ts";
import { loadConfig } from "../../src/config/load.ts";
import { type Engine, startEngine } from "../../src/engine.ts";
import type { AgentHandler } from "../../src/outbound/in-process-channel.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import { inProcessCard } from "../e2e/running-app.ts";
import { startWebhook } from "../fault/webhook.ts";
import { createDatabase, silent } from "../store/backends.ts";
import { by } from "./workspaces-lab.ts";

/** What each message waits for before its task is completed. */
const gates = new Map<string, PromiseWithResolvers<void>>();
const heard: string[] = [];

const textOf = (parts: readonly { content: { case?: string | undefined; value?: unknown } }[]): string =>
  String(parts[0]?.content.value);

const worker: AgentHandler = async function* (message) {
  const text = textOf(message.parts);
  heard.push(text);
  const ids = { taskId: crypto.randomUUID(), contextId: crypto.randomUUID() };
  const value = { id: ids.taskId, contextId: ids.contextId, status: { state: TaskState.WORKING } };
  yield create(StreamResponseSchema, { payload: { case: "task", value } });
  await gates.get(text)?.promise;
  const status = { state: TaskState.COMPLETED };
  yield create(StreamResponseSchema, { payload: { case: "statusUpdate", value: { ...ids, status } } });
};

function gate(text: string): PromiseWithResolvers<void> {
  const made = Promise.withResolvers<void>();
  gates.set(text, made);
  return made;
}

const request = (text: string, more: MessageInitShape<typeof SendMessageRequestSchema>["configuration"] = {}) =>
  create(SendMessageRequestSchema, {
    message: {
      messageId: crypto.randomUUID(),
      role: Role.USER,
      parts: [{ content: { case: "text", value: text } }],
    },
    configuration: { returnImmediately: true, ...more },
  });

const openEngine = (url: string): Promise<Engine> =>
  startEngine({
    config: loadConfig({
      flags: { "database.url": url, "health.interval-ms": "0" },
      env: {},
      cwd: import.meta.dirname,
    }),
    log: silent,
    runtime: systemRuntime(),
    inProcess: new Map([["worker", worker]]),
  });

let a: Engine;
let b: Engine;
let named = 0;

beforeAll(async () => {
  const { url, drop } = await createDatabase();
  a = await openEngine(url);
  b = await openEngine(url);
  return async () => {
    await Promise.all([a.stop(0), b.stop(0)]);
    await drop();
  };
});

/** A new workspace with an agent that works on one task at a time. */
async function workspace(): Promise<string> {
  const workspaceId = `space-${++named}`;
  await a.workspaces.create(by("default"), create(CreateWorkspaceRequestSchema, { workspace: { workspaceId } }));
  const card = fromJson(AgentCardSchema, inProcessCard("worker") as never);
  await a.registry.register(
    by(workspaceId),
    create(RegisterAgentRequestSchema, {
      agentId: "worker",
      source: { case: "card", value: card },
      maxConcurrency: 1,
    }),
  );
  return workspaceId;
}

async function send(engine: Engine, workspaceId: string, ...given: Parameters<typeof request>): Promise<Task> {
  const { payload } = await engine.sender.send(by(workspaceId), request(...given));
  if (payload.case !== "task") throw new Error("the answer is no task");
  return payload.value;
}

const stateOf = async (engine: Engine, workspaceId: string, { id }: Task) =>
  (await engine.tasks.get(by(workspaceId), create(GetTaskRequestSchema, { id }))).status?.state;
const suspend = (workspaceId: string) =>
  a.workspaces.suspend(by("default"), create(SuspendWorkspaceRequestSchema, { workspaceId, reason: "test" }));
const resume = (workspaceId: string) => b.workspaces.resume(by("default"), workspaceId);
const waitFor = <T>(check: () => T | Promise<T>) => vi.waitFor(check, { timeout: 15_000, interval: 25 });

describe("a suspended workspace", () => {
  test("is known as one to every server", async () => {
    const workspaceId = await workspace();
    const standing = async (engine: Engine) => engine.knownWorkspaces.standing(workspaceId);
    await waitFor(async () => expect([await standing(a), await standing(b)]).toEqual(["active", "active"]));
    await suspend(workspaceId);
    expect(await standing(a)).toBe("suspended");
    await waitFor(async () => expect(await standing(b)).toBe("suspended"));
    await resume(workspaceId);
    expect(await standing(b)).toBe("active");
    await waitFor(async () => expect(await standing(a)).toBe("active"));
  });

  test("has what is under way written down, and nothing begun that waits, before it is resumed", async () => {
    const workspaceId = await workspace();
    const first = gate(`${workspaceId} first`);
    const running = await send(a, workspaceId, `${workspaceId} first`);
    const waiting = await send(a, workspaceId, `${workspaceId} second`);
    await waitFor(() => expect(heard).toContain(`${workspaceId} first`));
    await suspend(workspaceId);
    first.resolve();
    await waitFor(async () => expect(await stateOf(b, workspaceId, running)).toBe(TaskState.COMPLETED));
    // Another workspace's tasks go the whole way meanwhile, behind it in every queue.
    const other = await workspace();
    const theirs = await send(b, other, `${other} only`);
    await waitFor(async () => expect(await stateOf(a, other, theirs)).toBe(TaskState.COMPLETED));
    expect(await stateOf(a, workspaceId, waiting)).toBe(TaskState.SUBMITTED);
    expect(heard).not.toContain(`${workspaceId} second`);
    await resume(workspaceId);
    await waitFor(async () => expect(await stateOf(a, workspaceId, waiting)).toBe(TaskState.COMPLETED));
  });

  test("has its webhooks put off, and posted in order when it is resumed", async () => {
    const hook = await startWebhook();
    onTestFinished(() => hook.close());
    const workspaceId = await workspace();
    const open = gate(`${workspaceId} posted`);
    const config = create(TaskPushNotificationConfigSchema, { id: "hook", url: hook.url });
    const task = await send(a, workspaceId, `${workspaceId} posted`, { taskPushNotificationConfig: config });
    await waitFor(() => expect(hook.posts.length).toBeGreaterThan(0));
    await suspend(workspaceId);
    const before = hook.posts.length;
    open.resolve();
    await waitFor(async () => expect(await stateOf(b, workspaceId, task)).toBe(TaskState.COMPLETED));
    // Another's comes through, though it is due later.
    const other = await workspace();
    const theirs = await startWebhook();
    onTestFinished(() => theirs.close());
    const another = create(TaskPushNotificationConfigSchema, { id: "hook", url: theirs.url });
    await send(b, other, `${other} posted`, { taskPushNotificationConfig: another });
    const last = (posts: typeof hook.posts) => {
      const { payload } = posts.at(-1)!.body;
      return payload.case === "statusUpdate" ? payload.value.status?.state : undefined;
    };
    await waitFor(() => expect(last(theirs.posts)).toBe(TaskState.COMPLETED));
    expect(hook.posts).toHaveLength(before);
    await resume(workspaceId);
    await waitFor(() => expect(last(hook.posts)).toBe(TaskState.COMPLETED));
  });

  test("has its streams ended on every server, and no other's", async () => {
    const workspaceId = await workspace();
    const other = await workspace();
    const ends = [workspaceId, other].map((id) => gate(`${id} watched`));
    const tasks = await Promise.all([workspaceId, other].map((id) => send(a, id, `${id} watched`)));
    /** A stream as a transport opens one. */
    const watch = async (engine: Engine, id: string, task: Task) => {
      const call = new AbortController();
      engine.openCalls.add(id, call);
      try {
        const context = { ...by(id), signal: call.signal };
        const subscribe = create(SubscribeToTaskRequestSchema, { id: task.id });
        for await (const _ of engine.sender.subscribe(context, subscribe));
        return "ended";
      } catch (error) {
        return (error as { reason: string }).reason;
      } finally {
        engine.openCalls.delete(id, call);
      }
    };
    const mine = [watch(a, workspaceId, tasks[0]!), watch(b, workspaceId, tasks[0]!)];
    const theirs = watch(b, other, tasks[1]!);
    await suspend(workspaceId);
    expect(await Promise.all(mine)).toEqual(["WORKSPACE_SUSPENDED", "WORKSPACE_SUSPENDED"]);
    for (const end of ends) end.resolve();
    expect(await theirs).toBe("ended");
  });
});

test("a new workspace has all that runs for a workspace, on every server, without a restart", async () => {
  const workspaceId = await workspace();
  const task = await send(b, workspaceId, `${workspaceId} hello`);
  await waitFor(async () => expect(await stateOf(a, workspaceId, task)).toBe(TaskState.COMPLETED));
  // Its own policy, while the first workspace's says nothing.
  const document = JSON.stringify({
    version: 1,
    rules: [{ effect: "DENY", scope: "AGENT", when: { agent_id: "worker" }, description: "closed" }],
  });
  await a.policyVersions.put(by(workspaceId), create(PutPolicyRequestSchema, { policy: { document } }));
  await waitFor(async () => {
    const refused = await send(b, workspaceId, `${workspaceId} forbidden`).then(
      () => "taken",
      (error: { reason: string }) => error.reason,
    );
    expect(refused).toBe("POLICY_DENIED");
  });
  await a.registry.update(
    by(workspaceId),
    create(UpdateAgentRequestSchema, {
      agent: { agentId: "worker", safeToRepeat: true },
      updateMask: { paths: ["safe_to_repeat"] },
    }),
  );
  // Its log is folded and signed.
  await waitFor(async () => {
    const { entries } = await b.auditLog.list(by(workspaceId), create(ListEntriesRequestSchema, { pageSize: 1_000 }));
    expect(entries.map(({ action }) => action)).toEqual(
      expect.arrayContaining(["workspace.create", "agent.register", "task.accept", "policy.put", "agent.update"]),
    );
  });
});
