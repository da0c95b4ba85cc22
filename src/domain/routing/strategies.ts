/** The strategies by name, and the weights that one of them takes. */
import type { FieldViolation } from "../errors.ts";
import { affinity } from "./affinity.ts";
import { leastLoad } from "./least-load.ts";
import { lowestCost } from "./lowest-cost.ts";
import { lowestLatency } from "./lowest-latency.ts";
import { powerOfTwo } from "./power-of-two.ts";
import { reputation } from "./reputation.ts";
import { roundRobin } from "./round-robin.ts";
import { STRATEGIES, type Strategy, type StrategyName, type Weights } from "./strategy.ts";
import { weightedScore } from "./weighted-score.ts";

export const STRATEGY: Readonly<Record<StrategyName, Strategy>> = {
  ROUND_ROBIN: roundRobin,
  LEAST_LOAD: leastLoad,
  LOWEST_COST: lowestCost,
  LOWEST_LATENCY: lowestLatency,
  AFFINITY: affinity,
  REPUTATION: reputation,
  WEIGHTED_SCORE: weightedScore,
  POWER_OF_TWO: powerOfTwo,
};

/** The strategy of that name, written as in STRATEGIES; undefined when there is none. */
export const strategyNamed = (text: string): StrategyName | undefined => STRATEGIES.find((name) => name === text);

/** Errors weigh as much as all the rest: an agent that always fails is no better for being idle, fast, cheap and trusted. */
export const DEFAULT_WEIGHTS: Weights = { load: 1, latency: 1, cost: 1, errors: 4, reputation: 1 };

/** Only the ratio of weights counts, so there is no need for greater ones. */
const GREATEST_WEIGHT = 1_000_000;

/** What is wrong with weights, by path under `field`; empty when they can be used. */
export function weightViolations(weights: Weights, field: string): FieldViolation[] {
  const signals = Object.keys(DEFAULT_WEIGHTS) as (keyof Weights)[];
  const unusable = signals.filter((signal) => !(weights[signal] >= 0 && weights[signal] <= GREATEST_WEIGHT));
  if (unusable.length > 0) {
    return unusable.map((signal) => ({
      field: `${field}.${signal}`,
      description: `must be a number from 0 to ${GREATEST_WEIGHT}`,
    }));
  }
  if (signals.some((signal) => weights[signal] > 0)) return [];
  return [{ field, description: `at least one of ${signals.join(", ")} must be more than 0` }];
}
