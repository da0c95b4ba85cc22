/** The fold of outcomes into reputation: once each, in the order of the logs, whoever dies when. */
import { create } from "@bufbuild/protobuf";
import fc from "fast-check";
import { beforeEach, expect, it } from "vitest";
import { AgentCardSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { type AgentStandings, foldOutcome } from "../../src/domain/reputation/agent-standings.ts";
import { DEFAULT_TRUST_RULE as RULE } from "../../src/domain/reputation/trust-rule.ts";
import { EngineState } from "../../src/domain/task-state.ts";
import type { AgentDirectory, WorkspaceAgents } from "../../src/services/agent-directory.ts";
import { type Outbox, startOutbox } from "../../src/services/background/outbox.ts";
import { createReputationDuty, type OutcomeCounts } from "../../src/services/background/reputation-duty.ts";
import { createKnownStandings } from "../../src/services/known-standings.ts";
import { type Runtime, systemRuntime } from "../../src/services/runtime.ts";
import { createUpdateHub } from "../../src/services/update-hub.ts";
import { createLeaseRepository } from "../../src/store/lease-repository.ts";
import { createOutboxRepository } from "../../src/store/outbox-repository.ts";
import { createReputationRepository, type ReputationRepository } from "../../src/store/reputation-repository.ts";
import { defaultTrustRules } from "../fixtures/default-trust-rules.ts";
import { writeEndedTask } from "../fixtures/ended-tasks.ts";
import { registerReplica } from "../fixtures/replica.ts";
import { describeEachBackend, silent } from "../store/backends.ts";

const system = systemRuntime();
/** Rests are short. */
const runtime: Runtime = { ...system, wait: (ms, signal) => system.wait(Math.min(ms, 5), signal) };
const { ASSIGNED, COMPLETED, FAILED, CANCELED } = EngineState;

const T0 = Date.UTC(2026, 0, 1);
const card = create(AgentCardSchema);
const capabilities = new Map([["worker", [{ capabilityId: "work", maxLatencyMs: 100 }]]]);
const agents = { byId: new Map([["worker", { agentId: "worker", card }]]), capabilities } as unknown as WorkspaceAgents;
const directory: Pick<AgentDirectory, "agents"> = { agents: async () => agents };

/** How a task ends. */
const kind = fc.constantFrom("good", "slow", "bad", "rejected", "canceled", "again");
type Kind = typeof kind extends fc.Arbitrary<infer K> ? K : never;

const ENDS: Record<Kind, { state: EngineState; cause: string; atMs: number }> = {
  good: { state: COMPLETED, cause: "reported by the agent", atMs: 40 },
  slow: { state: COMPLETED, cause: "reported by the agent", atMs: 400 },
  bad: { state: FAILED, cause: "timeout: no word", atMs: 90 },
  rejected: { state: EngineState.REJECTED, cause: "reported by the agent", atMs: 3 },
  canceled: { state: CANCELED, cause: "canceled by its client", atMs: 5 },
  again: { state: COMPLETED, cause: "the result of task 1", atMs: 1 },
};

describeEachBackend("reputation", (context) => {
  let repository: ReputationRepository;
  let workspaceId: string;

  beforeEach(() => {
    repository = createReputationRepository(context.db);
    workspaceId = system.newId();
  });

  /** One of the replicas that would fold, with its own view of the database. */
  async function replica(fold: ReputationRepository["fold"] = repository.fold) {
    const replicaId = await registerReplica(context.db);
    const counted: OutcomeCounts[] = [];
    const duty = createReputationDuty({
      repository: { ...repository, fold },
      directory,
      rules: defaultTrustRules,
      runtime,
      onOutcomes: (counts) => void counted.push({ ...counts }),
    });
    const outbox: Outbox = await startOutbox({
      duties: [duty],
      repository: createOutboxRepository(context.db),
      hub: createUpdateHub(),
      runtime,
      log: silent,
      replicaId: () => replicaId,
      batch: { rows: 3, bytes: 1_000_000 },
    });
    return { replicaId, counted, outbox, die: () => createLeaseRepository(context.db).release(replicaId) };
  }

  async function end(how: Kind, atMs: number, capabilityId: string | null = "work"): Promise<void> {
    const acceptedAt = new Date(T0 + atMs);
    const rows = [{ state: ASSIGNED, kind: 1 }, ENDS[how]];
    await writeEndedTask(context.db.kysely, { workspaceId, agentId: "worker", capabilityId, acceptedAt, rows });
  }

  /** What must have come of the ends, in their order. */
  function expected(ends: readonly Kind[]): AgentStandings {
    const standings: AgentStandings = new Map();
    for (const [i, how] of ends.entries()) {
      const isGood = how === "good" || how === "slow";
      if (!isGood && how !== "bad") continue;
      const { atMs } = ENDS[how];
      const outcome = { agentId: "worker", capabilityId: "work", isGood, atMs: T0 + i * 1000 + atMs };
      foldOutcome(standings, { ...outcome, latencyMs: isGood ? atMs : undefined, isInSla: how === "good" }, RULE);
    }
    return standings;
  }

  const stored = async (): Promise<AgentStandings> =>
    new Map((await repository.ofAgent(workspaceId, "worker")).map((one) => [one.capabilityId, one.standing]));
  const countOf = (standings: AgentStandings) => {
    const { succeeded = 0, failed = 0 } = standings.get("") ?? {};
    return succeeded + failed;
  };

  /** Waits until all ends are behind whoever folds: the last one is, and they come in order. */
  async function settled(ends: Kind[]): Promise<void> {
    await end("good", ends.length * 1000);
    ends.push("good");
    const count = countOf(expected(ends));
    await expect.poll(async () => countOf(await stored()), { timeout: 20_000 }).toBeGreaterThanOrEqual(count);
  }

  it("is the fold of every end, once and in order, on two replicas that die, fail and lose answers", async () => {
    const chaos = fc.constantFrom("none", "none", "lost answer", "failure", "death");
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(kind, chaos), { minLength: 1, maxLength: 25 }), async (script) => {
        workspaceId = system.newId();
        let next: "lost answer" | "failure" | undefined;
        const fold: ReputationRepository["fold"] = async (...move) => {
          const wanted = next;
          next = undefined;
          if (wanted === "failure") throw new Error("the database said no");
          const done = await repository.fold(...move);
          if (wanted === "lost answer") throw new Error("the answer was lost");
          return done;
        };
        const running = [await replica(fold), await replica(fold)];
        const ends: Kind[] = [];
        try {
          for (const [how, what] of script) {
            if (what === "lost answer" || what === "failure") next = what;
            await end(how, ends.length * 1000);
            ends.push(how);
            if (what !== "death") continue;
            // Who has the cursor does not know that it is dead, and goes on.
            await running[0]!.die();
            running.push(await replica(fold));
            await running.shift()!.outbox.stop();
          }
          await settled(ends);
          expect(await stored()).toEqual(expected(ends));
        } finally {
          for (const { outbox } of running) await outbox.stop();
        }
      }),
      { numRuns: context.backend === "postgres" ? 6 : 2 },
    );
  });

  it("counts nothing for who was thought dead and was only slow", async () => {
    const stuck = Promise.withResolvers<void>();
    const reached = Promise.withResolvers<void>();
    const slow = await replica(async (...move) => {
      reached.resolve();
      await stuck.promise;
      return repository.fold(...move);
    });
    const ends: Kind[] = ["bad", "good"];
    for (const [i, how] of ends.entries()) await end(how, i * 1000);
    await reached.promise;
    await slow.die();
    const successor = await replica();
    await settled(ends);
    stuck.resolve();
    await slow.outbox.stop();
    await settled(ends);
    expect(await stored()).toEqual(expected(ends));
    expect(slow.counted).toEqual([]);
    expect(successor.counted.reduce((sum, { good, bad }) => sum + good + bad, 0)).toBe(4);
    await successor.outbox.stop();
  });

  it("is the same wherever it is read", async () => {
    const { outbox } = await replica();
    const ends: Kind[] = ["bad", "slow", "again", "rejected", "good"];
    for (const [i, how] of ends.entries()) await end(how, i * 1000);
    await settled(ends);
    await outbox.stop();
    const now = new Date(T0 + 3_600_000);
    const views = await Promise.all(
      [1, 2].map(async () => {
        const read = createKnownStandings({
          repository: createReputationRepository(context.db),
          runtime: { now: () => now, elapsedMs: system.elapsedMs },
          rules: defaultTrustRules,
          enforces: true,
        });
        await read.load(workspaceId);
        return ["worker", "nobody"].flatMap((agentId) => [
          read.standing(workspaceId, agentId, undefined),
          read.standing(workspaceId, agentId, "work"),
          read.score(workspaceId, agentId, "work"),
        ]);
      }),
    );
    expect(views[0]).toEqual(views[1]);
    expect(views[0]!.at(-1)).toBeUndefined();
  });
});
