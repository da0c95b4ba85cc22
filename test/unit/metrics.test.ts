/** What a page of metrics shows of agents stays bounded. */
import { expect, test } from "vitest";
import { createMetrics, type MetricsSources } from "../../src/transport/ops/metrics.ts";

const open = (sources: Partial<MetricsSources> = {}) =>
  createMetrics({
    version: "1",
    backend: "pglite",
    runningTasks: () => 0,
    ready: () => true,
    replicas: () => 1,
    bus: () => ({ kind: "nats", connected: false }),
    waitingTasks: async () => 0,
    waitingAtAgents: () => 0,
    allotted: () => ({ granted: 0, held: 0 }),
    outboxLag: async () => [],
    retentionBehind: async () => ({ task: 0, artifact: 0 }),
    alerts: async () => [],
    policyFilesAreValid: () => true,
    agents: () => [],
    leastTrusted: () => [],
    budgets: async () => [],
    certificateEnd: () => undefined,
    audit: async () => ({ lag: { entries: 0, seconds: 0 }, verified: 0, faults: 0 }),
    ...sources,
  });
const transitionsOn = (page: string) =>
  new Map(
    [
      ...page.matchAll(/^signalbox_task_transitions_total\{workspace="w",agent="([^"]*)",state="([^"]*)"\} (\d+)$/gm),
    ].map(([, agent, state, count]) => [`${agent} ${state}`, Number(count)]),
  );

test("the agents that were longest without a transition are shown no more", async () => {
  const metrics = open();
  metrics.transition("w", "first", "working");
  metrics.transition("w", "steady", "working");
  expect(transitionsOn(await metrics.render()).size).toBe(2);
  for (let i = 0; i < 999; i++) metrics.transition("w", `agent-${i}`, "working");
  metrics.transition("w", "steady", "completed");
  const shown = transitionsOn(await metrics.render());
  expect(shown.size).toBe(1001);
  expect(shown.get("steady working")).toBe(1);
  expect(shown.get("steady completed")).toBe(1);
  expect(shown.has("first working")).toBe(false);
});

test("transitions are counted right, also of more agents than are shown, where nobody asks for pages", async () => {
  const metrics = open();
  for (let i = 0; i < 5_000; i++) for (let n = 0; n < 2; n++) metrics.transition("w", `agent-${i}`, "working");
  const shown = transitionsOn(await metrics.render());
  expect(shown.size).toBe(1000);
  expect(shown.get("agent-4999 working")).toBe(2);
});

test("agents of one id in two workspaces are shown beside each other", async () => {
  const leastTrusted = () => [
    { workspaceId: "a", agentId: "worker", trust: 0.1, score: 0.2 },
    { workspaceId: "b", agentId: "worker", trust: 0.9, score: 0.8 },
  ];
  const page = await open({ leastTrusted }).render();
  expect(page).toContain('signalbox_reputation_trust{workspace="a",agent="worker"} 0.1\n');
  expect(page).toContain('signalbox_reputation_trust{workspace="b",agent="worker"} 0.9\n');
  expect(page).toContain('signalbox_reputation_score{workspace="a",agent="worker"} 0.2\n');
});

test("the bus that carries hints is named, and whether it does", async () => {
  let connected = false;
  const metrics = open({ bus: () => ({ kind: "nats", connected }) });
  expect(await metrics.render()).toContain('signalbox_bus_connected{bus="nats"} 0\n');
  connected = true;
  expect(await metrics.render()).toContain('signalbox_bus_connected{bus="nats"} 1\n');
});

test("says how far retention is behind, and nothing where that is not known", async () => {
  const known = open({ retentionBehind: async () => ({ task: 12.5, artifact: 0 }) });
  known.retentionRemoved("task", 3);
  const page = await known.render();
  expect(page).toContain('signalbox_retention_behind_seconds{what="task"} 12.5\n');
  expect(page).toContain('signalbox_retention_behind_seconds{what="artifact"} 0\n');
  expect(page).toContain('signalbox_retention_removed_total{what="task"} 3\n');
  expect(page).toContain('signalbox_retention_removed_total{what="artifact"} 0\n');
  const away = open({ retentionBehind: () => Promise.reject(new Error("away")) });
  expect(await away.render()).not.toMatch(/^signalbox_retention_behind_seconds\{/m);
});
