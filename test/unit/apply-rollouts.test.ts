/** What `signalbox apply` makes of a rollout that the server has, or has not. */
import { clone, create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { describe, expect, test } from "vitest";
import { type Rollout, RolloutSchema, RouteMode } from "../../gen/signalbox/v1/rollout_pb.ts";
import { readDescribed } from "../../src/cli/apply-file.ts";
import { rolloutItem } from "../../src/cli/apply-rollouts.ts";
import type { ConfigProblem } from "../../src/config/config-error.ts";
import type { SignalboxClient } from "../../src/sdk/client.ts";

/** A server's rollouts, kept in memory. It fills in defaults, as the contract lets it. */
function rolloutsInMemory() {
  const kept = new Map<string, Rollout>();
  const rollouts = {
    async getRollout({ capabilityId = "" }) {
      const rollout =
        kept.get(capabilityId) ?? create(RolloutSchema, { capabilityId, routeModeDefault: RouteMode.AUTO });
      return clone(RolloutSchema, rollout);
    },
    async updateRollout({ rollout }: { rollout: Rollout }) {
      const etag = `"${Number(rollout.etag.replaceAll('"', "")) + 1}"`;
      const thresholds = { errorRate: 0.05, p95Ms: 3000n, retryRate: 0.2, circuitOpenRate: 0.05 };
      const stored = create(RolloutSchema, { ...rollout, etag, updateTime: timestampFromDate(new Date()) });
      stored.alertThresholds ??= create(RolloutSchema, { alertThresholds: thresholds }).alertThresholds!;
      kept.set(rollout.capabilityId, stored);
      return stored;
    },
  };
  return { client: { rollouts } as unknown as SignalboxClient, kept };
}

function itemOf(yaml: string) {
  const problems: ConfigProblem[] = [];
  const [described] = readDescribed(yaml, "f.yaml", problems);
  const item = rolloutItem(described!, problems);
  expect(problems).toEqual([]);
  return item!;
}

const ESSAYS = `
kind: Rollout
metadata: {name: essays}
spec:
  canaryEnabled: true
  canaryPercent: 10
  canaryTarget: {version: "2"}
  hedging: {enabled: true}
  fallbackChain: [{agentId: writer}, {capabilityId: prose, conditions: [FALLBACK_CONDITION_FULL]}]
`;

test("is created, unchanged, and configured", async () => {
  const { client, kept } = rolloutsInMemory();
  const item = itemOf(ESSAYS);
  expect(item.name).toBe("rollout/essays");
  expect(await item.apply(client, true)).toBe("created");
  expect(kept.size).toBe(0);
  expect(await item.apply(client, false)).toBe("created");
  expect(await item.apply(client, false)).toBe("unchanged");
  const more = itemOf(ESSAYS.replace("10", "20"));
  expect(await more.apply(client, true)).toBe("configured");
  expect(await more.apply(client, false)).toBe("configured");
  expect(kept.get("essays")).toMatchObject({ canaryPercent: 20, etag: '"2"' });
  // What is no longer said has its default again.
  expect(await itemOf("kind: Rollout\nmetadata: {name: essays}").apply(client, false)).toBe("configured");
  expect(kept.get("essays")).toMatchObject({ canaryEnabled: false, fallbackChain: [] });
  expect(await itemOf("rollouts: [{rollbackToLocal: true}]").apply(client, false)).toBe("created");
  expect(kept.get("")).toMatchObject({ rollbackToLocal: true });
});

test("defaults that are said and defaults that are not are the same", async () => {
  const { client } = rolloutsInMemory();
  await itemOf("rollouts: [{hedging: {enabled: true}}]").apply(client, false);
  const said = `rollouts:
  - hedging: {enabled: true, quantile: 0.95, minDelayMs: 50}
    routeModeDefault: ROUTE_MODE_AUTO
    alertThresholds: {p95Ms: 3000, errorRate: 0.05}
    mirror: {}`;
  expect(await itemOf(said).apply(client, false)).toBe("unchanged");
  const other = itemOf("rollouts: [{hedging: {enabled: true, quantile: 0.9}}]");
  expect(await other.apply(client, false)).toBe("configured");
});

describe("mistakes", () => {
  test.each([
    ["rollouts: [{capabilityId: A_B}]", "f.yaml:1:13"],
    ["rollouts: [{etag: x}]", "f.yaml:1:13"],
    ["rollouts: [{canaryPercent: many}]", "f.yaml:1:13"],
    ["rollouts: [{fallbackChain: [{agentId: a, conditions: [SOMETIMES]}]}]", "f.yaml:1:55"],
  ])("of %s stand at %s", (yaml, where) => {
    const problems: ConfigProblem[] = [];
    const [described] = readDescribed(yaml, "f.yaml", problems);
    rolloutItem(described!, problems);
    expect(problems.map((problem) => problem.where)).toEqual([where]);
  });
});
