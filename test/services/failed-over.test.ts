/** Who takes a task next that its agent has failed. */
import { create, toBinary } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { AgentCardSchema, MessageSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { RouteDecisionSchema, RouteSource } from "../../gen/signalbox/v1/routing_pb.ts";
import { DEFAULT_ROLLOUT, type Rollout } from "../../src/domain/rollout.ts";
import { DEFAULT_WEIGHTS } from "../../src/domain/routing/strategies.ts";
import type { TaskHeader } from "../../src/domain/task-log.ts";
import type { WorkspaceAgents } from "../../src/services/agent-directory.ts";
import { createRouter } from "../../src/services/router.ts";
import { createAgentLoads } from "../../src/services/routing/agent-load.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import { trustAll } from "../../src/services/trust.ts";
import type { AgentRecord } from "../../src/store/agent-repository.ts";
import { openPolicy } from "../fixtures/open-policy.ts";
import { headerOf } from "../fixtures/task-header.ts";

const message = create(MessageSchema, { messageId: "m", parts: [{ content: { case: "text", value: "x" } }] });
const steps: Rollout["fallbackChain"] = [
  { agentId: "full", conditions: ["FULL"] },
  { agentId: "gone", conditions: ["FAILED"] },
  { agentId: "next", conditions: ["FAILED"] },
  { agentId: "last", conditions: ["FAILED"] },
];

interface Before {
  source: RouteSource;
  capabilityId: string;
}

/** A router whose workspace has the agents of the chain but "gone", and a task that was routed as is said. */
function open(before: Before | undefined, fallbackChain = steps) {
  const runtime = systemRuntime();
  const byId = new Map(
    ["first", "full", "next", "last"].map((agentId) => [
      agentId,
      { agentId, card: create(AgentCardSchema) } as AgentRecord,
    ]),
  );
  const agents = { byId, capabilities: new Map(), byCapability: new Map() } as unknown as WorkspaceAgents;
  const reads: string[] = [];
  const router = createRouter({
    runtime,
    trust: trustAll,
    loads: createAgentLoads(runtime),
    settings: {
      of: async () => ({ strategy: undefined, weights: DEFAULT_WEIGHTS, rejects: false, revision: 0 }),
    },
    strategy: "LEAST_LOAD",
    directory: {
      agents: async () => agents,
      agent: async (_, id) => byId.get(id),
      agentAt: async () => undefined,
      homeOf: () => undefined,
      borrowersOf: () => [],
      changed() {},
      last: () => agents,
      onLimits() {},
      onGone() {},
    },
    policy: openPolicy,
    rollouts: {
      load: () => undefined,
      of: () => ({ ...DEFAULT_ROLLOUT, fallbackChain }),
      owns: () => false,
      changed() {},
    },
    waitingAt: () => 0,
    isLocal: () => false,
    isFull: () => false,
    async readDecision(_, taskId) {
      reads.push(taskId);
      return before && toBinary(RouteDecisionSchema, create(RouteDecisionSchema, before));
    },
  });
  const task = (more: Partial<TaskHeader> = {}) =>
    headerOf({ agentId: "first", capabilityId: before?.capabilityId || undefined, ...more });
  return { router, task, reads };
}

test("the next of the chain whom it was not given to yet, and the record says why", async () => {
  const { router, task } = open({ source: RouteSource.TENANT, capabilityId: "fly" });
  const first = await router.reroute(task(), message, "FAILED", []);
  expect(first).toMatchObject({
    agent: { agentId: "next" },
    decision: {
      agentId: "next",
      capabilityId: "fly",
      source: RouteSource.TENANT,
      cuts: [{ reason: "FAILED", agentIds: ["first"] }],
      rollout: { fallbackStep: { target: { case: "agentId", value: "next" } }, fallbackCondition: 4 },
    },
  });
  const second = await router.reroute(task({ agentId: "next" }), message, "FAILED", ["first"]);
  expect(second?.agent.agentId).toBe("last");
  expect(await router.reroute(task({ agentId: "last" }), message, "FAILED", ["first", "next"])).toBeUndefined();
});

test("nobody, and nothing is read, where no step is for failures", async () => {
  const { router, task, reads } = open({ source: RouteSource.TENANT, capabilityId: "fly" }, steps.slice(0, 1));
  expect(await router.reroute(task(), message, "FAILED", [])).toBeUndefined();
  expect(reads).toEqual([]);
});

test.each<[string, Before | undefined, string | undefined]>([
  ["was given to the default", { source: RouteSource.DEFAULT, capabilityId: "" }, "next"],
  ["was for an agent by its name", { source: RouteSource.TENANT, capabilityId: "" }, undefined],
  ["has no record", undefined, undefined],
])("of a task that %s", async (_, before, agentId) => {
  const { router, task } = open(before);
  expect((await router.reroute(task(), message, "FAILED", []))?.agent.agentId).toBe(agentId);
});

test("nobody else for a message that names its agent, and nobody who is not where it may go", async () => {
  const { router, task } = open({ source: RouteSource.EXTENSION, capabilityId: "fly" });
  const saying = (said: object) => task({ delivery: { metadata: { "urn:signalbox:a2a:routing:v1": said } } });
  expect(await router.reroute(saying({ agent: "first" }), message, "FAILED", [])).toBeUndefined();
  expect(await router.reroute(saying({ routeMode: "LOCAL" }), message, "FAILED", [])).toBeUndefined();
  expect(await router.reroute(saying({ routeMode: "REMOTE" }), message, "FAILED", [])).toBeDefined();
});
