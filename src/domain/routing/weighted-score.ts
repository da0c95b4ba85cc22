/**
 * Weighted score: simple additive weighting of normalised signals (Hwang and Yoon, "Multiple Attribute Decision Making",
 * 1981). Load, latency and cost have no natural end, so each is divided by the greatest among the candidates; that keeps
 * ratios, where stretching between least and greatest would make a millisecond count as much as an hour. Errors and
 * reputation are shares from 0 to 1 already, and stay: a last trace of an error must not weigh like an outage.
 *
 * A signal that becomes worse never moves its agent ahead of another.
 */
import type { Candidate } from "./candidate.ts";
import { loadOf, usualLimit } from "./least-load.ts";
import { quantity, share } from "./quantity.ts";
import { distrust } from "./reputation.ts";
import type { Strategy } from "./strategy.ts";

/** The weighted sum: 0 is best, the sum of the weights is worst. */
export const weightedScore: Strategy = (candidates, { weights }) => {
  const usual = usualLimit(candidates);
  const usualLatency = meanLatency(candidates);
  let [mostLoad, mostLatency, mostCost] = [0, 0, 0];
  for (const candidate of candidates) {
    mostLoad = Math.max(mostLoad, loadOf(candidate, usual));
    mostLatency = Math.max(mostLatency, latencyOf(candidate, usualLatency));
    mostCost = Math.max(mostCost, quantity(candidate.costMicros));
  }
  // Divided first: what a unit counts can be beyond all numbers, when the greatest is next to nothing.
  const [ofLoad, ofLatency, ofCost] = [mostLoad || 1, mostLatency || 1, mostCost || 1];
  return candidates.map(
    (candidate) =>
      weights.load * (loadOf(candidate, usual) / ofLoad) +
      weights.latency * (latencyOf(candidate, usualLatency) / ofLatency) +
      weights.cost * (quantity(candidate.costMicros) / ofCost) +
      weights.errors * share(candidate.errorRate) +
      weights.reputation * distrust(candidate),
  );
};

const latencyOf = ({ latencyMs }: Candidate, usual: number): number =>
  latencyMs === undefined ? usual : quantity(latencyMs);

/** What is unknown is taken to be as usual: the mean of the latencies that are known, 0 when none is. */
function meanLatency(candidates: readonly Candidate[]): number {
  let [sum, count] = [0, 0];
  for (const { latencyMs } of candidates) {
    if (latencyMs === undefined) continue;
    sum += quantity(latencyMs);
    count++;
  }
  return count === 0 ? 0 : sum / count;
}
