/**
 * The power of two choices (Mitzenmacher, "The power of two choices in randomized load balancing", 2001): two agents drawn
 * by chance, and the less loaded of them. The longest queue is then exponentially shorter than by chance alone, and routers
 * that see the same old loads do not all run to the same agent, as they do when each takes the least loaded of all. Load is
 * weighted by latency, as in lowest-latency.ts.
 */
import { expectedDelayMs } from "./lowest-latency.ts";
import type { Strategy } from "./strategy.ts";

/** 0 for the less loaded of the two that were drawn, 1 for the other, 2 for the rest. */
export const powerOfTwo: Strategy = (candidates, { random }) => {
  const count = candidates.length;
  const scores = new Array<number>(count).fill(2);
  const one = Math.floor(random() * count);
  // Two different ones: the second is drawn from the rest.
  const ofTheRest = Math.floor(random() * (count - 1));
  const other = ofTheRest < one ? ofTheRest : ofTheRest + 1;
  scores[one] = 0;
  if (count === 1) return scores;
  const otherIsBetter = expectedDelayMs(candidates[other]!) < expectedDelayMs(candidates[one]!);
  scores[one] = otherIsBetter ? 1 : 0;
  scores[other] = otherIsBetter ? 0 : 1;
  return scores;
};
