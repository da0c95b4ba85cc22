/** What holds of every strategy, and of choosing by its scores. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { best, choose } from "../../../src/domain/routing/choose.ts";
import { DEFAULT_WEIGHTS } from "../../../src/domain/routing/strategies.ts";
import { STRATEGIES } from "../../../src/domain/routing/strategy.ts";
import { anyCandidates, anySeed, anyStrategy, candidate, impossibleCandidates } from "./candidates.ts";

const options = { key: fc.string(), turn: fc.nat(), seed: anySeed, weights: fc.constant(DEFAULT_WEIGHTS) };
const anyOptions = fc.record(options);
const OPTIONS = { key: "context", turn: 0, seed: 1, weights: DEFAULT_WEIGHTS };
const isFull = (c: { inFlight: number; maxConcurrency: number | undefined }) =>
  c.maxConcurrency !== undefined && c.inFlight >= c.maxConcurrency;

describe("every strategy", () => {
  test("chooses one of the candidates, of the best score that one with room has", () => {
    fc.assert(
      fc.property(anyCandidates, anyStrategy, anyOptions, (candidates, strategy, options) => {
        const { index, scores } = choose(candidates, strategy, options);
        const chosen = candidates[index]!;
        expect(chosen).toBeDefined();
        expect(scores).toHaveLength(candidates.length);
        if (!candidates.every(isFull)) expect(isFull(chosen)).toBe(false);
        const rivals = scores.filter((_, i) => isFull(candidates[i]!) === isFull(chosen));
        expect(scores[index]).toBe(Math.min(...rivals));
      }),
      { numRuns: 500 },
    );
  });

  test("chooses the same again, with the same seed", () => {
    fc.assert(
      fc.property(anyCandidates, anyStrategy, anyOptions, (candidates, strategy, options) => {
        expect(choose(candidates, strategy, options)).toEqual(choose(structuredClone(candidates), strategy, options));
      }),
    );
  });

  test("gives scores that are numbers or Infinity, whatever the signals are", () => {
    fc.assert(
      fc.property(
        impossibleCandidates,
        anyStrategy,
        fc.record({ ...options, turn: fc.double() }),
        (candidates, strategy, options) => {
          const { index, scores } = choose(candidates, strategy, options);
          expect(candidates[index]).toBeDefined();
          for (const score of scores) expect(score).toBeGreaterThanOrEqual(0);
        },
      ),
      { numRuns: 1_000 },
    );
  });

  test("takes the one candidate that there is", () => {
    for (const strategy of STRATEGIES) expect(choose([candidate("lone")], strategy, OPTIONS).index).toBe(0);
  });
});

describe("choosing", () => {
  test("breaks ties by chance: each of the equal ones is taken about as often", () => {
    const candidates = ["a", "b", "c", "dear"].map((id) => candidate(id, { costMicros: id === "dear" ? 2 : 1 }));
    const taken = [0, 0, 0, 0];
    for (let seed = 0; seed < 3_000; seed++) taken[choose(candidates, "LOWEST_COST", { ...OPTIONS, seed }).index]!++;
    expect(taken[3]).toBe(0);
    // Six standard deviations of the binomial distribution, and the seeds are always the same.
    for (const times of taken.slice(0, 3)) expect(Math.abs(times - 1_000)).toBeLessThan(155);
  });

  test("takes a full one only when all are full", () => {
    const cheap = candidate("cheap", { costMicros: 1, inFlight: 2, maxConcurrency: 2 });
    const dear = candidate("dear", { costMicros: 9, inFlight: 1, maxConcurrency: 2 });
    expect(choose([cheap, dear], "LOWEST_COST", OPTIONS).index).toBe(1);
    expect(choose([cheap, { ...dear, inFlight: 2 }], "LOWEST_COST", OPTIONS).index).toBe(0);
  });

  test("takes, of full ones, the one whose queue is the shortest for its places", () => {
    const cheap = candidate("cheap", { costMicros: 1, inFlight: 2, maxConcurrency: 2, waiting: 4 });
    const large = candidate("large", { costMicros: 9, inFlight: 9, maxConcurrency: 5, waiting: 9 });
    expect(choose([cheap, large], "LOWEST_COST", OPTIONS).index).toBe(1);
    expect(choose([{ ...cheap, waiting: 3 }, large], "LOWEST_COST", OPTIONS).index).toBe(0);
    expect(choose([{ ...cheap, inFlight: 1 }, large], "LOWEST_COST", OPTIONS).index).toBe(0);
  });

  test("needs a candidate", () => {
    expect(() => choose([], "LOWEST_COST", OPTIONS)).toThrow(RangeError);
  });
});

describe("the best for the record", () => {
  test("are as many as asked for, in order, the chosen one first, and none is worse than one left out", () => {
    fc.assert(
      fc.property(
        anyCandidates,
        anyStrategy,
        anyOptions,
        fc.integer({ min: 1, max: 20 }),
        (candidates, strategy, options, most) => {
          const { index, scores } = choose(candidates, strategy, options);
          const found = best(candidates, scores, most, index);
          expect(found).toHaveLength(Math.min(most, candidates.length));
          expect(found[0]).toBe(index);
          const sorted = candidates
            .map((c, i) => [Number(isFull(c)), scores[i]!] as const)
            .sort((a, b) => a[0] - b[0] || a[1] - b[1]);
          expect(found.map((i) => [Number(isFull(candidates[i]!)), scores[i]])).toEqual(sorted.slice(0, most));
        },
      ),
      { numRuns: 300 },
    );
  });

  test("knows Infinity", () => {
    const candidates = ["a", "b", "c"].map((id) => candidate(id));
    expect(best(candidates, [Number.POSITIVE_INFINITY, 1, Number.POSITIVE_INFINITY], 3)).toEqual([1, 0, 2]);
  });
});
