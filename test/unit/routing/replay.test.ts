/** What holds of replays: of one decision, of their sums, and of what is kept of a decision for them. */

import { fromBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type RouteDecision, RouteDecisionSchema, RouteSource } from "../../../gen/signalbox/v1/routing_pb.ts";
import { encode } from "../../../src/domain/encode.ts";
import { decimalOf, MAX_MICROS } from "../../../src/domain/money.ts";
import { newSignals } from "../../../src/domain/routing/agent-signals.ts";
import type { Candidate } from "../../../src/domain/routing/candidate.ts";
import { choose } from "../../../src/domain/routing/choose.ts";
import { createReplay, type Draft, type RecordedDecision, redecide } from "../../../src/domain/routing/replay.ts";
import { DEFAULT_WEIGHTS } from "../../../src/domain/routing/strategies.ts";
import type { StrategyName, Weights } from "../../../src/domain/routing/strategy.ts";
import { sameWeights, weightViolations } from "../../../src/domain/routing/weights.ts";
import { anonymousPrincipal } from "../../../src/services/identity/authenticator.ts";
import { decide } from "../../../src/services/routing/decide.ts";
import type { Possible } from "../../../src/services/routing/offers.ts";
import { createReplayRoutes } from "../../../src/services/routing/replay-routes.ts";
import { systemRuntime } from "../../../src/services/runtime.ts";
import { trustAll } from "../../../src/services/trust.ts";
import { anyQueues, anySeed, anyStrategy, candidate } from "./candidates.ts";

const anyWeight = fc.oneof(fc.constant(0), fc.double({ min: 0, max: 1000, noNaN: true }));
const anyWeights: fc.Arbitrary<Weights> = fc
  .record({ load: anyWeight, latency: anyWeight, cost: anyWeight, errors: anyWeight, reputation: anyWeight })
  .filter((weights) => weightViolations(weights, "").length === 0);

/** A decision as the router makes it: by `choose`, from candidates in the order of their ids, of which the best are kept. */
const anyDecision: fc.Arbitrary<RecordedDecision> = fc
  .record({
    candidates: anyQueues,
    strategy: anyStrategy,
    key: fc.string(),
    turn: fc.nat(),
    seed: anySeed,
    weights: anyWeights,
    kept: fc.integer({ min: 1, max: 30 }),
    shuffle: fc.infiniteStream(fc.double({ noNaN: true })),
  })
  .map(({ candidates, strategy, kept, shuffle, ...options }) => {
    const sorted = candidates.toSorted((a, b) => (a.agentId < b.agentId ? -1 : 1));
    const { index } = choose(sorted, strategy, options);
    const chosen = sorted[index]!;
    const others = sorted.filter((each) => each !== chosen);
    const order = new Map(others.map((each) => [each, shuffle.next().value]));
    return {
      ...options,
      agentId: chosen.agentId,
      strategy: sorted.length > 1 ? strategy : undefined,
      weights: strategy === "WEIGHTED_SCORE" ? options.weights : undefined,
      candidates: [chosen, ...others.sort((a, b) => order.get(a)! - order.get(b)!)].slice(0, kept),
      candidateCount: sorted.length,
    };
  });

const anyDraft: fc.Arbitrary<Draft> = fc.record({
  strategy: fc.option(anyStrategy, { nil: undefined }),
  weights: fc.option(anyWeights, { nil: undefined }),
});

describe("one decision", () => {
  test("is the same again by the rules that made it", () => {
    fc.assert(
      fc.property(anyDecision, (decision) => {
        const { strategy, weights } = decision;
        expect(redecide(decision, { strategy, weights }, DEFAULT_WEIGHTS)?.after.agentId).toBe(decision.agentId);
        expect(redecide(decision, { strategy: undefined, weights: undefined }, DEFAULT_WEIGHTS)?.after.agentId).toBe(
          decision.agentId,
        );
      }),
      { numRuns: 1_000 },
    );
  });

  test("goes to one of the candidates that were kept, whatever the draft says, and to the same each time", () => {
    fc.assert(
      fc.property(anyDecision, anyDraft, (decision, draft) => {
        const choice = redecide(decision, draft, DEFAULT_WEIGHTS)!;
        expect(decision.candidates).toContain(choice.after);
        expect(choice.before.agentId).toBe(decision.agentId);
        const reversed = { ...decision, candidates: decision.candidates.toReversed() };
        expect(redecide(reversed, draft, DEFAULT_WEIGHTS)).toEqual(choice);
      }),
    );
  });

  test("with nothing to choose, or by a strategy that is not known here, stands", () => {
    const one = recorded({ candidates: [candidate("a")], candidateCount: 1, strategy: undefined });
    expect(redecide(one, { strategy: "LOWEST_COST", weights: undefined }, DEFAULT_WEIGHTS)?.after.agentId).toBe("a");
    const newer = recorded({ candidates: [candidate("a", { costMicros: 5 }), candidate("b")], strategy: undefined });
    expect(redecide(newer, { strategy: undefined, weights: undefined }, DEFAULT_WEIGHTS)?.after.agentId).toBe("a");
    expect(redecide(newer, { strategy: "LOWEST_COST", weights: undefined }, DEFAULT_WEIGHTS)?.after.agentId).toBe("b");
  });

  test("whose agent was not kept says nothing", () => {
    const draft = { strategy: "LOWEST_COST", weights: undefined } as const;
    expect(
      redecide(recorded({ agentId: "gone", candidates: [candidate("a")] }), draft, DEFAULT_WEIGHTS),
    ).toBeUndefined();
  });
});

describe("a replay", () => {
  test("by the rules that decided changes nothing, and expects what was to be expected", () => {
    fc.assert(
      fc.property(fc.array(anyDecision, { maxLength: 20 }), (decisions) => {
        const replay = createReplay({ strategy: undefined, weights: undefined }, DEFAULT_WEIGHTS);
        for (const decision of decisions) expect(replay.add(decision, undefined)).toBeUndefined();
        const result = replay.result();
        expect(result).toMatchObject({ decisions: decisions.length, changed: 0 });
        expect(result.after).toEqual(result.before);
        for (const { before, after } of result.shares) expect(after).toBe(before);
      }),
    );
  });

  test("counts each decision once, and money to the millionth", () => {
    const anyEnding = fc.option(fc.record({ completed: fc.boolean(), latencyMs: fc.nat() }), { nil: undefined });
    fc.assert(
      fc.property(fc.array(fc.tuple(anyDecision, anyEnding), { maxLength: 20 }), anyDraft, (tasks, draft) => {
        const replay = createReplay(draft, DEFAULT_WEIGHTS);
        const moved = tasks.map(([decision, ending]) => replay.add(decision, ending));
        const { decisions, changed, open, partial, before, after, unchanged, shares } = replay.result();
        const choices = tasks.map(([decision]) => redecide(decision, draft, DEFAULT_WEIGHTS)!);
        const sum = (costs: readonly Candidate[]) =>
          costs.reduce((all, { costMicros }) => all + BigInt(costMicros), 0n);
        expect(decisions).toBe(tasks.length);
        expect(changed).toBe(moved.filter(Boolean).length);
        expect(open).toBe(tasks.filter(([{ candidateCount }]) => candidateCount > 1).length);
        expect(partial).toBe(tasks.filter(([each]) => each.candidateCount > each.candidates.length).length);
        expect(before.costMicros).toBe(sum(choices.map((choice) => choice.before)));
        expect(after.costMicros).toBe(sum(choices.map((choice) => choice.after)));
        const stayed = choices.filter((_, i) => !moved[i] && tasks[i]![1]);
        expect(unchanged.ended).toBe(stayed.length);
        expect(unchanged.costMicros).toBe(sum(stayed.map((choice) => choice.before)));
        expect(shares.reduce((all, share) => all + share.before, 0)).toBe(tasks.length);
        expect(shares.reduce((all, share) => all + share.after, 0)).toBe(tasks.length);
        for (const { success, latencyMs } of [before, after]) {
          expect(success).toBeGreaterThanOrEqual(0);
          expect(success).toBeLessThanOrEqual(1);
          expect(latencyMs).toBeGreaterThanOrEqual(0);
        }
      }),
    );
  });

  test("adds more money than a number can hold", () => {
    const dear = recorded({ candidates: [candidate("a", { costMicros: MAX_MICROS })] });
    const replay = createReplay({ strategy: "LOWEST_COST", weights: undefined }, DEFAULT_WEIGHTS);
    for (let i = 0; i < 1001; i++) replay.add(dear, { completed: true, latencyMs: 7 });
    const { before, unchanged } = replay.result();
    expect(before.costMicros).toBe(1001n * BigInt(MAX_MICROS));
    expect(decimalOf(before.costMicros)).toBe("9016206453995.731991");
    expect(unchanged).toMatchObject({ ended: 1001, completed: 1001, latencyMs: 7 });
  });

  test("compares latencies only where both are known", () => {
    const replay = createReplay({ strategy: "LOWEST_COST", weights: undefined }, DEFAULT_WEIGHTS);
    const cheap = candidate("cheap", { latencyMs: 300 });
    const unknown = candidate("unknown");
    const dear = candidate("dear", { costMicros: 2, latencyMs: 100, errorRate: 0.5 });
    replay.add(recorded({ agentId: "dear", candidates: [dear, cheap] }), undefined);
    replay.add(recorded({ agentId: "dear", candidates: [dear, unknown] }), undefined);
    expect(replay.result()).toMatchObject({
      changed: 2,
      latencies: 1,
      before: { latencyMs: 100, success: 0.5 },
      after: { latencyMs: 300, success: 1 },
      shares: [
        { agentId: "dear", before: 2, after: 0 },
        { agentId: "cheap", before: 0, after: 1 },
        { agentId: "unknown", before: 0, after: 1 },
      ],
    });
  });
});

describe("what the router keeps", () => {
  const runtime = systemRuntime();
  const routing = { strategy: undefined, weights: DEFAULT_WEIGHTS, rejects: false, revision: 7 };

  /** Decides as the router does, and gives what comes back from the database. */
  function decided(
    candidates: readonly Candidate[],
    strategy: StrategyName,
    weights: Weights,
    key: string,
    turn: number,
  ) {
    const sorted = candidates.toSorted((a, b) => (a.agentId < b.agentId ? -1 : 1));
    const fit = sorted.map(
      ({ agentId, maxConcurrency, costMicros }) =>
        ({ agent: { agentId }, capability: { capabilityId: "c", maxConcurrency, costMicros } }) as Possible,
    );
    const loads = new Map(sorted.map((each) => [each.agentId, each]));
    const { decision } = decide(
      {
        runtime,
        trust: trustAll,
        waitingAt: ({ agentId }) => loads.get(agentId)!.waiting ?? 0,
        loads: {
          of(_, agentId) {
            const { inFlight, latencyMs = -1, errorRate } = loads.get(agentId)!;
            const weight = errorRate === 0 ? 0 : 1;
            const seenAtMs = runtime.elapsedMs();
            return {
              inFlight,
              signals: { ...newSignals(), succeeded: 1, latencyMs, weight, failedWeight: errorRate, seenAtMs },
            };
          },
        },
      },
      {
        workspaceId: "default",
        source: RouteSource.TENANT,
        capabilityId: "c",
        strategy,
        settings: { ...routing, weights },
        key,
        turn,
        fit,
        cuts: [],
        matches: [],
        rollout: undefined,
      },
    );
    return fromBinary(RouteDecisionSchema, encode(RouteDecisionSchema, decision));
  }

  async function replayed(decision: RouteDecision, key: string, draft: { strategy: string }) {
    const replay = createReplayRoutes({
      settings: { of: async () => routing },
      runtime,
      readDecidedTasks: async () => [
        {
          taskId: "t",
          contextId: key,
          createdAt: new Date(),
          a2aState: 2,
          statusAt: new Date(),
          disclosed: true,
          seen: true,
          decision: encode(RouteDecisionSchema, decision),
        },
      ],
    });
    const context = {
      workspaceId: "default",
      principal: anonymousPrincipal("viewer"),
      signal: new AbortController().signal,
    } as never;
    return replay(context, { $typeName: "signalbox.v1.ReplayRoutesRequest", capabilityId: "", ...draft });
  }

  test("is enough to decide the same again, by every strategy", async () => {
    const few = anyQueues.map((candidates) => candidates.slice(0, 16));
    await fc.assert(
      fc.asyncProperty(
        few,
        anyStrategy,
        anyWeights,
        fc.string(),
        fc.nat(),
        async (candidates, strategy, weights, key, turn) => {
          const decision = decided(candidates, strategy, weights, key, turn);
          const answer = await replayed(decision, key, { strategy });
          expect(answer).toMatchObject({ decisionCount: 1, partialCount: 0, changedCount: 0 });
          expect(answer.openCount).toBe(candidates.length > 1 ? 1 : 0);
        },
      ),
      { numRuns: 300 },
    );
  });

  test("are the rules' version, and the weights where they count", () => {
    const two = [candidate("a"), candidate("b")];
    const weights = { load: 3, latency: 0, cost: 0.5, errors: 0, reputation: 0 };
    const weighted = decided(two, "WEIGHTED_SCORE", weights, "k", 5);
    expect(weighted).toMatchObject({ settingsRevision: 7, turn: 5, weights });
    const others = [
      decided(two, "LEAST_LOAD", weights, "k", 5),
      decided([candidate("a")], "WEIGHTED_SCORE", weights, "k", 5),
    ];
    expect(others.map((decision) => [decision.turn, decision.weights])).toEqual([
      [5, undefined],
      [0, undefined],
    ]);
  });

  test("knows a latency of nothing from one that is not known", () => {
    const [known, unknown] = decided(
      [candidate("a", { latencyMs: 0 }), candidate("b")],
      "LOWEST_LATENCY",
      DEFAULT_WEIGHTS,
      "k",
      0,
    ).candidates.toSorted((a, b) => (a.agentId < b.agentId ? -1 : 1));
    expect(known!.latencyMs).toBeGreaterThan(0);
    expect(unknown!.latencyMs).toBe(0);
  });
});

describe("weights", () => {
  const fields = (weights: Partial<Weights>) =>
    weightViolations({ load: 0, latency: 0, cost: 0, errors: 0, reputation: 0, ...weights }, "w").map(
      ({ field }) => field,
    );

  test("are numbers from 0 to 1000, not all 0", () => {
    expect(fields({ load: 1 })).toEqual([]);
    expect(fields({ load: 1000, cost: 0.001 })).toEqual([]);
    expect(fields({})).toEqual(["w"]);
    expect(fields({ load: -1, cost: Number.NaN, errors: Number.POSITIVE_INFINITY, reputation: 1000.1 })).toEqual([
      "w.load",
      "w.cost",
      "w.errors",
      "w.reputation",
    ]);
  });

  test("are the same when each is", () => {
    expect(sameWeights(DEFAULT_WEIGHTS, { ...DEFAULT_WEIGHTS })).toBe(true);
    expect(sameWeights(DEFAULT_WEIGHTS, { ...DEFAULT_WEIGHTS, cost: 1.5 })).toBe(false);
  });
});

function recorded(more: Partial<RecordedDecision>): RecordedDecision {
  const { candidates = [candidate("a"), candidate("b")] } = more;
  return {
    agentId: "a",
    strategy: "LEAST_LOAD",
    key: "context",
    turn: 0,
    seed: 1,
    weights: undefined,
    candidates,
    candidateCount: candidates.length,
    ...more,
  };
}
