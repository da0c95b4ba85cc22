/** The best of several offers, against looking at all of them. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { isWithin, type OfferLimits, selectOffer } from "../../src/domain/best-offer.ts";
import type { Candidate } from "../../src/domain/routing/candidate.ts";
import { STRATEGY } from "../../src/domain/routing/strategies.ts";
import type { StrategyName } from "../../src/domain/routing/strategy.ts";
import { anyCandidates, anySeed, anyStrategy, candidate } from "./routing/candidates.ts";

const WEIGHTS = { load: 1, latency: 1, cost: 1, errors: 4, reputation: 1 };
const OPTIONS = { key: "exchange", turn: 0, seed: 1, weights: WEIGHTS };
const anyLimits: fc.Arbitrary<OfferLimits> = fc.record({
  maxCostMicros: fc.option(fc.nat({ max: 1e9 }), { nil: undefined }),
  maxLatencyMs: fc.option(fc.integer({ min: 1, max: 1e6 }), { nil: undefined }),
});
const isFull = ({ inFlight, maxConcurrency }: Candidate) => maxConcurrency !== undefined && inFlight >= maxConcurrency;

/** Everyone who may be selected: nobody within the limits who has as much room is better. */
function bruteForce(offers: readonly Candidate[], limits: OfferLimits, scores: readonly number[]): Set<string> {
  const within = offers.filter((offer) => isWithin(offer, limits));
  const room = within.some((offer) => !isFull(offer)) ? within.filter((offer) => !isFull(offer)) : within;
  const scoreOf = (offer: Candidate) => scores[within.indexOf(offer)]!;
  const least = Math.min(...room.map(scoreOf));
  return new Set(room.filter((offer) => scoreOf(offer) === least).map(({ agentId }) => agentId));
}

describe("the best offer", () => {
  test("is one that none beats, within the limits, by any strategy", () => {
    fc.assert(
      fc.property(anyCandidates, anyLimits, anyStrategy, anySeed, (offers, limits, strategy, seed) => {
        // Two that are drawn are no score of the offers alone.
        fc.pre(strategy !== "POWER_OF_TWO");
        const { chosen } = selectOffer(offers, limits, strategy, { ...OPTIONS, seed });
        const within = offers.filter((offer) => isWithin(offer, limits));
        if (within.length === 0) {
          expect(chosen).toBeUndefined();
          return;
        }
        const scores = STRATEGY[strategy](within, { ...OPTIONS, random: () => 0 });
        expect(bruteForce(offers, limits, scores)).toContain(offers[chosen!]!.agentId);
      }),
    );
  });

  test.each<[StrategyName, (offer: Candidate) => number]>([
    ["LOWEST_COST", ({ costMicros }) => costMicros],
    ["REPUTATION", ({ reputation }) => -(reputation ?? 0.5)],
  ])("by %s is the least of all that have room", (strategy, measure) => {
    fc.assert(
      fc.property(anyCandidates, anySeed, (offers, seed) => {
        const { chosen } = selectOffer(offers, {}, strategy, { ...OPTIONS, seed });
        const room = offers.some((offer) => !isFull(offer)) ? offers.filter((offer) => !isFull(offer)) : offers;
        expect(measure(offers[chosen!]!)).toBeCloseTo(Math.min(...room.map(measure)), 9);
      }),
    );
  });

  test("every offer is ranked once, those beyond the limits last and without a score", () => {
    fc.assert(
      fc.property(anyCandidates, anyLimits, anyStrategy, (offers, limits, strategy) => {
        const { order, scores, chosen } = selectOffer(offers, limits, strategy, OPTIONS);
        expect([...order].sort((a, b) => a - b)).toEqual(offers.map((_, i) => i));
        const within = order.map((i) => isWithin(offers[i]!, limits));
        expect(within).toEqual([...within].sort((a, b) => Number(b) - Number(a)));
        expect(scores.map((score) => score !== undefined)).toEqual(offers.map((offer) => isWithin(offer, limits)));
        expect(chosen).toBe(within[0] ? order[0] : undefined);
      }),
    );
  });

  test("with weights for cost alone is the cheapest", () => {
    fc.assert(
      fc.property(anyCandidates, (offers) => {
        const idle = offers.map((offer) => ({ ...offer, maxConcurrency: undefined }));
        const weights = { load: 0, latency: 0, cost: 1, errors: 0, reputation: 0 };
        const { chosen } = selectOffer(idle, {}, "WEIGHTED_SCORE", { ...OPTIONS, weights });
        const least = Math.min(...idle.map(({ costMicros }) => costMicros));
        expect(idle[chosen!]!.costMicros).toBe(least);
      }),
    );
  });

  test("says why", () => {
    const offers = [
      candidate("dear", { costMicros: 500_000, latencyMs: 10 }),
      candidate("cheap", { costMicros: 10_000, latencyMs: 900 }),
      candidate("slow", { costMicros: 0, latencyMs: 5_000 }),
    ];
    const { chosen, reasons } = selectOffer(offers, { maxLatencyMs: 1_000 }, "LOWEST_COST", OPTIONS);
    expect(offers[chosen!]!.agentId).toBe("cheap");
    expect(reasons).toEqual([
      '"cheap" is the best of 2 by LOWEST_COST: its score is 10000; less is better.',
      "None costs less than 0.01.",
      "1 offer is beyond the limits of the request.",
    ]);
    const none = selectOffer(offers, { maxCostMicros: 0, maxLatencyMs: 1 }, "LOWEST_COST", OPTIONS);
    expect(none).toMatchObject({ chosen: undefined, reasons: ["3 offers are beyond the limits of the request."] });
    const full = [candidate("a", { inFlight: 1, maxConcurrency: 1 }), candidate("b", { costMicros: 5 })];
    expect(selectOffer(full, {}, "LOWEST_COST", OPTIONS).reasons).toContain("Those with a better score have no room.");
    expect(selectOffer([candidate("a"), candidate("b")], {}, "LOWEST_COST", OPTIONS).reasons).toContain(
      "Chance chose among equals.",
    );
  });
});
