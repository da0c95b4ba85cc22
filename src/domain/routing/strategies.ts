/** The strategies by name, and the weights that one of them takes. */
import { affinity } from "./affinity.ts";
import { leastLoad } from "./least-load.ts";
import { lowestCost } from "./lowest-cost.ts";
import { lowestLatency } from "./lowest-latency.ts";
import { powerOfTwo } from "./power-of-two.ts";
import { reputation } from "./reputation.ts";
import { roundRobin } from "./round-robin.ts";
import type { Strategy, StrategyName, Weights } from "./strategy.ts";
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

/** Errors weigh as much as all the rest: an agent that always fails is no better for being idle, fast, cheap and trusted. */
export const DEFAULT_WEIGHTS: Weights = { load: 1, latency: 1, cost: 1, errors: 4, reputation: 1 };
