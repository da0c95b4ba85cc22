/** What `/health/deep` makes of what its parts say. */
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { beforeAll, expect, test } from "vitest";
import { deepHealth, type HealthSources } from "../../src/transport/ops/deep-health.ts";

let port: number;
beforeAll(async () => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  port = (server.address() as AddressInfo).port;
  return () => void server.close();
});

const well = (): HealthSources => ({
  serving: () => true,
  database: async () => {},
  grpc: () => ({ host: "127.0.0.1", port }),
  lease: () => ({ replicaId: "r1", leftMs: 7_000.4 }),
  bus: () => ({ kind: "nats", connected: true }),
  outboxLag: async () => [{ duty: "push", rows: 3, seconds: 1 }],
  agents: async () => ({ registered: 2, unhealthy: [], circuitOpen: [], failing: [] }),
  audit: async () => ({ lag: { entries: 2, seconds: 0.4 }, faults: 0, faultyWorkspaces: [] }),
});

test("all is well", async () => {
  const ok = { status: "ok" };
  expect(await deepHealth(well())).toEqual({
    status: "ok",
    components: {
      server: ok,
      database: ok,
      grpcListener: ok,
      lease: { ...ok, replicaId: "r1", leftMs: 7000 },
      bus: { ...ok, kind: "nats", connected: true },
      outbox: { ...ok, duties: [{ duty: "push", rows: 3, seconds: 1 }] },
      agents: { ...ok, registered: 2 },
      audit: { ...ok, lag: { entries: 2, seconds: 0.4 }, faults: 0 },
    },
  });
});

test.each<[string, Partial<HealthSources>, object]>([
  ["a server that stops", { serving: () => false }, { server: { status: "unhealthy" } }],
  [
    "a database that is away",
    { database: () => Promise.reject(new Error("away")), outboxLag: () => Promise.reject(new Error("away")) },
    { database: { status: "unhealthy", reason: "away" }, outbox: { status: "unhealthy", reason: "away" } },
  ],
  [
    "a database that never answers",
    { database: () => new Promise(() => {}) },
    { database: { status: "unhealthy", reason: "no answer within 2000 ms" } },
  ],
  ["a closed listener", { grpc: () => ({ host: "127.0.0.1", port: 1 }) }, { grpcListener: { status: "unhealthy" } }],
  ["a lease that ran out", { lease: () => ({ replicaId: "r1", leftMs: -1 }) }, { lease: { status: "unhealthy" } }],
])("%s makes the whole unhealthy", async (_, bad, components) => {
  expect(await deepHealth({ ...well(), ...bad })).toMatchObject({ status: "unhealthy", components });
});

test.each<[string, Partial<HealthSources>, object]>([
  [
    "a duty that is behind",
    { outboxLag: async () => [{ duty: "push", rows: 1, seconds: 61 }] },
    { outbox: { status: "degraded", reason: "behind by more than 60 s: push" } },
  ],
  [
    "a bus that is away",
    { bus: () => ({ kind: "nats", connected: false }) },
    { bus: { status: "degraded", kind: "nats", connected: false } },
  ],
  [
    "an agent that fails",
    { agents: async () => ({ registered: 2, unhealthy: [], circuitOpen: [], failing: ["a"] }) },
    { agents: { status: "degraded", reason: "some fail most of their tasks", failing: ["a"] } },
  ],
  [
    "agents that fail their checks and cannot be reached",
    { agents: async () => ({ registered: 2, unhealthy: ["a"], circuitOpen: ["b"], failing: [] }) },
    {
      agents: {
        reason: "some fail their checks or owe a heartbeat; some could not be reached of late",
        unhealthy: ["a"],
        circuitOpen: ["b"],
      },
    },
  ],
  [
    "an audit log that nobody signs",
    { audit: async () => ({ lag: { entries: 2, seconds: 61 }, faults: 0, faultyWorkspaces: [] }) },
    { audit: { status: "degraded", reason: "behind by more than 60 s: has a server the key?" } },
  ],
  [
    "an audit log that is not intact",
    { audit: async () => ({ lag: { entries: 0, seconds: 0 }, faults: 1, faultyWorkspaces: ["default"] }) },
    { audit: { status: "degraded", faults: 1, workspaces: ["default"] } },
  ],
])("%s degrades it", async (_, bad, components) => {
  expect(await deepHealth({ ...well(), ...bad })).toMatchObject({ status: "degraded", components });
});
