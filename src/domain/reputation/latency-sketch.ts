/**
 * How long tasks took, as counts in buckets whose bounds grow by a constant factor: the mapping of DDSketch (Masson, Rim and Lee,
 * "DDSketch: a fast and fully-mergeable quantile sketch with relative-error guarantees", VLDB 2019). Any quantile is off by a
 * fortieth of its value at most. Counts are whole, so sketches can be added in any order and come to the same. Pure.
 */

/** Count by bucket; buckets without any are left out. */
export type LatencySketch = Map<number, number>;

/** By how much a quantile may be off, as a share of it. Below 1 ms: by that millisecond. */
export const LATENCY_ERROR = 0.025;
const GAMMA = (1 + LATENCY_ERROR) / (1 - LATENCY_ERROR);
const LOG_GAMMA = Math.log(GAMMA);
/** A week. What takes longer counts as that, so a sketch has some 400 buckets at most. */
const MOST_MS = 7 * 86_400_000;

/** Takes in how long a task took, in milliseconds. */
export function addLatency(sketch: LatencySketch, latencyMs: number): void {
  const bucket = bucketOf(latencyMs);
  sketch.set(bucket, (sketch.get(bucket) ?? 0) + 1);
}

/** Adds what another sketch holds. */
export function addSketch(into: LatencySketch, from: LatencySketch): void {
  for (const [bucket, count] of from) into.set(bucket, (into.get(bucket) ?? 0) + count);
}

/**
 * The latencies that the shares `qs`, which rise from 0 to 1, of the tasks did not exceed, in milliseconds; undefined when there
 * is no task.
 */
export function quantilesOf(sketch: LatencySketch, qs: readonly number[]): number[] | undefined {
  const buckets = [...sketch].sort(([a], [b]) => a - b);
  const total = buckets.reduce((sum, [, count]) => sum + count, 0);
  if (total === 0) return undefined;
  let place = 0;
  let below = buckets[0]![1];
  return qs.map((q) => {
    const rank = Math.max(1, Math.ceil(q * total));
    while (below < rank) below += buckets[++place]![1];
    return middleOf(buckets[place]![0]);
  });
}

/** Bucket i holds what is above gamma^(i-1) and not above gamma^i; the first, all up to 1 ms. */
const bucketOf = (latencyMs: number): number =>
  latencyMs > 1 ? Math.ceil(Math.log(Math.min(latencyMs, MOST_MS)) / LOG_GAMMA) : 0;

/** As far from the lower bound as from the upper one, in shares of either. */
const middleOf = (bucket: number): number => (bucket === 0 ? 1 : (2 * GAMMA ** bucket) / (GAMMA + 1));
