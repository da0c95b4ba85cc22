/** Whom operators' view of a task is shown to, by which pages, and what of a cause stays inside. */

import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import { beforeAll, expect, it } from "vitest";
import { MessageSchema, Role, StreamResponseSchema, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import {
  EngineState as ContractState,
  GetTaskExecutionRequestSchema,
  ListTaskTransitionsRequestSchema,
  TaskPriority,
  TaskUpdateKind,
} from "../../gen/signalbox/v1/task_pb.ts";
import { messageUpdate, statusUpdate } from "../../src/domain/agent-report.ts";
import type { NewUpdate, TaskHeader } from "../../src/domain/task-log.ts";
import { EngineState } from "../../src/domain/task-state.ts";
import { createAgentDirectory } from "../../src/services/agent-directory.ts";
import type { Dispatcher } from "../../src/services/dispatcher.ts";
import { anonymousPrincipal } from "../../src/services/identity/authenticator.ts";
import type { RequestContext } from "../../src/services/request-context.ts";
import { createRollouts } from "../../src/services/rollouts.ts";
import { createRouter } from "../../src/services/router.ts";
import { createAgentLoads } from "../../src/services/routing/agent-load.ts";
import { createWorkspaceSettings } from "../../src/services/routing/workspace-settings.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import { createTaskExecutions, type TaskExecutions } from "../../src/services/task-executions.ts";
import { createTasks } from "../../src/services/tasks.ts";
import { trustAll } from "../../src/services/trust.ts";
import { createAgentRepository } from "../../src/store/agent-repository.ts";
import { createCapabilityRepository } from "../../src/store/capability-repository.ts";
import { createRolloutRepository } from "../../src/store/rollout-repository.ts";
import { createRoutingSettingsRepository } from "../../src/store/routing-settings-repository.ts";
import { createTaskStore, type TaskStore } from "../../src/store/task-store.ts";
import { createTransitionReads } from "../../src/store/transition-reads.ts";
import { noAudit } from "../fixtures/no-audit.ts";
import { openPolicy } from "../fixtures/open-policy.ts";
import { registerReplica } from "../fixtures/replica.ts";
import { headerOf } from "../fixtures/task-header.ts";
import { describeEachBackend } from "../store/backends.ts";

const at = new Date("2026-01-01T00:00:01.000Z");
const context = { workspaceId: "default", principal: anonymousPrincipal("viewer") } as RequestContext;

const accepted: NewUpdate = {
  ...messageUpdate(create(MessageSchema, { messageId: "m", role: Role.USER })),
  state: EngineState.ASSIGNED,
  cause: "accepted",
};
const again = (cause: string): NewUpdate => ({
  kind: "transition",
  body: create(StreamResponseSchema),
  state: EngineState.ASSIGNED,
  cause,
});

describeEachBackend("what operators see", (backend) => {
  let store: TaskStore;
  let executions: TaskExecutions;
  let replicaId: string;
  beforeAll(async () => {
    replicaId = await registerReplica(backend.db);
    store = createTaskStore(backend.db, { maxWaiting: 100, replicaId: () => replicaId });
    const runtime = systemRuntime();
    const agents = createAgentRepository(backend.db);
    const router = createRouter({
      directory: createAgentDirectory(agents, createCapabilityRepository(backend.db), runtime),
      policy: openPolicy,
      runtime,
      trust: trustAll,
      loads: createAgentLoads(runtime),
      settings: createWorkspaceSettings(createRoutingSettingsRepository(backend.db), runtime, noAudit),
      strategy: "LEAST_LOAD",
      rollouts: createRollouts(createRolloutRepository(backend.db), runtime),
      isLocal: () => false,
      isFull: () => false,
      readDecision: async () => undefined,
      waitingAt: () => 0,
    });
    // Nothing here is dispatched.
    const tasks = createTasks({ store, router, dispatcher: {} as Dispatcher });
    executions = createTaskExecutions({ reads: createTransitionReads(backend.db), tasks });
    return () => store.close();
  });

  async function stored(overrides: Partial<TaskHeader>, ...more: NewUpdate[]): Promise<TaskHeader> {
    const header = headerOf(overrides);
    const { workspaceId, taskId } = header;
    await store.submit({ header, updates: [accepted] });
    if (more.length > 0) await store.append({ workspaceId, taskId, expectedSeq: 1, fence: 1, updates: more, at });
    return header;
  }

  const get = (taskId: string, who = context) => executions.get(who, create(GetTaskExecutionRequestSchema, { taskId }));
  const list = (taskId: string, page: { pageSize?: number; pageToken?: string } = {}, who = context) =>
    executions.transitions(who, create(ListTaskTransitionsRequestSchema, { taskId, ...page }));

  it("tells where a task stands, and what brought it there", async () => {
    const deadlineAt = new Date(Date.now() + 3_600_000);
    const { taskId } = await stored({ priority: "CRITICAL", deadlineAt }, again("once more"));
    const execution = await get(taskId);
    expect(execution).not.toHaveProperty("wakeTime");
    expect(execution).toMatchObject({
      taskId,
      agentId: "agent",
      state: ContractState.ASSIGNED,
      lastSequence: 2n,
      attempt: 1,
      priority: TaskPriority.CRITICAL,
      replicaId,
      leaseExpireTime: { $typeName: "google.protobuf.Timestamp" },
      fencingToken: 1n,
      deadlineTime: timestampFromDate(deadlineAt),
    });
    const { transitions, nextPageToken } = await list(taskId);
    expect(nextPageToken).toBe("");
    const both = { state: ContractState.ASSIGNED, attempt: 1, fencingToken: 1n, replicaId };
    expect(transitions).toMatchObject([
      { ...both, sequence: 1n, kind: TaskUpdateKind.MESSAGE, cause: "accepted" },
      { ...both, sequence: 2n, kind: TaskUpdateKind.TRANSITION, cause: "once more", createTime: timestampFromDate(at) },
    ]);
  });

  it("walks the log by pages of any size without a hole or a repetition", async () => {
    const causes = Array.from({ length: 12 }, (_, i) => `cause ${i}`);
    const { taskId } = await stored({}, ...causes.map(again));
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 15 }), async (pageSize) => {
        const seen: string[] = [];
        for (let pageToken = ""; ; ) {
          const page = await list(taskId, { pageSize, pageToken });
          expect(page.transitions.length).toBeLessThanOrEqual(pageSize);
          seen.push(...page.transitions.map(({ cause }) => cause));
          pageToken = page.nextPageToken;
          if (pageToken === "") break;
        }
        expect(seen).toEqual(["accepted", ...causes]);
      }),
      { numRuns: 10 },
    );
  });

  it("keeps the raw text of an agent's rubbish, and what goes on without end, to who administers tasks", async () => {
    const header = headerOf();
    const failed = (cause: string) =>
      statusUpdate(header, { state: TaskState.FAILED, timestamp: timestampFromDate(at) }, cause);
    const { taskId } = await stored(
      header,
      again(`attempt 1 failed: ${"x".repeat(5000)}`),
      failed("INVALID_AGENT_RESPONSE: The agent's answer is no Task of A2A 1.0.\n<password>secret</password>\nsecret"),
    );
    const { transitions } = await list(taskId);
    expect(transitions.map(({ cause }) => cause.length)).toEqual([8, 1025, expect.any(Number)]);
    expect(transitions[2]).toMatchObject({
      state: ContractState.FAILED,
      cause: "INVALID_AGENT_RESPONSE: The agent's answer is no Task of A2A 1.0.",
    });
    const operator = { workspaceId: "default", principal: anonymousPrincipal("operator") } as RequestContext;
    const { transitions: whole } = await list(taskId, {}, operator);
    expect(whole[1]?.cause).toContain("x".repeat(5000));
    expect(whole[2]?.cause).toContain("<password>secret</password>\nsecret");
  });

  it("shows nobody what GetTask does not show", async () => {
    const { taskId } = await stored({ disclosed: false });
    const missing = { code: "NOT_FOUND", reason: "TASK_NOT_FOUND" };
    const elsewhere = { workspaceId: "elsewhere", principal: anonymousPrincipal("viewer") } as RequestContext;
    const { taskId: seen } = await stored({});
    for (const read of [get, list]) {
      await expect(read(taskId)).rejects.toMatchObject(missing);
      await expect(read("nobody")).rejects.toMatchObject(missing);
      await expect(read("\0")).rejects.toMatchObject(missing);
      await expect(read("")).rejects.toMatchObject({ violations: [{ field: "taskId" }] });
    }
    await expect(get(seen, elsewhere)).rejects.toMatchObject(missing);
    await expect(list(seen, {}, elsewhere)).rejects.toMatchObject(missing);
  });

  it.each([
    [{ pageSize: -1 }, "pageSize"],
    [{ pageToken: "?" }, "pageToken"],
    [{ pageToken: Buffer.from("0").toString("base64url") }, "pageToken"],
    [{ pageToken: "9".repeat(100) }, "pageToken"],
  ])("refuses %j", async (page, field) => {
    const { taskId } = await stored({});
    await expect(list(taskId, page)).rejects.toMatchObject({ code: "INVALID_ARGUMENT", violations: [{ field }] });
  });
});
