/** That what is done through a whole engine is in its audit log: each change is handed its recording. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
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
  ApprovalVerdict,
  DecideApprovalRequestSchema,
  ListApprovalsRequestSchema,
} from "../../gen/signalbox/v1/approval_pb.ts";
import { ExchangeKind, ExchangeMessageSchema } from "../../gen/signalbox/v1/message_pb.ts";
import { PutPolicyRequestSchema } from "../../gen/signalbox/v1/policy_pb.ts";
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
import type { Principal } from "../../src/domain/identity/principal.ts";
import { type Engine, startEngine } from "../../src/engine.ts";
import type { AgentHandler } from "../../src/outbound/in-process-channel.ts";
import type { RequestContext } from "../../src/services/request-context.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import { openPostgres } from "../../src/store/postgres.ts";
import { inProcessCard } from "../e2e/running-app.ts";
import { auditEntries, expectWholeChains } from "../store/audit-lines.ts";
import { createDatabase, silent } from "../store/backends.ts";
import { raw } from "../store/tables.ts";

const principal: Principal = {
  id: "alice",
  workspaceId: "default",
  roles: new Set(),
  scopes: new Set(["*"]),
  authentication: "anonymous",
  actors: [],
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

test("what the policy does is recorded: what it asks for, withholds and refuses, over every door, and its files", async () => {
  const { url, drop } = await createDatabase();
  const folder = mkdtempSync(join(tmpdir(), "audited-"));
  const file = join(folder, "policy.yaml");
  writeFileSync(file, "version: 1\n");
  const engine = await openEngine(url, { "policy.path": file, "policy.poll-ms": "100" });
  onTestFinished(async () => {
    await engine.stop(0);
    await drop();
    rmSync(folder, { recursive: true });
  });
  const card = fromJson(AgentCardSchema, inProcessCard("desk") as never);
  for (const agentId of ["desk", "teller", "locked"]) {
    const request = { agentId, source: { case: "card" as const, value: card } };
    await engine.registry.register(context(), create(RegisterAgentRequestSchema, request));
  }
  const document = `
version: 1
rules:
  - {effect: REQUIRE, when: {agent_id: desk}, then: {approval: {self: true}}}
  - {effect: DENY, when: {agent_id: teller, output_text: {matches: which}}}
  - {effect: DENY, when: {agent_id: locked}}
`;
  await engine.policyVersions.put(context(), create(PutPolicyRequestSchema, { policy: { document } }));
  const ask = async (tenant: string) => {
    const { payload } = await engine.sender.send(
      context(),
      create(SendMessageRequestSchema, { ...send("go"), tenant }),
    );
    return payload.case === "task" ? payload.value : undefined;
  };
  const waiting = (await ask("a.desk"))!;
  const [approval] = (await engine.approvals.list(context(), create(ListApprovalsRequestSchema, {}))).approvals;
  const { approvalId } = approval!;
  const verdict = ApprovalVerdict.REJECT;
  await engine.approvals.decide(
    context(),
    create(DecideApprovalRequestSchema, { approvalId, verdict, comment: "not today" }),
  );
  const withheld = (await ask("a.teller"))!;
  expect(withheld.status?.state).toBe(TaskState.FAILED);
  const message = send("go").message!;
  const answer = await engine.exchanges.exchange(
    context(),
    create(ExchangeMessageSchema, {
      kind: ExchangeKind.DELEGATE,
      payload: { case: "delegate", value: { work: { case: "request", value: { tenant: "a.locked", message } } } },
    }),
  );
  expect(answer.kind).toBe(ExchangeKind.ERROR);
  writeFileSync(file, "version: 1\nrules: nonsense\n");
  const loads = async () => (await auditEntries(engine.db)).filter(({ action }) => action === "policy.load");
  await expect.poll(loads, { timeout: 10_000 }).toMatchObject([
    { result: "OK", detail: { files: [{ name: "policy.yaml" }] } },
    { result: "POLICY_FILES_INVALID", detail: { problemCount: 1 } },
  ]);

  await expectWholeChains(engine.db);
  const entries = await auditEntries(engine.db);
  const { replicaId } = engine.lease();
  const router = `router:${replicaId}`;
  const found = (task: string) => entries.filter((entry) => entry.task === task);
  expect(found(waiting.id)).toMatchObject([
    { actor: "alice", action: "approval.settle", target: "approval", id: approvalId, detail: { state: "REJECTED" } },
    { actor: "alice", action: "task.transition", detail: { to: "REJECTED" } },
    { actor: "alice", action: "task.accept" },
    { actor: router, action: "task.transition", detail: { to: "INPUT_REQUIRED" } },
    { actor: router, action: "approval.request", target: "approval", id: approvalId, detail: { rule: "rules[0]" } },
  ]);
  expect(found(withheld.id).findLast(({ action }) => action === "task.transition")).toMatchObject({
    actor: router,
    detail: { to: "FAILED" },
  });
  expect(entries.filter(({ action }) => action === "call.refuse")).toMatchObject([
    { actor: "alice", id: "signalbox.v1.MessageService/Exchange", result: "POLICY_DENIED" },
  ]);
  expect(JSON.stringify(entries)).not.toContain("not today");
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

test("a server that records nothing says so under each id that it has", async () => {
  const { url, drop } = await createDatabase();
  const engine = await openEngine(url, { "audit.enabled": "false", "lease.ms": "1000" });
  const db = openPostgres({ url, poolSize: 1, log: silent });
  onTestFinished(async () => {
    await db.close();
    await drop();
  });
  const first = engine.lease().replicaId;
  await raw(db, "update replicas set died_at = clock_timestamp()");
  await expect.poll(() => engine.lease().replicaId, { timeout: 10_000 }).not.toBe(first);
  const second = engine.lease().replicaId;
  await engine.stop(0);
  const said = (await auditEntries(db)).map(({ action, id }) => `${action} ${id}`);
  expect(said.toSorted()).toEqual([`audit.off ${first}`, `audit.off ${second}`, `audit.on ${second}`].toSorted());
});
