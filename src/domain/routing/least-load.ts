/**
 * Least load: where a task finds the most room. In Linux Virtual Server's terms it is "shortest expected delay" (Zhang,
 * "Linux Virtual Server for Scalable Network Services", 2000), the weight being what an agent takes at once; joining the
 * shortest queue is optimal for equal agents (Winston, "Optimality of the shortest line discipline", 1977).
 */
import type { Candidate } from "./candidate.ts";
import { quantity } from "./quantity.ts";
import type { Strategy } from "./strategy.ts";

/** The share of its limit that an agent would have in flight with this task: (in flight + 1) / limit. */
export const leastLoad: Strategy = (candidates) => {
  const usual = usualLimit(candidates);
  return candidates.map((candidate) => loadOf(candidate, usual));
};

/** The load of an agent with one more task. One without a limit is compared as if it had the usual one. */
export const loadOf = ({ inFlight, maxConcurrency }: Candidate, usual: number): number =>
  (quantity(inFlight) + 1) / (maxConcurrency === undefined ? usual : limit(maxConcurrency));

/** The mean of the limits that there are; 1 when there are none, so that tasks in flight are compared as they are. */
export function usualLimit(candidates: readonly Candidate[]): number {
  let sum = 0;
  let count = 0;
  for (const { maxConcurrency } of candidates) {
    if (maxConcurrency === undefined) continue;
    sum += limit(maxConcurrency);
    count++;
  }
  return count === 0 ? 1 : sum / count;
}

/** Who takes less than one task at once takes one: a limit divides. */
const limit = (maxConcurrency: number): number => Math.max(1, quantity(maxConcurrency));
