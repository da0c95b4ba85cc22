/** What is known of agents on both databases: checks, heartbeats, circuits, outliers; and what replicas tell each other. */

import { create } from "@bufbuild/protobuf";
import { expect, it, test } from "vitest";
import { type AgentCard, AgentCardSchema, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { CircuitState } from "../../gen/signalbox/v1/registry_pb.ts";
import { SignalboxError } from "../../src/domain/errors.ts";
import type { TaskHeader } from "../../src/domain/task-log.ts";
import { AgentCallError, type FetchedCard } from "../../src/services/agent-port.ts";
import { type AgentWatch, type AgentWatchDeps, createAgentWatch } from "../../src/services/agent-watch.ts";
import { anonymousPrincipal } from "../../src/services/identity/authenticator.ts";
import type { RequestContext } from "../../src/services/request-context.ts";
import { isUnavailable, type Sifted, sift } from "../../src/services/routing/offers.ts";
import { type Runtime, systemRuntime } from "../../src/services/runtime.ts";
import { createAgentHealthRepository } from "../../src/store/agent-health-repository.ts";
import { createAgentRepository } from "../../src/store/agent-repository.ts";
import { createCapabilityRepository } from "../../src/store/capability-repository.ts";
import type { Database } from "../../src/store/database.ts";
import { createLeaseRepository } from "../../src/store/lease-repository.ts";
import { createSignalRepository } from "../../src/store/signal-repository.ts";
import { noAudit } from "../fixtures/no-audit.ts";
import { registerReplica } from "../fixtures/replica.ts";
import { describeEachBackend, silent } from "../store/backends.ts";
import { raw } from "../store/tables.ts";

const never = new AbortController().signal;
const context = { workspaceId: "default", principal: anonymousPrincipal("operator"), signal: never } as RequestContext;
const unreachable = new AgentCallError("unreachable", "Nobody there.");
const system = systemRuntime();

const cardOf = (name: string, description = "Does it."): AgentCard =>
  create(AgentCardSchema, {
    name,
    description,
    version: "1",
    supportedInterfaces: [{ url: `http://${name}.test/a2a`, protocolBinding: "JSONRPC", protocolVersion: "1.0" }],
    capabilities: {},
    skills: [{ id: "work", name: "Work", description: "Works." }],
  });

/** One replica's watch, with a clock that stands, and agents that answer as a test says. */
interface Lab extends AgentWatch {
  readonly replicaId: string;
  now: { ms: number };
  /** Agents that answer no check. */
  readonly down: Set<string>;
  /** Served at card URLs: undefined is 304. */
  served: FetchedCard | undefined | "gone";
  readonly forgotten: string[];
  /** Which of the agents that offer `work` could be given a task. */
  sifted(): Promise<Sifted>;
  fitting(): Promise<string[]>;
  check(agentId: string): ReturnType<AgentWatch["health"]["check"]>;
  task(agentId: string, state: TaskState): void;
}

async function openWatch(db: Database, differs: Partial<AgentWatchDeps> = {}): Promise<Lab> {
  const replicaId = await registerReplica(db);
  const now = { ms: 1_000_000 };
  const runtime: Runtime = { ...system, elapsedMs: () => now.ms, random: () => 0 };
  const down = new Set<string>();
  const forgotten: string[] = [];
  const lab: { served: Lab["served"] } = { served: undefined };
  const watch = createAgentWatch({
    verifier: { verify: async () => undefined },
    agents: createAgentRepository(db),
    capabilities: createCapabilityRepository(db),
    health: createAgentHealthRepository(db, { failures: 3 }),
    signals: createSignalRepository(db),
    audit: noAudit,
    connector: {
      pick: (card) => card.supportedInterfaces[0],
      connect: () => {
        throw new Error("nobody calls here");
      },
      forget: (_workspaceId, agentId) => forgotten.push(agentId),
      close: async () => {},
      async probe({ card: { name } }) {
        if (down.has(name)) throw unreachable;
      },
    },
    cards: {
      async fetch(url, { etag }) {
        if (lab.served === "gone")
          throw new SignalboxError({ code: "UNAVAILABLE", reason: "CARD_UNAVAILABLE", message: `No card at ${url}.` });
        expect(etag).toBe(lab.served === undefined ? "old" : etag);
        return lab.served;
      },
    },
    runtime,
    log: silent,
    replicaId: () => replicaId,
    circuit: { failures: 3, openMs: 1_000, openMaxMs: 8_000 },
    outlier: { maxEjectedPercent: 50, ejectionMs: 30_000, ejectionMaxMs: 300_000 },
    checks: { intervalMs: 30_000, timeoutMs: 1_000 },
    onCheck: () => {},
    ...differs,
  });
  const message = { parts: [] } as never;
  const sifted = async () => {
    watch.directory.changed("default");
    const offers = (await watch.directory.agents("default")).byCapability.get("work") ?? [];
    return sift(offers, { message, extensions: [], wishes: {}, troubles: watch.availability.troubles("default") });
  };
  return Object.assign(lab, watch, {
    replicaId,
    now,
    down,
    forgotten,
    sifted,
    fitting: async () => (await sifted()).fit.map(({ agent }) => agent.agentId),
    check: (agentId: string) => watch.health.check(context, agentId),
    task(agentId: string, state: TaskState) {
      const header = { workspaceId: "default", agentId, createdAt: new Date() } as TaskHeader;
      watch.loads.begin(header);
      watch.loads.end(header, state);
    },
  });
}

const ofTask = (agentId: string) => ({ workspaceId: "default", agentId });
const fails = (lab: Lab, agentId: string, times = 3) => {
  for (let i = 0; i < times; i++) lab.loads.failedCall(ofTask(agentId), unreachable);
};

describeEachBackend("the watch over agents", (backend) => {
  async function open(agentIds: readonly string[], differs: Partial<AgentWatchDeps> = {}): Promise<Lab> {
    await raw(backend.db, "delete from agents");
    for (const agentId of agentIds) await insert(agentId);
    return openWatch(backend.db, differs);
  }

  const insert = (agentId: string, source: { cardUrl?: string; cardEtag?: string } = {}, heartbeatTtlMs?: number) =>
    createAgentRepository(backend.db).insert(
      "default",
      agentId,
      {
        source: { card: cardOf(agentId), cardUrl: undefined, cardEtag: undefined, ...source },
        safeToRepeat: false,
        maxConcurrency: 0,
        heartbeatTtlMs,
      },
      new Date(),
    );

  it("cuts who fails three checks in a row, and takes back who passes one", async () => {
    const lab = await open(["one", "two"]);
    lab.down.add("one");
    expect(await lab.check("one")).toMatchObject({ healthy: true, failureCount: 1, reason: "Nobody there." });
    await lab.check("one");
    expect(await lab.fitting()).toEqual(["one", "two"]);
    const health = await lab.check("one");
    expect(health).toMatchObject({ healthy: false, failureCount: 3 });
    expect(health.lastCheckTime).toBeDefined();
    expect(health.lastSuccessTime).toBeUndefined();
    const { fit, cuts } = await lab.sifted();
    expect(fit.map(({ agent }) => agent.agentId)).toEqual(["two"]);
    expect(cuts).toMatchObject([{ reason: "UNHEALTHY", agentIds: ["one"] }]);
    lab.down.clear();
    expect(await lab.check("one")).toMatchObject({ healthy: true, failureCount: 0, reason: "" });
    expect(await lab.fitting()).toEqual(["one", "two"]);
    await expect(lab.check("nobody")).rejects.toMatchObject({ reason: "AGENT_NOT_FOUND" });
    await expect(lab.check("No Label")).rejects.toMatchObject({ reason: "AGENT_NOT_FOUND" });
  });

  it("tells who is only not available from who cannot take it", async () => {
    const lab = await open(["one", "two"]);
    lab.down.add("one").add("two");
    for (let i = 0; i < 3; i++) await Promise.all(["one", "two"].map(lab.check));
    const { fit, cuts } = await lab.sifted();
    expect(fit).toEqual([]);
    expect(isUnavailable(cuts)).toBe(true);
    expect(isUnavailable([{ reason: "LABELS", agentIds: ["one"], refusal: undefined }])).toBe(false);
  });

  it("heeds no check where checks are turned off, but heartbeats all the same", async () => {
    const lab = await open(["one"], { checks: { intervalMs: 0, timeoutMs: 1_000 } });
    lab.down.add("one");
    for (let i = 0; i < 3; i++) await lab.check("one");
    expect(await lab.fitting()).toEqual(["one"]);
    expect(await lab.health.of("default", "one")).toMatchObject({ healthy: true, failureCount: 3 });
    await lab.health.beat(context, { agentId: "one", ttlMs: 1_000 } as never);
    await raw(backend.db, "update agent_health set heartbeat_expires_at = now() - interval '1 second'");
    expect(await lab.fitting()).toEqual([]);
  });

  it("cuts who owes a heartbeat until it beats again", async () => {
    const lab = await open(["one"]);
    const beat = (agentId: string, ttlMs?: number) => lab.health.beat(context, { agentId, ttlMs } as never);
    await expect(beat("one")).rejects.toMatchObject({ violations: [{ field: "ttlMs" }] });
    await expect(beat("one", 999)).rejects.toMatchObject({ violations: [{ field: "ttlMs" }] });
    await expect(beat("one", 86_400_001)).rejects.toMatchObject({ violations: [{ field: "ttlMs" }] });
    await expect(beat("nobody", 1_000)).rejects.toMatchObject({ reason: "AGENT_NOT_FOUND" });
    expect(await lab.fitting()).toEqual(["one"]);
    expect(await beat("one", 60_000)).toMatchObject({ healthy: true, heartbeatTtlMs: 60_000 });
    expect(await lab.fitting()).toEqual(["one"]);
    // Whatever was read of it last: this replica knows the time.
    lab.now.ms += 61_000;
    expect(lab.availability.isHealthy("default", "one")).toBe(false);
    await raw(backend.db, "update agent_health set heartbeat_expires_at = now() - interval '1 second'");
    const { cuts } = await lab.sifted();
    expect(cuts).toMatchObject([{ reason: "UNHEALTHY", retryInMs: 5_000 }]);
    expect(await lab.health.of("default", "one")).toMatchObject({
      healthy: false,
      reason: "its heartbeat has expired",
    });
    expect(await beat("one")).toMatchObject({ healthy: true, heartbeatTtlMs: 60_000 });
    expect(await lab.fitting()).toEqual(["one"]);

    // It is over: none is owed, however late it is.
    const ended = await beat("one", 0);
    expect(ended).toMatchObject({ healthy: true, heartbeatTtlMs: 0 });
    expect(ended.heartbeatExpireTime).toBeUndefined();
    expect(await beat("one", 0)).toMatchObject({ heartbeatTtlMs: 0 });
    lab.now.ms += 86_400_000;
    expect(await lab.fitting()).toEqual(["one"]);
    await expect(beat("one")).rejects.toMatchObject({ violations: [{ field: "ttlMs" }] });

    await insert("two", {}, 5_000);
    expect(await lab.health.of("default", "two")).toMatchObject({ healthy: true, heartbeatTtlMs: 5_000 });
  });

  it("keeps a card as its server has it, and the old one where the new one will not do", async () => {
    const lab = await open([]);
    await insert("one", { cardUrl: "http://one.test/card.json", cardEtag: "old" });
    const agents = createAgentRepository(backend.db);
    const before = await agents.get("default", "one");
    const held = (await lab.directory.agents("default")).byId.get("one");
    // Served from where tasks are sent to: the card is the check.
    lab.down.add("one");
    expect(await lab.check("one")).toMatchObject({ healthy: true, reason: "" });
    expect(await agents.get("default", "one")).toEqual(before);
    // Who reads agents finds nothing changed by a check that found nothing.
    expect((await lab.directory.agents("default")).byId.get("one")).toBe(held);

    lab.served = { card: cardOf("one", "Does more."), etag: "new" };
    expect(await lab.check("one")).toMatchObject({ healthy: true });
    expect(await agents.get("default", "one")).toMatchObject({
      card: { description: "Does more." },
      cardEtag: "new",
      revision: before!.revision + 1,
    });
    expect(lab.forgotten).toEqual(["one"]);

    lab.served = { card: create(AgentCardSchema, { name: "one" }), etag: "broken" };
    const odd = await lab.check("one");
    expect(odd).toMatchObject({ healthy: true, failureCount: 0 });
    expect(odd.reason).toMatch(/^its card is not taken, and the one before stays: /);
    expect(await agents.get("default", "one")).toMatchObject({ card: { description: "Does more." }, cardEtag: "new" });

    lab.served = "gone";
    expect(await lab.check("one")).toMatchObject({ failureCount: 1, reason: "No card at http://one.test/card.json." });
  });

  it("asks the interface too where the card comes from elsewhere", async () => {
    const lab = await open([]);
    await insert("one", { cardUrl: "http://cards.test/one.json", cardEtag: "old" });
    lab.down.add("one");
    expect(await lab.check("one")).toMatchObject({ failureCount: 1, reason: "Nobody there." });
  });

  it("checks an agent where its new card says that it is, and forgets what the old address failed", async () => {
    const lab = await open([]);
    await insert("one", { cardUrl: "http://cards.test/one.json", cardEtag: "old" });
    lab.down.add("one");
    for (let i = 0; i < 3; i++) await lab.check("one");
    fails(lab, "one");
    expect(await lab.fitting()).toEqual([]);
    const peer = await openWatch(backend.db);
    expect(await peer.fitting()).toEqual([]);
    fails(peer, "one");

    const moved = { ...cardOf("one"), name: "moved" };
    moved.supportedInterfaces = cardOf("moved").supportedInterfaces;
    lab.served = { card: moved, etag: "new" };
    expect(await lab.check("one")).toMatchObject({ healthy: true, failureCount: 0, reason: "" });
    for (const each of [lab, peer]) {
      expect(await each.fitting()).toEqual(["one"]);
      expect(await each.health.of("default", "one")).toMatchObject({ circuitState: CircuitState.CLOSED });
    }
    // A card that says something else of the same address changes nothing of what is known of it.
    fails(lab, "one");
    lab.served = { card: { ...moved, description: "Does more." }, etag: "newer" };
    await lab.check("one");
    expect(await lab.fitting()).toEqual([]);
  });

  it("does not hear of a circuit of an address that an agent has left", async () => {
    await raw(backend.db, "truncate agent_signals, replicas cascade");
    const one = await open(["one"]);
    const two = await openWatch(backend.db);
    for (const lab of [one, two]) {
      lab.exchange.setPeers(1);
      await lab.fitting();
    }
    fails(two, "one");
    one.task("one", TaskState.COMPLETED);
    const before = (await one.directory.agents("default")).byId.get("one")!;
    const source = { card: cardOf("elsewhere"), cardUrl: undefined, cardEtag: undefined };
    await createAgentRepository(backend.db).update("default", "one", { source }, new Date());
    await one.cardRefresh.changed(before, source.card);
    expect(await one.fitting()).toEqual(["one"]);
    await two.exchange.turn();
    await one.exchange.turn();
    expect(await one.fitting()).toEqual(["one"]);
    expect(await two.fitting()).toEqual(["one"]);
  });

  it("gives each check that is due to one replica", async () => {
    const lab = await open(["one", "two", "three"]);
    await openWatch(backend.db);
    const health = createAgentHealthRepository(backend.db, { failures: 3 });
    expect(await health.untilDue(500)).toBe(0);
    const taken = await Promise.all([1, 2, 3].map(() => health.claimDue(2, 60_000)));
    const ids = taken.flat().map(({ agentId }) => agentId);
    // What is taken at the same moment is passed over, and comes with the next look.
    ids.push(...(await health.claimDue(9, 60_000)).map(({ agentId }) => agentId));
    expect(ids.toSorted()).toEqual(["one", "three", "two"]);
    expect(await health.claimDue(9, 60_000)).toEqual([]);
    expect(await health.untilDue(500)).toBe(500);
    await lab.health.recheck("default", "two");
    expect((await health.claimDue(9, 60_000)).map(({ agentId }) => agentId)).toEqual(["two"]);
  });

  it("opens a circuit, lets probes through, and closes it", async () => {
    const lab = await open(["one", "two"]);
    // What an agent refuses is an answer.
    fails(lab, "one", 2);
    lab.loads.failedCall(ofTask("one"), new AgentCallError("refused", "No.", { reason: "INVALID_PARAMS" }));
    fails(lab, "one", 2);
    expect(await lab.fitting()).toEqual(["one", "two"]);
    lab.loads.failedCall(ofTask("one"), new AgentCallError("refused", "Gone.", { reason: "HTTP_503" }));
    const { fit, cuts } = await lab.sifted();
    expect(fit.map(({ agent }) => agent.agentId)).toEqual(["two"]);
    expect(cuts).toMatchObject([{ reason: "CIRCUIT_OPEN", retryInMs: 1_000 }]);
    expect(await lab.health.of("default", "one")).toMatchObject({ healthy: true, circuitState: CircuitState.OPEN });
    // A check that passes does not close it.
    await lab.check("one");
    expect(await lab.fitting()).toEqual(["two"]);

    lab.now.ms += 1_000;
    expect(await lab.health.of("default", "one")).toMatchObject({ circuitState: CircuitState.HALF_OPEN });
    for (let probe = 0; probe < 2; probe++) {
      expect(await lab.fitting()).toEqual(["one", "two"]);
      lab.availability.chosen("default", "one");
    }
    expect(await lab.fitting()).toEqual(["two"]);
    lab.loads.answered(ofTask("one"));
    lab.task("one", TaskState.COMPLETED);
    expect(await lab.fitting()).toEqual(["one", "two"]);
    expect(await lab.health.of("default", "one")).toMatchObject({ circuitState: CircuitState.CLOSED });
    expect(lab.availability.troubles("default")).toBeUndefined();
  });

  it("passes over who fails what its peers do well, and takes it rather than nobody", async () => {
    const lab = await open(["bad", "good", "quiet"]);
    for (let i = 0; i < 10; i++) {
      lab.task("bad", TaskState.FAILED);
      lab.task("good", TaskState.COMPLETED);
    }
    await lab.exchange.turn();
    const { fit, cuts } = await lab.sifted();
    expect(fit.map(({ agent }) => agent.agentId)).toEqual(["good", "quiet"]);
    expect(cuts).toMatchObject([{ reason: "EJECTED", agentIds: ["bad"] }]);
    expect((await lab.health.of("default", "bad"))?.ejectedUntil).toBeDefined();
    expect(lab.gauges()).toContainEqual({
      workspaceId: "default",
      agentId: "bad",
      healthy: true,
      circuitOpen: false,
      ejected: true,
    });

    // The others go, one by one: who is left is taken, and nothing that could be is refused.
    fails(lab, "good");
    expect(await lab.fitting()).toEqual(["quiet"]);
    fails(lab, "quiet");
    expect(await lab.fitting()).toEqual(["bad"]);

    // When its time is over it comes back, and what it failed before is not held against it again.
    lab.now.ms += 31_000;
    expect(await lab.fitting()).toContain("bad");
    lab.task("bad", TaskState.FAILED);
    await lab.exchange.turn();
    expect(await lab.fitting()).toContain("bad");
    // Whoever fails on is passed over for longer.
    for (let i = 0; i < 6; i++) lab.task("bad", TaskState.FAILED);
    await lab.exchange.turn();
    lab.now.ms += 31_000;
    expect((await lab.sifted()).cuts).toMatchObject([{ reason: "EJECTED", agentIds: ["bad"] }]);
  });

  it("remembers nobody who has gone", async () => {
    const lab = await open(["one"]);
    await raw(backend.db, "delete from agents");
    expect(await raw(backend.db, "select * from agent_health")).toEqual([]);
    expect(await lab.health.of("default", "one")).toBeUndefined();
  });

  test("of an agent that is registered anew, or has gone, no replica holds anything against it", async () => {
    await raw(backend.db, "truncate agent_signals, replicas cascade");
    const one = await open(["worker", "other"]);
    const two = await openWatch(backend.db);
    for (const lab of [one, two]) lab.exchange.setPeers(1);
    const exchange = async () => {
      for (const lab of [one, two, one]) await lab.exchange.turn();
    };
    for (const lab of [one, two]) lab.task("worker", TaskState.COMPLETED);
    fails(two, "worker");
    await exchange();
    expect(await one.fitting()).toEqual(["other"]);
    expect(one.loads.of("default", "worker")?.signals.succeeded).toBe(2);

    await raw(backend.db, "delete from agents where agent_id = 'worker'");
    await insert("worker");
    // One of them is asked for a route; the other hears of it.
    expect(await one.fitting()).toEqual(["other", "worker"]);
    two.now.ms += 1_000;
    await exchange();
    expect(two.availability.troubles("default")).toBeUndefined();
    await exchange();
    for (const lab of [one, two]) {
      expect(lab.loads.of("default", "worker")?.signals).toMatchObject({ succeeded: 0, failed: 0 });
      expect(await lab.fitting()).toEqual(["other", "worker"]);
    }

    fails(one, "worker");
    expect(one.availability.known()).toEqual([ofTask("worker")]);
    await raw(backend.db, "delete from agents where agent_id = 'worker'");
    expect(await one.fitting()).toEqual(["other"]);
    expect(one.availability.known()).toEqual([]);
    expect(one.loads.breaker("default", "worker")).toBeUndefined();
  });

  test("two replicas know of an agent what both have seen, as long as both live", async () => {
    await raw(backend.db, "truncate agent_signals, replicas cascade");
    const one = await open(["worker", "other"]);
    const two = await openWatch(backend.db);
    two.now.ms = 5;
    for (const lab of [one, two]) lab.exchange.setPeers(1);
    const exchange = async () => {
      for (const lab of [one, two, one]) await lab.exchange.turn();
    };
    const begun = { workspaceId: "default", agentId: "worker", createdAt: new Date() } as TaskHeader;
    one.loads.begin(begun);
    for (let i = 0; i < 4; i++) one.task("worker", TaskState.COMPLETED);
    two.loads.begin(begun);
    two.loads.begin(begun);
    two.task("worker", TaskState.FAILED);
    await exchange();
    for (const lab of [one, two]) {
      const load = lab.loads.of("default", "worker");
      expect(load).toMatchObject({ inFlight: 3, signals: { succeeded: 4, failed: 1 } });
      expect(load?.signals.weight).toBeCloseTo(5, 1);
      expect(load?.signals.latencies?.weights.reduce((sum, weight) => sum + weight)).toBeCloseTo(4, 1);
    }

    // What one finds out, both know: the circuit, and who is an outlier.
    fails(one, "worker");
    await exchange();
    expect(await one.fitting()).toEqual(["other"]);
    expect(await two.fitting()).toEqual(["other"]);
    two.now.ms += 1_001;
    expect(await two.health.of("default", "worker")).toMatchObject({ circuitState: CircuitState.HALF_OPEN });

    // One that begins to be seen anew has nothing of what was told before it was known.
    one.loads.end(begun, TaskState.COMPLETED);
    await exchange();
    expect(two.loads.of("default", "worker")).toMatchObject({ inFlight: 2, signals: { succeeded: 5 } });

    await createLeaseRepository(backend.db).release(one.replicaId);
    await two.exchange.turn();
    expect(two.loads.of("default", "worker")).toMatchObject({ inFlight: 2, signals: { succeeded: 0, failed: 1 } });
    await createSignalRepository(backend.db).sweep(600_000);
    const left = await raw(backend.db, "select distinct replica_id from agent_signals");
    expect(left).toEqual([{ replica_id: two.replicaId }]);
  });
});
