/** What each strategy promises beyond what every one does. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { mostInFlight } from "../../../src/domain/routing/affinity.ts";
import type { Candidate } from "../../../src/domain/routing/candidate.ts";
import { choose } from "../../../src/domain/routing/choose.ts";
import { expectedDelayMs } from "../../../src/domain/routing/lowest-latency.ts";
import { seededRandom } from "../../../src/domain/routing/seeded-random.ts";
import { DEFAULT_WEIGHTS, STRATEGY } from "../../../src/domain/routing/strategies.ts";
import { STRATEGIES, type StrategyName } from "../../../src/domain/routing/strategy.ts";
import { anyAgentId, anyCandidates, anySeed, candidate } from "./candidates.ts";

const OPTIONS = { key: "context", turn: 0, seed: 1, weights: DEFAULT_WEIGHTS };
const chosen = (candidates: readonly Candidate[], strategy: StrategyName, more: Partial<typeof OPTIONS> = {}) =>
  candidates[choose(candidates, strategy, { ...OPTIONS, ...more }).index]!.agentId;
const idle = (ids: readonly string[]) => ids.map((id) => candidate(id));
const anyIds = (minLength: number) => fc.uniqueArray(anyAgentId, { minLength, maxLength: 12 });

describe("round robin", () => {
  test("gives each as many turns as any other, or one more, from any turn on and in any order", () => {
    fc.assert(
      fc.property(anyIds(1), fc.nat({ max: 1e9 }), fc.nat({ max: 100 }), (ids, first, turns) => {
        const counts = new Map(ids.map((id) => [id, 0]));
        const among = idle(ids);
        for (let turn = first; turn < first + turns; turn++) {
          const id = chosen(turn % 2 ? among : among.toReversed(), "ROUND_ROBIN", { turn });
          counts.set(id, counts.get(id)! + 1);
        }
        expect(Math.max(...counts.values()) - Math.min(...counts.values())).toBeLessThanOrEqual(1);
      }),
    );
  });

  test("stays fair when one comes: those who stay differ by one for each stretch", () => {
    fc.assert(
      fc.property(anyIds(2), fc.array(fc.nat({ max: 30 }), { minLength: 2, maxLength: 6 }), (ids, stretches) => {
        const [comer, ...rest] = ids;
        const counts = new Map(rest.map((id) => [id, 0]));
        let turn = 0;
        stretches.forEach((length, i) => {
          const among = idle(i % 2 ? [comer!, ...rest] : rest);
          for (const end = turn + length; turn < end; turn++) {
            const id = chosen(among, "ROUND_ROBIN", { turn });
            if (id !== comer) counts.set(id, counts.get(id)! + 1);
          }
        });
        expect(Math.max(...counts.values()) - Math.min(...counts.values())).toBeLessThanOrEqual(stretches.length);
      }),
    );
  });

  test("passes the turn of a full agent to the next in the order", () => {
    const among = [candidate("a"), candidate("b", { inFlight: 1, maxConcurrency: 1 }), candidate("c")];
    expect([0, 1, 2].map((turn) => chosen(among, "ROUND_ROBIN", { turn }))).toEqual(["a", "c", "c"]);
  });
});

describe("affinity", () => {
  const KEYS = Array.from({ length: 2_000 }, (_, i) => `context-${i}`);
  const homes = (ids: readonly string[]) => KEYS.map((key) => chosen(idle(ids), "AFFINITY", { key }));

  test("moves only the keys of an agent that goes, and about its share of them all to one that comes", () => {
    fc.assert(
      fc.property(anyIds(2), (ids) => {
        const before = homes(ids);
        const after = homes(ids.slice(1));
        const moved = before.filter((home, i) => home !== after[i]);
        expect(new Set(moved).size).toBeLessThanOrEqual(1);
        expect(moved.every((home) => home === ids[0])).toBe(true);
        const fair = KEYS.length / ids.length;
        // Six standard deviations of the binomial distribution.
        expect(Math.abs(moved.length - fair)).toBeLessThan(6 * Math.sqrt(fair * (1 - 1 / ids.length)));
      }),
      { numRuns: 30 },
    );
  });

  test("keeps every agent within its bound, even when all has one key", () => {
    const anyKeys = fc.array(fc.constantFrom("one", "two", "three"), { minLength: 1, maxLength: 150 });
    fc.assert(
      fc.property(anyIds(1), anyKeys, (ids, keys) => {
        const loads = new Map(ids.map((id) => [id, 0]));
        keys.forEach((key, given) => {
          const among = ids.map((id) => candidate(id, { inFlight: loads.get(id)! }));
          const id = chosen(among, "AFFINITY", { key });
          loads.set(id, loads.get(id)! + 1);
          expect(loads.get(id)).toBeLessThanOrEqual(Math.ceil((1.25 * (given + 1)) / ids.length));
        });
      }),
    );
  });

  test("gives way to the next in the key's order, and comes back", () => {
    const ids = ["a", "b", "c", "d"];
    const home = chosen(idle(ids), "AFFINITY");
    const next = chosen(idle(ids.filter((id) => id !== home)), "AFFINITY");
    const with3 = ids.map((id) => candidate(id, { inFlight: id === home ? 3 : 0 }));
    expect(mostInFlight(with3.map(({ inFlight }) => inFlight))).toBe(2);
    expect(chosen(with3, "AFFINITY")).toBe(next);
    expect(chosen(with3, "AFFINITY", { seed: 99 })).toBe(next);
    expect(chosen(idle(ids), "AFFINITY")).toBe(home);
  });
});

describe("least load", () => {
  test("compares with the limit; who has none is compared as with the usual one", () => {
    const among = [
      candidate("small", { inFlight: 1, maxConcurrency: 2 }),
      candidate("large", { inFlight: 4, maxConcurrency: 10 }),
      candidate("open", { inFlight: 2 }),
    ];
    expect(STRATEGY.LEAST_LOAD(among, input())).toEqual([1, 0.5, 0.5]);
    expect(STRATEGY.LEAST_LOAD([candidate("a", { inFlight: 7 }), candidate("b")], input())).toEqual([8, 1]);
  });
});

describe("lowest latency", () => {
  test("counts what is in flight", () => {
    const fast = candidate("fast", { latencyMs: 100, inFlight: 5 });
    expect(chosen([fast, candidate("slow", { latencyMs: 500 })], "LOWEST_LATENCY")).toBe("slow");
    expect(chosen([fast, candidate("slow", { latencyMs: 700 })], "LOWEST_LATENCY")).toBe("fast");
  });

  test("tries an agent that nobody has measured once, and then waits for what it tells", () => {
    const known = candidate("known", { latencyMs: 60_000, inFlight: 50 });
    expect(chosen([known, candidate("new")], "LOWEST_LATENCY")).toBe("new");
    expect(chosen([known, candidate("new", { inFlight: 1 })], "LOWEST_LATENCY")).toBe("known");
    expect(chosen([known, candidate("new", { errorRate: 0.5 })], "LOWEST_LATENCY")).toBe("known");
  });
});

describe("reputation", () => {
  test("takes a new agent for one that does half of its tasks well", () => {
    const among = [candidate("known", { reputation: 0.4 }), candidate("new"), candidate("good", { reputation: 0.9 })];
    expect(STRATEGY.REPUTATION(among, input()).map((score) => Number(score.toFixed(9)))).toEqual([0.6, 0.5, 0.1]);
  });
});

describe("weighted score", () => {
  const anyWeights = fc.record({
    load: fc.nat({ max: 9 }),
    latency: fc.nat({ max: 9 }),
    cost: fc.nat({ max: 9 }),
    errors: fc.nat({ max: 9 }),
    reputation: fc.nat({ max: 9 }),
  });
  /** How each signal becomes worse. */
  const WORSE: Record<keyof typeof DEFAULT_WEIGHTS, (c: Candidate, by: number) => Partial<Candidate>> = {
    load: (c, by) => ({ inFlight: c.inFlight + Math.ceil(by * 100) }),
    latency: (c, by) => ({ latencyMs: c.latencyMs === undefined ? undefined : c.latencyMs + by * 1_000 }),
    cost: (c, by) => ({ costMicros: c.costMicros + Math.ceil(by * 1e6) }),
    errors: (c, by) => ({ errorRate: Math.min(1, c.errorRate + by) }),
    reputation: (c, by) => ({ reputation: Math.max(0, (c.reputation ?? 0.5) - by) }),
  };
  const anySignal = fc.constantFrom(...(Object.keys(WORSE) as (keyof typeof WORSE)[]));
  const anyStep = fc.double({ min: 0, max: 1, noNaN: true });

  test("never moves a candidate ahead of another when one of its signals becomes worse", () => {
    fc.assert(
      fc.property(anyCandidates, anyWeights, anySignal, anyStep, fc.nat(), (among, weights, signal, by, pick) => {
        const index = pick % among.length;
        const worse = among.with(index, { ...among[index]!, ...WORSE[signal](among[index]!, by) });
        const [before, after] = [among, worse].map((these) => STRATEGY.WEIGHTED_SCORE(these, { ...input(), weights }));
        expect(after![index]).toBeGreaterThanOrEqual(before![index]! - 1e-9);
        among.forEach((_, other) => {
          const lead = (scores: readonly number[]) => scores[index]! - scores[other]!;
          expect(lead(after!)).toBeGreaterThanOrEqual(lead(before!) - 1e-9);
        });
      }),
      { numRuns: 1_000 },
    );
  });

  test("counts the least cost that there is beside none", () => {
    const among = [candidate("free"), candidate("next to free", { costMicros: Number.MIN_VALUE })];
    const weights = { load: 0, latency: 0, cost: 1, errors: 0, reputation: 0 };
    expect(STRATEGY.WEIGHTED_SCORE(among, { ...input(), weights })).toEqual([0, 1]);
  });

  test("is from 0 to the sum of the weights", () => {
    fc.assert(
      fc.property(anyCandidates, anyWeights, (among, weights) => {
        const most = Object.values(weights).reduce((sum, weight) => sum + weight);
        for (const score of STRATEGY.WEIGHTED_SCORE(among, { ...input(), weights })) {
          expect(score).toBeGreaterThanOrEqual(0);
          expect(score).toBeLessThanOrEqual(most + 1e-9);
        }
      }),
    );
  });
});

describe("power of two", () => {
  test("draws two different ones, and takes the one with the shorter expected delay", () => {
    fc.assert(
      fc.property(anyCandidates, anySeed, (among, seed) => {
        const scores = STRATEGY.POWER_OF_TWO(among, { ...input(), random: seededRandom(seed) });
        expect(scores.toSorted()).toEqual(among.map((_, i) => Math.min(i, 2)));
        const [first, second] = [scores.indexOf(0), scores.indexOf(1)];
        if (second >= 0) {
          expect(expectedDelayMs(among[first]!)).toBeLessThanOrEqual(expectedDelayMs(among[second]!));
        }
      }),
      { numRuns: 300 },
    );
  });

  test("never takes the worst of several, and each other as often as it is the better of two", () => {
    const COUNT = 5;
    const among = Array.from({ length: COUNT }, (_, i) => candidate(`a${i}`, { latencyMs: 100, inFlight: i }));
    const SEEDS = 20_000;
    const taken = new Array<number>(COUNT).fill(0);
    for (let seed = 0; seed < SEEDS; seed++) taken[choose(among, "POWER_OF_TWO", { ...OPTIONS, seed }).index]!++;
    const pairs = (COUNT * (COUNT - 1)) / 2;
    expect(taken[COUNT - 1]).toBe(0);
    taken.forEach((times, i) => {
      expect(Math.abs(times / SEEDS - (COUNT - 1 - i) / pairs)).toBeLessThan(0.02);
    });
  });
});

test("every strategy has its name, and every name its strategy", () => {
  expect(Object.keys(STRATEGY)).toEqual([...STRATEGIES]);
});

function input() {
  return { key: "context", turn: 0, random: seededRandom(1), weights: DEFAULT_WEIGHTS };
}
