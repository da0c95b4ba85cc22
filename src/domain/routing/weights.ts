/** What weights a workspace, or the draft of a replay, may give the signals of WEIGHTED_SCORE. */
import type { FieldViolation } from "../errors.ts";
import type { Weights } from "./strategy.ts";

/** Beyond it nothing is gained: only the proportion of weights matters. */
const MOST = 1_000;

export const SIGNALS = [
  "load",
  "latency",
  "cost",
  "errors",
  "reputation",
] as const satisfies readonly (keyof Weights)[];

/**
 * What is wrong with weights, with paths below `field`. They need not add up to 1, because what they weigh is normalised; but
 * each is a number from 0 to 1000, and with all of them 0 every agent would be as good as any other.
 */
export function weightViolations(weights: Weights, field: string): FieldViolation[] {
  const wrong = SIGNALS.filter((signal) => !(weights[signal] >= 0 && weights[signal] <= MOST));
  if (wrong.length > 0) {
    return wrong.map((signal) => ({ field: `${field}.${signal}`, description: `must be a number from 0 to ${MOST}` }));
  }
  if (SIGNALS.some((signal) => weights[signal] > 0)) return [];
  return [{ field, description: "are all 0, so that nothing tells agents apart; give at least one of them" }];
}

/** Whether two sets of weights are the same. */
export const sameWeights = (a: Weights, b: Weights): boolean => SIGNALS.every((signal) => a[signal] === b[signal]);
