/**
 * How long an agent's tasks took lately, as a histogram: from it comes any quantile, where an average knows none. Buckets grow
 * by a constant factor (log-linear histograms, as in HdrHistogram), so that the error is a share of the value, the same for
 * milliseconds and for hours. What is a decay time old counts 1/e.
 *
 * Old counts are not made smaller; new ones weigh more (forward decay: Cormode, Shkapenyuk, Srivastava and Xu, ICDE 2009). So
 * an observation touches one bucket, and a quantile needs no decay at all: it is a matter of ratios.
 */

/** Buckets, from 1 ms to three hours. What lies beyond is in the first and in the last. */
export const LATENCY_BUCKETS = 40;
/** Each bucket is so much wider than the one before: a quantile is off by a fifth at most. */
const GROWTH = 1.5;
const LOG_GROWTH = Math.log(GROWTH);
/** After so long, what was seen counts 1/e. Quantiles need more tasks than an average, so it is longer than for that. */
export const QUANTILE_DECAY_MS = 300_000;
/** Of weights that have come so far, the landmark is moved: floating point has room for e^700. */
const MOST_DECAYS = 50;
/** What is left of tasks so long ago is no longer worth a quantile. */
const LEAST_WEIGHT = 0.01;

export interface LatencyHistogram {
  /** Weight in each bucket, as of `landmarkMs`. */
  readonly weights: number[];
  /** When something that is seen weighs 1. */
  landmarkMs: number;
}

/** Milliseconds of any one clock, as everywhere here. */
export const newHistogram = (nowMs: number): LatencyHistogram => ({
  weights: new Array<number>(LATENCY_BUCKETS).fill(0),
  landmarkMs: nowMs,
});

/** Takes in how long a task took. */
export function addLatency(histogram: LatencyHistogram, latencyMs: number, nowMs: number): void {
  if (nowMs - histogram.landmarkMs > MOST_DECAYS * QUANTILE_DECAY_MS) moveLandmark(histogram, nowMs);
  histogram.weights[bucketOf(latencyMs)]! += weightAt(histogram, nowMs);
}

/** Adds what another histogram holds. The order of additions does not matter, but for rounding. */
export function addHistogram(into: LatencyHistogram, from: LatencyHistogram): void {
  if (from.landmarkMs > into.landmarkMs) moveLandmark(into, from.landmarkMs);
  const share = Math.exp((from.landmarkMs - into.landmarkMs) / QUANTILE_DECAY_MS);
  for (let i = 0; i < LATENCY_BUCKETS; i++) into.weights[i]! += from.weights[i]! * share;
}

/**
 * The latency that the share `q` of the tasks did not exceed, in milliseconds, interpolated within its bucket; undefined when
 * nothing was seen lately. `q` from 0 to 1.
 */
export function quantileOf({ weights, landmarkMs }: LatencyHistogram, q: number, nowMs: number): number | undefined {
  let total = 0;
  for (let i = 0; i < LATENCY_BUCKETS; i++) total += weights[i]!;
  if (total * Math.exp(Math.min(0, (landmarkMs - nowMs) / QUANTILE_DECAY_MS)) < LEAST_WEIGHT) return undefined;
  let left = Math.min(1, Math.max(0, q)) * total;
  let last = 0;
  for (let i = 0; i < LATENCY_BUCKETS; i++) {
    const weight = weights[i]!;
    if (weight === 0) continue;
    if (left <= weight) return lowerBound(i) * GROWTH ** (left / weight);
    left -= weight;
    last = i;
  }
  // Rounding has left a little over.
  return lowerBound(last + 1);
}

const bucketOf = (latencyMs: number): number =>
  latencyMs > 1 ? Math.min(LATENCY_BUCKETS - 1, Math.floor(Math.log(latencyMs) / LOG_GROWTH)) : 0;

const lowerBound = (bucket: number): number => GROWTH ** bucket;

/** A clock that went back counts as one that stood. */
const weightAt = ({ landmarkMs }: LatencyHistogram, nowMs: number): number =>
  Math.exp(Math.max(0, nowMs - landmarkMs) / QUANTILE_DECAY_MS);

function moveLandmark(histogram: LatencyHistogram, toMs: number): void {
  const kept = Math.exp((histogram.landmarkMs - toMs) / QUANTILE_DECAY_MS);
  for (let i = 0; i < LATENCY_BUCKETS; i++) histogram.weights[i]! *= kept;
  histogram.landmarkMs = toMs;
}
