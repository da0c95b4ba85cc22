/** What may be said of a rollout, each refusal by its field, and what follows from what was said. */
import { create, fromJson, type JsonValue } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { RolloutSchema } from "../../gen/signalbox/v1/rollout_pb.ts";
import { DEFAULT_ROLLOUT } from "../../src/domain/rollout.ts";
import {
  chainCycle,
  changed,
  rolloutOf,
  rolloutViolations,
  unknownPaths,
  withDefaults,
} from "../../src/domain/rollout-rules.ts";

const given = (json: JsonValue) => fromJson(RolloutSchema, json);
const fieldsOf = (json: JsonValue) => rolloutViolations(given(json)).map(({ field }) => field);

describe("a rollout is refused", () => {
  test.each<[string, JsonValue, string[]]>([
    ["a canary over 100", { canaryPercent: 101 }, ["rollout.canaryPercent"]],
    ["a canary below 0", { canaryPercent: -1 }, ["rollout.canaryPercent"]],
    ["a canary without a target", { canaryEnabled: true, canaryPercent: 5 }, ["rollout.canaryTarget"]],
    ["a canary of an empty target", { canaryEnabled: true, canaryTarget: {} }, ["rollout.canaryTarget"]],
    ["an agent that is no id", { canaryTarget: { agentId: "A b" } }, ["rollout.canaryTarget.agentId"]],
    ["an empty version", { canaryTarget: { version: "" } }, ["rollout.canaryTarget.version"]],
    ["a version that is too long", { canaryTarget: { version: "v".repeat(64) } }, ["rollout.canaryTarget.version"]],
    ["old keys of nobody", { dualEventWrite: true }, ["rollout.dualEventWrite"]],
    [
      "old keys of NONE",
      { dualEventWrite: true, compatibilityMode: "COMPATIBILITY_MODE_NONE" },
      ["rollout.dualEventWrite"],
    ],
    ["an unknown compatibility mode", { compatibilityMode: 7 }, ["rollout.compatibilityMode"]],
    ["an unknown route mode", { routeModeDefault: 7 }, ["rollout.routeModeDefault"]],
    ["nine steps", { fallbackChain: [..."abcdefghi"].map((agentId) => ({ agentId })) }, ["rollout.fallbackChain"]],
    ["a step to nobody", { fallbackChain: [{}] }, ["rollout.fallbackChain[0]"]],
    [
      "a step to what is no id",
      { fallbackChain: [{ agentId: "a" }, { capabilityId: "" }] },
      ["rollout.fallbackChain[1].capabilityId"],
    ],
    [
      "the same step twice",
      { fallbackChain: [{ agentId: "a" }, { capabilityId: "a" }, { agentId: "a" }] },
      ["rollout.fallbackChain[2].agentId"],
    ],
    [
      "a step to the capability itself",
      { capabilityId: "a", fallbackChain: [{ capabilityId: "a" }] },
      ["rollout.fallbackChain[0].capabilityId"],
    ],
    [
      "a condition that is none",
      { fallbackChain: [{ agentId: "a", conditions: ["FALLBACK_CONDITION_UNSPECIFIED"] }] },
      ["rollout.fallbackChain[0].conditions"],
    ],
    [
      "an unknown condition",
      { fallbackChain: [{ agentId: "a", conditions: [9] }] },
      ["rollout.fallbackChain[0].conditions"],
    ],
    [
      "thresholds out of their ranges",
      { alertThresholds: { errorRate: 1.1, p95Ms: "-1", retryRate: -0.1, circuitOpenRate: "NaN" } },
      ["errorRate", "retryRate", "circuitOpenRate", "p95Ms"].map((name) => `rollout.alertThresholds.${name}`),
    ],
    ["a mirror of nobody", { mirror: { percent: 10 } }, ["rollout.mirror.agentId"]],
    ["a mirror over 100", { mirror: { agentId: "a", percent: 101 } }, ["rollout.mirror.percent"]],
    ["a quantile below a half", { hedging: { quantile: 0.4 } }, ["rollout.hedging.quantile"]],
    ["a quantile of 1", { hedging: { quantile: 1 } }, ["rollout.hedging.quantile"]],
    ["a quantile that is no number", { hedging: { quantile: "NaN" } }, ["rollout.hedging.quantile"]],
    ["a delay over ten minutes", { hedging: { minDelayMs: "600001" } }, ["rollout.hedging.minDelayMs"]],
    ["a negative delay", { hedging: { minDelayMs: "-1" } }, ["rollout.hedging.minDelayMs"]],
  ])("for %s", (_, json, fields) => {
    expect(fieldsOf(json)).toEqual(fields);
  });

  test("for all of it at once", () => {
    expect(fieldsOf({ canaryPercent: 200, mirror: {}, hedging: { quantile: 2 } })).toHaveLength(3);
  });

  test("not for what is at its limits", () => {
    const json = {
      canaryEnabled: true,
      canaryPercent: 100,
      canaryTarget: { version: "v".repeat(63) },
      compatibilityMode: "COMPATIBILITY_MODE_A2A_0_3",
      dualEventWrite: true,
      routeModeDefault: "ROUTE_MODE_REMOTE",
      fallbackChain: [..."abcdefgh"].map((agentId) => ({ agentId })),
      alertThresholds: { errorRate: 1, p95Ms: "31536000000", retryRate: 1, circuitOpenRate: 1 },
      mirror: { agentId: "a", percent: 100 },
      hedging: { enabled: true, quantile: 0.999, minDelayMs: "600000" },
    };
    expect(fieldsOf(json)).toEqual([]);
    expect(fieldsOf({ hedging: { quantile: 0.5, minDelayMs: "1" } })).toEqual([]);
  });
});

describe("a mask", () => {
  test("changes what it names and nothing else", () => {
    const before = given({ canaryPercent: 5, rollbackToLocal: true, mirror: { agentId: "a", percent: 1 } });
    const change = given({ canaryPercent: 9, etag: "x", capabilityId: "other" });
    expect(changed(before, change, ["canary_percent"])).toEqual({ ...before, canaryPercent: 9 });
    expect(changed(before, change, ["mirror"]).mirror).toBeUndefined();
    const all = given({ canaryPercent: 9 });
    expect(changed(before, change, [])).toEqual({ ...all, mirror: undefined, canaryTarget: undefined });
    expect(changed(before, change, ["*"])).toEqual(changed(before, change, []));
  });

  test("names whole fields", () => {
    expect(unknownPaths(["canary_percent", "*", "etag", "capability_id", "hedging.enabled", "canaryPercent"])).toEqual([
      "etag",
      "capability_id",
      "hedging.enabled",
      "canaryPercent",
    ]);
  });
});

describe("cyclic chains", () => {
  const cycle = (chains: Record<string, string[]>, from: string) => chainCycle(new Map(Object.entries(chains)), from);

  test("are found with the way they take", () => {
    expect(cycle({ a: ["b"], b: ["a"] }, "a")).toEqual(["a", "b", "a"]);
    expect(cycle({ a: ["x", "b"], b: ["c"], c: ["y", "a"] }, "a")).toEqual(["a", "b", "c", "a"]);
    expect(cycle({ a: ["b", "c"], b: ["d"], c: ["d"] }, "a")).toBeUndefined();
    // One of which it is no part was there before.
    expect(cycle({ a: ["b"], b: ["c"], c: ["b"] }, "a")).toBeUndefined();
  });

  test("are found exactly where a walk comes back", () => {
    const id = fc.constantFrom(..."abcdef");
    const chains = fc.dictionary(id, fc.uniqueArray(id, { maxLength: 3 }));
    fc.assert(
      fc.property(chains, id, (graph, from) => {
        const reached = new Set<string>();
        const walk = (at: string) => {
          for (const next of graph[at] ?? []) {
            if (reached.has(next)) continue;
            reached.add(next);
            walk(next);
          }
        };
        walk(from);
        const found = cycle(graph, from);
        expect(found !== undefined).toBe(reached.has(from));
        if (!found) return;
        expect([found[0], found.at(-1)]).toEqual([from, from]);
        for (let i = 1; i < found.length; i++) expect(graph[found[i - 1]!]).toContain(found[i]);
      }),
      { numRuns: 500 },
    );
  });
});

describe("what follows from it", () => {
  test("of nothing, the defaults", () => {
    const nothing = create(RolloutSchema);
    expect(rolloutOf(nothing)).toEqual(DEFAULT_ROLLOUT);
    expect(withDefaults(nothing)).toMatchObject({
      compatibilityMode: 1,
      routeModeDefault: 1,
      alertThresholds: { errorRate: 0.05, p95Ms: 3000n, retryRate: 0.2, circuitOpenRate: 0.05 },
      hedging: undefined,
    });
  });

  test("of all, all", () => {
    const json = {
      canaryEnabled: true,
      canaryPercent: 30,
      canaryTarget: { version: "2" },
      rollbackToLocal: true,
      compatibilityMode: "COMPATIBILITY_MODE_A2A_0_3",
      dualEventWrite: true,
      routeModeDefault: "ROUTE_MODE_LOCAL",
      fallbackChain: [{ agentId: "a", conditions: ["FALLBACK_CONDITION_FULL"] }, { capabilityId: "c" }],
      alertThresholds: { p95Ms: "100" },
      mirror: { agentId: "m", percent: 7 },
      hedging: { enabled: true },
    };
    expect(rolloutOf(given(json))).toEqual({
      canary: { percent: 30, target: { version: "2" } },
      rollbackToLocal: true,
      compatibilityMode: "A2A_0_3",
      dualEventWrite: true,
      routeModeDefault: "LOCAL",
      fallbackChain: [
        { agentId: "a", conditions: ["FULL"] },
        { capabilityId: "c", conditions: ["NO_CANDIDATE", "UNAVAILABLE", "FULL", "FAILED"] },
      ],
      alertThresholds: { errorRate: 0.05, p95Ms: 100, retryRate: 0.2, circuitOpenRate: 0.05 },
      mirror: { agentId: "m", percent: 7 },
      hedging: { quantile: 0.95, minDelayMs: 50 },
    });
    const off = given({ ...json, canaryEnabled: false, mirror: { agentId: "m" }, hedging: { quantile: 0.9 } });
    expect(rolloutOf(off)).toMatchObject({ canary: undefined, mirror: undefined, hedging: undefined });
  });
});
