/** How long many calls took, in milliseconds. */
export interface Latencies {
  /** The median. */
  p50Ms: number;
  p99Ms: number;
}

/** Of a single round or of several together. Sorts in place. Throws when there are none. */
export function latencies(timesMs: number[]): Latencies {
  if (timesMs.length === 0) throw new Error("no call has ended, so there are no latencies");
  timesMs.sort((a, b) => a - b);
  const quantile = (q: number) => timesMs[Math.min(timesMs.length - 1, Math.floor(timesMs.length * q))]!;
  return { p50Ms: quantile(0.5), p99Ms: quantile(0.99) };
}

/** Ends of calls and how long each took: what one round of load shows. */
export interface Load extends Latencies {
  calls: number;
  perSecond: number;
}

/** `18,200/s, p50 3.1 ms, p99 8.0 ms`, or what is known of that. */
export function loadText({ perSecond, p50Ms, p99Ms }: Pick<Load, "perSecond"> & Partial<Latencies>): string {
  const rate = `${Math.round(perSecond).toLocaleString("en")}/s`;
  return p50Ms === undefined || p99Ms === undefined
    ? rate
    : `${rate}, p50 ${p50Ms.toFixed(1)} ms, p99 ${p99Ms.toFixed(1)} ms`;
}
