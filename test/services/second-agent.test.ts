/** Who is asked as well when the agent of a task is slow. */
import { create, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { AgentCardSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { RouteDecisionSchema, RouteSource } from "../../gen/signalbox/v1/routing_pb.ts";
import { type Capability, capabilitiesOf } from "../../src/domain/capability.ts";
import { DEFAULT_ROLLOUT } from "../../src/domain/rollout.ts";
import { DEFAULT_WEIGHTS } from "../../src/domain/routing/strategies.ts";
import { ROUTING_EXTENSION } from "../../src/domain/routing-extension.ts";
import type { AgentDirectory, Offer, WorkspaceAgents } from "../../src/services/agent-directory.ts";
import { createAgentLoads } from "../../src/services/routing/agent-load.ts";
import { createSecondAgent } from "../../src/services/routing/second-agent.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import { say } from "../agents/calling.ts";
import { openPolicy } from "../fixtures/open-policy.ts";
import { headerOf } from "../fixtures/task-header.ts";

const runtime = systemRuntime();

/** An agent that offers the capability "translate". */
function offer(agentId: string, said: { agentSafe?: boolean; capabilitySafe?: boolean; region?: string }): Offer {
  const card = create(AgentCardSchema, {
    name: agentId,
    defaultInputModes: ["text/plain"],
    skills: [{ id: "translate", name: "Translate" }],
  });
  const capability: Capability = {
    ...capabilitiesOf(agentId, card, [])[0]!,
    safeToRepeat: said.capabilitySafe ?? false,
    labels: said.region === undefined ? {} : { region: said.region },
  };
  const agent = { workspaceId: "default", agentId, card, safeToRepeat: said.agentSafe ?? false } as Offer["agent"];
  return { agent, capability, version: 1 };
}

const before = create(RouteDecisionSchema, { source: RouteSource.TEXT, matches: [{ capabilityId: "translate" }] });

function finder(offers: readonly Offer[], rollout = DEFAULT_ROLLOUT) {
  const agents = { byCapability: new Map([["translate", offers]]) } as unknown as WorkspaceAgents;
  return createSecondAgent({
    directory: { agents: async () => agents } as Partial<AgentDirectory> as AgentDirectory,
    policy: openPolicy,
    runtime,
    loads: createAgentLoads(runtime),
    rollouts: { load: () => undefined, of: () => rollout, owns: () => false, changed() {} },
    isLocal: ({ agentId }) => agentId === "local",
    settings: { of: async () => ({ strategy: undefined, weights: DEFAULT_WEIGHTS, rejects: false, revision: 0 }) },
    waitingAt: () => 0,
    strategy: "LEAST_LOAD",
    readDecision: async () => toBinary(RouteDecisionSchema, before),
  });
}

const task = (wishes: object = {}) =>
  headerOf({ capabilityId: "translate", delivery: { metadata: { [ROUTING_EXTENSION]: wishes } } });

describe("the second agent", () => {
  test("is another one of the capability, chosen as the first was, and the record says who had the task", async () => {
    const find = finder([offer("a", { agentSafe: true }), offer("b", { capabilitySafe: true })]);
    const second = await find(task(), say("hello"), ["a"]);
    expect(second).toMatchObject({
      agent: { agentId: "b" },
      capability: { capabilityId: "translate" },
      decision: {
        agentId: "b",
        capabilityId: "translate",
        source: RouteSource.TEXT,
        matches: [{ capabilityId: "translate" }],
        cuts: [{ reason: "HEDGED", count: 1, agentIds: ["a"] }],
      },
    });
  });

  test("is nobody for a task of an agent that was named, or one whose wishes nobody else meets", async () => {
    const find = finder([offer("a", { agentSafe: true, region: "eu" }), offer("b", { agentSafe: true, region: "us" })]);
    expect(await find(task({ agent: "a" }), say("hello"), ["a"])).toBeUndefined();
    expect(await find(headerOf(), say("hello"), ["a"])).toBeUndefined();
    expect(await find(task({ labels: { region: "eu" } }), say("hello"), ["a"])).toBeUndefined();
    expect((await find(task({ labels: { region: "us" } }), say("hello"), ["a"]))?.agent.agentId).toBe("b");
  });

  test("is where the rollout has tasks", async () => {
    const offers = ["a", "b", "local"].map((id) => offer(id, { agentSafe: true }));
    const find = finder(offers, { ...DEFAULT_ROLLOUT, rollbackToLocal: true });
    expect((await find(task(), say("hello"), ["a"]))?.agent.agentId).toBe("local");
    expect(await find(task(), say("hello"), ["local"])).toBeUndefined();
  });

  test("is never one that has the task, nor one that is not safe to repeat", async () => {
    const kinds = fc.record({ agentSafe: fc.boolean(), capabilitySafe: fc.boolean() });
    await fc.assert(
      fc.asyncProperty(fc.array(kinds, { maxLength: 6 }), fc.integer({ min: 0, max: 5 }), async (agents, first) => {
        const find = finder(agents.map((said, i) => offer(`agent-${i}`, said)));
        const second = await find(task(), say("hello"), [`agent-${first}`]);
        const safe = agents.flatMap(({ agentSafe, capabilitySafe }, i) =>
          (agentSafe || capabilitySafe) && i !== first ? `agent-${i}` : [],
        );
        if (safe.length === 0) expect(second).toBeUndefined();
        else expect(safe).toContain(second?.agent.agentId);
      }),
    );
  });
});
