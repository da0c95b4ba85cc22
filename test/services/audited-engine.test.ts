/** That what is done through a whole engine is in its audit log: each change is handed its recording. */
import { create, fromJson, type MessageInitShape } from "@bufbuild/protobuf";
import { expect, onTestFinished, test } from "vitest";
import {
  AgentCardSchema,
  CancelTaskRequestSchema,
  Role,
  SendMessageRequestSchema,
  StreamResponseSchema,
  TaskPushNotificationConfigSchema,
  TaskState,
} from "../../gen/lf/a2a/v1/a2a_pb.ts";
import {
  AddCapabilityRequestSchema,
  RegisterAgentRequestSchema,
  RemoveCapabilityRequestSchema,
  UpdateAgentRequestSchema,
} from "../../gen/signalbox/v1/registry_pb.ts";
import { UpdateRolloutRequestSchema } from "../../gen/signalbox/v1/rollout_pb.ts";
import { UpdateRoutingSettingsRequestSchema } from "../../gen/signalbox/v1/routing_pb.ts";
import { CleanupTasksRequestSchema } from "../../gen/signalbox/v1/task_pb.ts";
import { loadConfig } from "../../src/config/load.ts";
import { type Engine, startEngine } from "../../src/engine.ts";
import type { AgentHandler } from "../../src/outbound/in-process-channel.ts";
import type { Principal, RequestContext } from "../../src/services/request-context.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import { openPostgres } from "../../src/store/postgres.ts";
import { inProcessCard } from "../e2e/running-app.ts";
import { auditEntries, expectWholeChains } from "../store/audit-lines.ts";
import { createDatabase, silent } from "../store/backends.ts";

const principal: Principal = {
  id: "alice",
  workspaceId: "default",
  scopes: new Set(["*"]),
  authentication: "anonymous",
};
const context = (): RequestContext => ({
  principal,
  workspaceId: principal.workspaceId,
  requestId: "request",
  signal: new AbortController().signal,
  extensions: [],
  traceparent: undefined,
  addressTarget: undefined,
  idempotencyKey: undefined,
  noStore: false,
  log: silent,
});

/** Asks, until it is told more. */
const desk: AgentHandler = async function* (_message, { task }) {
  const ids = { taskId: task?.id ?? crypto.randomUUID(), contextId: task?.contextId ?? crypto.randomUUID() };
  const parts = [{ content: { case: "text", value: "which one?" } } as const];
  const question = { messageId: crypto.randomUUID(), role: Role.AGENT, parts };
  if (!task) {
    const value = { id: ids.taskId, contextId: ids.contextId, status: { state: TaskState.WORKING } };
    yield create(StreamResponseSchema, { payload: { case: "task", value } });
  }
  const status = task ? { state: TaskState.COMPLETED } : { state: TaskState.INPUT_REQUIRED, message: question };
  yield create(StreamResponseSchema, { payload: { case: "statusUpdate", value: { ...ids, status } } });
};

const send = (text: string, more: MessageInitShape<typeof SendMessageRequestSchema>["message"] = {}) =>
  create(SendMessageRequestSchema, {
    message: {
      messageId: crypto.randomUUID(),
      role: Role.USER,
      parts: [{ content: { case: "text", value: text } }],
      ...more,
    },
  });

async function openEngine(url: string, flags: Record<string, string> = {}): Promise<Engine> {
  const config = loadConfig({ flags: { "database.url": url, ...flags }, env: {}, cwd: import.meta.dirname });
  return startEngine({
    config,
    log: silent,
    runtime: systemRuntime(),
    inProcess: new Map([["desk", desk]]),
  });
}

test("each change is recorded with who made it, and each task from its acceptance to its removal", async () => {
  const { url, drop } = await createDatabase();
  const engine = await openEngine(url);
  onTestFinished(async () => {
    await engine.stop(0);
    await drop();
  });
  const { registry } = engine;
  const card = fromJson(AgentCardSchema, inProcessCard("desk") as never);
  await registry.register(
    context(),
    create(RegisterAgentRequestSchema, { agentId: "desk", source: { case: "card", value: card } }),
  );
  await registry.register(
    context(),
    create(RegisterAgentRequestSchema, { agentId: "other", source: { case: "card", value: card } }),
  );
  const agent = { agentId: "desk", safeToRepeat: true };
  await registry.update(
    context(),
    create(UpdateAgentRequestSchema, { agent, updateMask: { paths: ["safe_to_repeat"] } }),
  );
  await registry.addCapability(
    context(),
    create(AddCapabilityRequestSchema, { agentId: "desk", capability: { capabilityId: "help" } }),
  );
  await registry.removeCapability(
    context(),
    create(RemoveCapabilityRequestSchema, { agentId: "desk", capabilityId: "help" }),
  );
  await registry.setDefault(context(), "desk");
  const paths = { paths: ["*"] };
  await engine.rolloutSettings.update(
    context(),
    create(UpdateRolloutRequestSchema, { rollout: { capabilityId: "help" }, updateMask: paths }),
  );
  await engine.rolloutSettings.remove(context(), "help");
  await engine.routes.settings.update(
    context(),
    create(UpdateRoutingSettingsRequestSchema, { routingSettings: { strategy: "LEAST_LOAD" }, updateMask: paths }),
  );
  await engine.cachedResults.clear(context(), { capabilityId: "" } as never);

  const first = await engine.sender.send(context(), send("what I need"));
  const asked = first.payload.case === "task" ? first.payload.value : undefined;
  expect(asked?.status?.state).toBe(TaskState.INPUT_REQUIRED);
  const taskId = asked!.id;
  const webhook = { taskId, id: "hook", url: "http://127.0.0.1:9/secret-path" };
  await engine.pushConfigs.create(context(), create(TaskPushNotificationConfigSchema, webhook));
  await engine.pushConfigs.remove(context(), { tenant: "", taskId, id: "hook" } as never);
  const answered = await engine.sender.send(context(), send("more", { taskId }));
  expect(answered.payload).toMatchObject({ case: "task", value: { status: { state: TaskState.COMPLETED } } });
  const second = await engine.sender.send(context(), send("what else I need"));
  const waiting = second.payload.case === "task" ? second.payload.value.id : "";
  await engine.tasks.cancel(context(), create(CancelTaskRequestSchema, { id: waiting }));
  expect(
    await engine.taskCleanup.removeOld(context(), create(CleanupTasksRequestSchema, { olderThanSeconds: 0n })),
  ).toBe(2);
  await registry.remove(context(), "other");

  await expectWholeChains(engine.db);
  const entries = await auditEntries(engine.db);
  const did = (chain: string, id: (task?: string) => boolean) =>
    entries
      .filter((entry) => entry.chain.endsWith(chain) && id(entry.task))
      .map(({ actor, action, id: target, detail }) => `${actor} ${action} ${target} ${detail?.to ?? ""}`.trim());
  expect(did("/x", (task) => task === undefined)).toEqual([
    "alice agent.register desk",
    "alice agent.register other",
    "alice agent.update desk",
    "alice capability.put help",
    "alice capability.remove help",
    "alice agent.set-default desk",
    "alice rollout.put help",
    "alice rollout.remove help",
    "alice routing-settings.put default",
    "alice cache.clear",
    "alice agent.remove other",
  ]);
  const ofFirst = (task?: string) => task === taskId;
  expect(did("/s", ofFirst)).toEqual([`alice task.accept ${taskId}`]);
  expect(did("/a", ofFirst)).toEqual([
    `agent:desk task.transition ${taskId} WORKING`,
    `agent:desk task.transition ${taskId} INPUT_REQUIRED`,
    `alice task.transition ${taskId} WORKING`,
    `alice task.message ${taskId}`,
    `agent:desk task.transition ${taskId} COMPLETED`,
  ]);
  expect(did("/x", ofFirst)).toEqual([
    "alice push-config.put hook",
    "alice push-config.remove hook",
    `alice task.remove ${taskId}`,
  ]);
  // Who wanted it, and whose answer it was.
  const ofSecond = entries.filter(({ task, action }) => task === waiting && action === "task.transition");
  expect(ofSecond.slice(-2)).toMatchObject([
    { actor: "alice", detail: { to: "INPUT_REQUIRED", cause: "its client asks to cancel it" } },
    { actor: "agent:desk", detail: { to: "CANCELED" } },
  ]);
  const text = JSON.stringify(entries);
  for (const content of ["what I need", "which one", "secret-path"]) expect(text).not.toContain(content);
});

test("a server that records nothing says so, where that begins and where it ends", async () => {
  const { url, drop } = await createDatabase();
  const engine = await openEngine(url, { "audit.enabled": "false" });
  const { replicaId } = engine.lease();
  await engine.routes.settings.update(
    context(),
    create(UpdateRoutingSettingsRequestSchema, {
      routingSettings: { strategy: "LEAST_LOAD" },
      updateMask: { paths: ["*"] },
    }),
  );
  await engine.stop(0);
  const db = openPostgres({ url, poolSize: 1, log: silent });
  onTestFinished(async () => {
    await db.close();
    await drop();
  });
  await expectWholeChains(db);
  const said = { actor: `router:${replicaId}`, target: "replica", id: replicaId };
  expect(await auditEntries(db)).toMatchObject([
    { ...said, action: "audit.off" },
    { ...said, action: "audit.on" },
  ]);
});
