/** Who may take a task by a rollout, and who is asked next. */
import { create } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { AgentCardSchema, AgentSkillSchema, MessageSchema } from "../../../gen/lf/a2a/v1/a2a_pb.ts";
import { RouteSource } from "../../../gen/signalbox/v1/routing_pb.ts";
import { type Capability, capabilityOfSkill } from "../../../src/domain/capability.ts";
import {
  DEFAULT_ROLLOUT,
  type FallbackCondition,
  type FallbackStep,
  type Rollout,
} from "../../../src/domain/rollout.ts";
import { isInCanary } from "../../../src/domain/routing/canary.ts";
import type { RoutingWishes } from "../../../src/domain/routing-extension.ts";
import type { WorkspaceAgents } from "../../../src/services/agent-directory.ts";
import { emptyBecause, findWithFallback, nextInChain, type Quest } from "../../../src/services/routing/fallback.ts";
import type { CutReason } from "../../../src/services/routing/offers.ts";
import type { Search } from "../../../src/services/routing/searches.ts";
import type { AgentRecord } from "../../../src/store/agent-repository.ts";

const ALL: readonly FallbackCondition[] = ["NO_CANDIDATE", "UNAVAILABLE", "FULL", "FAILED"];

/** An agent, what it can do, and how it is. */
interface Described {
  capabilities: string[];
  version?: string;
  local?: boolean;
  full?: boolean;
  /** Costs more than the message may. */
  dear?: boolean;
}

function world(described: Record<string, Described>, rollouts: Record<string, Partial<Rollout>> = {}) {
  const card = create(AgentCardSchema);
  const byId = new Map<string, AgentRecord>();
  const capabilities = new Map<string, Capability[]>();
  const byCapability = new Map<string, { agent: AgentRecord; capability: Capability }[]>();
  for (const [agentId, { capabilities: ids, version, dear }] of Object.entries(described)) {
    const agent = { agentId, card } as AgentRecord;
    byId.set(agentId, agent);
    const offered = ids.map(
      (id): Capability => ({
        ...capabilityOfSkill(agentId, card, create(AgentSkillSchema, { id, name: id }))!,
        tags: [],
        inputModes: [],
        labels: version === undefined ? {} : { version },
        costMicros: dear ? 2 : 1,
      }),
    );
    capabilities.set(agentId, offered);
    for (const capability of offered) {
      const { capabilityId } = capability;
      byCapability.set(capabilityId, [...(byCapability.get(capabilityId) ?? []), { agent, capability }]);
    }
  }
  const deps = {
    rollouts: {
      of: (_: string, id: string | undefined) => ({ ...DEFAULT_ROLLOUT, ...(rollouts[id ?? ""] ?? rollouts[""]) }),
      owns: () => false,
      load: () => undefined,
      changed() {},
    },
    isLocal: ({ agentId }: AgentRecord) => described[agentId]!.local === true,
    isFull: (_: string, { agent }: { agent: AgentRecord }) => described[agent.agentId]!.full === true,
  };
  const agents = { byId, capabilities, byCapability } as unknown as WorkspaceAgents;
  const quest = (wishes: RoutingWishes = {}, key = "context"): Quest => ({
    workspaceId: "default",
    agents,
    ask: { message: create(MessageSchema), extensions: [], wishes: { maxCostMicros: 1, ...wishes } },
    key,
  });
  const search = (capabilityId: string): Search => ({
    source: RouteSource.TENANT,
    capabilityId,
    offers: byCapability.get(capabilityId) ?? [],
  });
  const find = (capabilityId: string, wishes?: RoutingWishes, key?: string) => {
    const { steered, by } = findWithFallback(deps, quest(wishes, key), search(capabilityId));
    return {
      fit: steered.fit.map(({ agent }) => agent.agentId),
      cuts: Object.fromEntries(steered.cuts.map(({ reason, agentIds }) => [reason, agentIds])),
      ...(by && { by: by.condition }),
      canary: steered.canary,
    };
  };
  return { deps, quest, search, find };
}

const to = (target: string, ...conditions: FallbackCondition[]): FallbackStep => ({
  ...(target.startsWith("a.") ? { agentId: target.slice(2) } : { capabilityId: target.slice(2) }),
  conditions: conditions.length > 0 ? conditions : ALL,
});

const fly = (more: Omit<Described, "capabilities"> = {}): Described => ({ capabilities: ["fly"], ...more });
const swim = (more: Omit<Described, "capabilities"> = {}): Described => ({ capabilities: ["swim"], ...more });

describe("the route mode", () => {
  const agents = { here: fly({ local: true }), there: fly() };

  test("is what the message says, else the default; and a rollback beats both", () => {
    expect(world(agents).find("fly").fit).toEqual(["here", "there"]);
    expect(world(agents).find("fly", { routeMode: "LOCAL" })).toMatchObject({
      fit: ["here"],
      cuts: { ROUTE_MODE: ["there"] },
    });
    const remote = world(agents, { fly: { routeModeDefault: "REMOTE" } });
    expect(remote.find("fly").fit).toEqual(["there"]);
    expect(remote.find("fly", { routeMode: "AUTO" }).fit).toEqual(["here", "there"]);
    const rolledBack = world(agents, { fly: { routeModeDefault: "REMOTE", rollbackToLocal: true } });
    expect(rolledBack.find("fly", { routeMode: "REMOTE" }).fit).toEqual(["here"]);
  });

  test("holds along the chain: a rollback of the capability is one of its fallbacks too", () => {
    const chain = { fly: { rollbackToLocal: true, fallbackChain: [to("a.far"), to("c.swim")] } };
    const { find } = world({ there: fly(), far: swim(), near: swim({ local: true }) }, chain);
    expect(find("fly")).toMatchObject({ fit: ["near"], cuts: { ROUTE_MODE: ["far"] }, by: "NO_CANDIDATE" });
  });
});

describe("a canary", () => {
  const agents = { old: fly({ version: "1" }), older: fly(), fresh: fly({ version: "2" }) };
  const canary = (percent: number, target: { agentId: string } | { version: string } = { version: "2" }) =>
    world(agents, { fly: { canary: { percent, target } } });

  test("gets its share alone, and the others theirs", () => {
    expect(canary(100).find("fly")).toEqual({ fit: ["fresh"], cuts: { CANARY: ["old", "older"] }, canary: true });
    expect(canary(0).find("fly")).toEqual({ fit: ["old", "older"], cuts: { CANARY: ["fresh"] }, canary: false });
    expect(canary(100, { agentId: "older" }).find("fly").fit).toEqual(["older"]);
  });

  test("and the others stand in for each other when nobody else fits", () => {
    expect(world({ old: fly() }, { fly: { canary: { percent: 100, target: { version: "2" } } } }).find("fly")).toEqual({
      fit: ["old"],
      cuts: {},
      canary: false,
    });
    const lone = world(
      { old: fly({ dear: true }), fresh: fly({ version: "2" }) },
      {
        fly: { canary: { percent: 0, target: { version: "2" } } },
      },
    );
    expect(lone.find("fly")).toEqual({ fit: ["fresh"], cuts: { MAX_COST: ["old"] }, canary: true });
  });

  test("has the contexts of its share", () => {
    fc.assert(
      fc.property(fc.string(), fc.integer({ min: 0, max: 100 }), (key, percent) => {
        expect(canary(percent).find("fly", {}, key).canary).toBe(isInCanary(key, "fly", percent));
      }),
    );
  });
});

describe("the fallback chain", () => {
  test("is asked when nobody fits, in its order, past those who do not fit either", () => {
    const chain = { fly: { fallbackChain: [to("c.nothing"), to("a.dear"), to("c.swim"), to("a.last")] } };
    const agents = { one: fly({ dear: true }), dear: fly({ dear: true }), fish: swim(), last: swim() };
    expect(world(agents, chain).find("fly")).toMatchObject({ fit: ["fish", "last"], by: "NO_CANDIDATE" });
  });

  test("is not asked as long as somebody fits and has room", () => {
    const { find } = world(
      { one: fly(), full: fly({ full: true }), other: swim() },
      {
        fly: { fallbackChain: [to("c.swim")] },
      },
    );
    expect(find("fly").fit).toEqual(["one", "full"]);
  });

  test("when all are full leads to who has room, and back when nobody has", () => {
    const agents = (full: boolean) => ({ one: fly({ full: true }), tight: swim({ full: true }), free: swim({ full }) });
    const chain = { fly: { fallbackChain: [to("a.tight", "FULL"), to("a.free", "FULL")] } };
    expect(world(agents(false), chain).find("fly")).toMatchObject({
      fit: ["free"],
      cuts: { FULL: ["one"] },
      by: "FULL",
    });
    expect(world(agents(true), chain).find("fly")).toEqual({ fit: ["one"], cuts: {}, canary: undefined });
    const other = { fly: { fallbackChain: [to("a.free", "NO_CANDIDATE")] } };
    expect(world(agents(false), other).find("fly").fit).toEqual(["one"]);
  });

  test("when nobody fits takes even who is full", () => {
    const chain = { fly: { fallbackChain: [to("a.tight"), to("a.tighter")] } };
    const { find } = world({ tight: swim({ full: true }), tighter: swim({ full: true }) }, chain);
    expect(find("fly")).toMatchObject({ fit: ["tight"], by: "NO_CANDIDATE" });
  });

  test("is the workspace's where a capability has none of its own, and never leads to itself", () => {
    const chain = { "": { fallbackChain: [to("c.fly"), to("c.swim")] } };
    expect(world({ one: fly({ dear: true }), fish: swim() }, chain).find("fly").fit).toEqual(["fish"]);
  });

  test("does not lead away from an agent that is named", () => {
    const { deps, quest, search } = world(
      { one: fly({ dear: true }), fish: swim() },
      {
        fly: { fallbackChain: [to("c.swim")] },
      },
    );
    expect(findWithFallback(deps, quest(), { ...search("fly"), isNamed: true }).steered.fit).toEqual([]);
  });

  test("passes over whom it is told to", () => {
    const { deps, quest, search } = world(
      { fish: swim(), last: swim() },
      {
        fly: { fallbackChain: [to("c.swim", "FAILED"), to("a.last", "FULL")] },
      },
    );
    const next = (...exclude: string[]) =>
      nextInChain(deps, quest(), search("fly"), "FAILED", new Set(exclude))?.steered.fit.map(
        ({ agent }) => agent.agentId,
      );
    expect(next("fish")).toEqual(["last"]);
    expect(next("fish", "last")).toBeUndefined();
  });

  test.each<[CutReason[], string]>([
    [[], "NO_CANDIDATE"],
    [["LABELS", "MAX_COST"], "NO_CANDIDATE"],
    [["LABELS", "EJECTED"], "UNAVAILABLE"],
    [["UNHEALTHY"], "UNAVAILABLE"],
    [["CIRCUIT_OPEN"], "UNAVAILABLE"],
  ])("when cut by %j: %s", (reasons, condition) => {
    const cuts = reasons.map((reason) => ({
      reason,
      agentIds: ["a"],
      refusal: undefined,
      ...(!["LABELS", "MAX_COST"].includes(reason) && { retryInMs: 1 }),
    }));
    expect(emptyBecause(cuts)).toBe(condition);
  });
});

describe("whatever the rollouts say", () => {
  const capability = fc.constantFrom("a", "b", "c");
  const agentId = fc.constantFrom("k", "l", "m", "n");
  const agent = fc.record({
    capabilities: fc.uniqueArray(capability, { maxLength: 3 }),
    version: fc.constantFrom("1", "2"),
    local: fc.boolean(),
    full: fc.boolean(),
    dear: fc.boolean(),
  });
  const step = fc.record({
    target: fc.oneof(
      capability.map((id) => `c.${id}`),
      agentId.map((id) => `a.${id}`),
    ),
    conditions: fc.subarray([...ALL], { minLength: 1 }),
  });
  const rollout = fc.record({
    canary: fc.option(
      fc.record({
        percent: fc.integer({ min: 0, max: 100 }),
        target: fc.constantFrom({ version: "2" }, { agentId: "k" }),
      }),
      { nil: undefined },
    ),
    rollbackToLocal: fc.boolean(),
    routeModeDefault: fc.constantFrom("AUTO", "LOCAL", "REMOTE"),
    fallbackChain: fc.array(step, { maxLength: 4 }).map((steps) => steps.map((s) => to(s.target, ...s.conditions))),
  }) as fc.Arbitrary<Partial<Rollout>>;

  test("the choice is among those who are named, fit, and are in place; and nobody fits only if nobody does", () => {
    fc.assert(
      fc.property(
        fc.dictionary(agentId, agent),
        fc.dictionary(fc.constantFrom("", "a", "b", "c"), rollout, { noNullPrototype: true }),
        capability,
        fc.string(),
        (agents, rollouts, asked, key) => {
          const { deps, quest, search } = world(agents, rollouts);
          const { steered, by } = findWithFallback(deps, quest({}, key), search(asked));
          const own = deps.rollouts.of("", asked);
          const named = by === undefined ? { capabilityId: asked } : by.step;
          if (by) {
            expect(own.fallbackChain).toContain(by.step);
            expect(by.step.conditions).toContain(by.condition);
          }
          const theirs = "capabilityId" in named ? deps.rollouts.of("", named.capabilityId) : own;
          const mode = own.rollbackToLocal || theirs.rollbackToLocal ? "LOCAL" : theirs.routeModeDefault;
          for (const { agent, capability } of steered.fit) {
            const { dear, local } = agents[agent.agentId]!;
            if ("agentId" in named) expect(agent.agentId).toBe(named.agentId);
            else expect(capability?.capabilityId).toBe(named.capabilityId);
            expect(dear && capability !== undefined).toBe(false);
            if (mode !== "AUTO") expect(local).toBe(mode === "LOCAL");
          }
          const could = (id: string) => {
            const { capabilities, dear, local } = agents[id]!;
            const inPlace = own.rollbackToLocal
              ? local
              : own.routeModeDefault === "AUTO" || local === (own.routeModeDefault === "LOCAL");
            return capabilities.includes(asked) && !dear && inPlace;
          };
          if (Object.keys(agents).some(could)) expect(steered.fit.length).toBeGreaterThan(0);
        },
      ),
      { numRuns: 1_000 },
    );
  });
});
