/**
 * What was seen of an agent: how long its tasks take, and how many of them fail. A record holds nothing but numbers, so that
 * one for each agent costs little. Pure: the time is given, in milliseconds of any one clock.
 *
 * Averages are exponentially weighted by time, as in Finagle's PeakEwma balancer: what is a decay time old counts 1/e. They
 * fade also while nothing is seen, because an agent that is avoided for what it was could never show what it has become.
 */

import { addHistogram, addLatency, type LatencyHistogram, newHistogram, quantileOf } from "./latency-histogram.ts";
import { quantity } from "./quantity.ts";

/** Of one agent. What it has in flight is counted by whoever gives it tasks, and is not here. */
export interface Signals {
  /** Tasks that it ended well, and that it failed, since the record was made. */
  succeeded: number;
  failed: number;
  /** As of `seenAtMs`. Negative as long as there is none. */
  latencyMs: number;
  /** Weights of what was seen, and of the failures among it, as of `seenAtMs`. */
  weight: number;
  failedWeight: number;
  seenAtMs: number;
  /** Of the tasks that it ended well; undefined as long as there is none. */
  latencies: LatencyHistogram | undefined;
}

/** How a task ended. Tasks that their client has canceled say nothing of the agent, and are left out. */
export interface Observation {
  /** From sending it to its end. */
  readonly latencyMs: number;
  readonly failed: boolean;
  readonly nowMs: number;
}

/** After so long, what was seen of latency counts 1/e. */
export const LATENCY_DECAY_MS = 10_000;
/** The same for errors, which are rarer, so that more has to be seen of them. */
export const ERROR_DECAY_MS = 60_000;
/** Of an agent whose tasks take minutes, each task would be forgotten before the next one ends: it has longer decay times. */
const TASKS_IN_DECAY = 2;
const LONGEST_DECAY_MS = 600_000;

export const newSignals = (): Signals => ({
  succeeded: 0,
  failed: 0,
  latencyMs: -1,
  weight: 0,
  failedWeight: 0,
  seenAtMs: 0,
  latencies: undefined,
});

/**
 * Takes in how a task ended. The latency rises to a slower task at once, and falls slowly to faster ones. A failure that came
 * sooner than tasks usually end does not lower it, nor is it the first: an agent that refuses everything in a millisecond is
 * not fast.
 */
export function observe(signals: Signals, { latencyMs, failed, nowMs }: Observation): void {
  const keptOfErrors = kept(signals, nowMs, ERROR_DECAY_MS);
  signals.weight = signals.weight * keptOfErrors + 1;
  signals.failedWeight = signals.failedWeight * keptOfErrors + (failed ? 1 : 0);
  if (failed) signals.failed++;
  else signals.succeeded++;
  const tookMs = quantity(latencyMs);
  if (!failed) {
    signals.latencies ??= newHistogram(nowMs);
    addLatency(signals.latencies, tookMs, nowMs);
  }
  const isKnown = signals.latencyMs >= 0;
  if (tookMs >= signals.latencyMs && (isKnown || !failed)) signals.latencyMs = tookMs;
  else if (!failed) {
    const keptOfLatency = kept(signals, nowMs, LATENCY_DECAY_MS);
    signals.latencyMs = signals.latencyMs * keptOfLatency + tookMs * (1 - keptOfLatency);
  }
  signals.seenAtMs = Math.max(signals.seenAtMs, nowMs);
}

/** The peak-sensitive average of its latency, in milliseconds; undefined as long as no task has ended well. */
export const latencyAt = (signals: Signals, nowMs: number): number | undefined =>
  signals.latencyMs < 0 ? undefined : signals.latencyMs * kept(signals, nowMs, LATENCY_DECAY_MS);

/**
 * The latency that the share `q` of its tasks did not exceed, in milliseconds: of those of the last minutes that ended well.
 * Undefined as long as there is none.
 */
export const latencyQuantileAt = ({ latencies }: Signals, q: number, nowMs: number): number | undefined =>
  latencies && quantileOf(latencies, q, nowMs);

/**
 * What several have seen of one agent, as if one had seen it all: counts and weights are added, and the latency is the mean by
 * how much each has seen lately. The order does not matter, and who has seen nothing changes nothing.
 */
export function mergeSignals(all: readonly Signals[], nowMs: number): Signals {
  const merged = newSignals();
  merged.seenAtMs = nowMs;
  let latencyWeight = 0;
  let latencySum = 0;
  for (const signals of all) {
    const keptOfErrors = kept(signals, nowMs, ERROR_DECAY_MS);
    merged.succeeded += signals.succeeded;
    merged.failed += signals.failed;
    merged.weight += signals.weight * keptOfErrors;
    merged.failedWeight += signals.failedWeight * keptOfErrors;
    const latencyMs = latencyAt(signals, nowMs);
    if (latencyMs !== undefined) {
      // One that has faded away counts a little still: else nothing would be known where all have.
      const weight = signals.weight * keptOfErrors + Number.EPSILON;
      latencyWeight += weight;
      latencySum += weight * latencyMs;
    }
    if (signals.latencies) {
      merged.latencies ??= newHistogram(signals.latencies.landmarkMs);
      addHistogram(merged.latencies, signals.latencies);
    }
  }
  if (latencyWeight > 0) merged.latencyMs = latencySum / latencyWeight;
  return merged;
}

/**
 * Share of its last tasks that failed, from 0 to 1. One task more is assumed that went well: the first failure of an agent
 * says less than the tenth, and what is long past fades to 0.
 */
export const errorRateAt = (signals: Signals, nowMs: number): number => {
  const keptOfErrors = kept(signals, nowMs, ERROR_DECAY_MS);
  return (signals.failedWeight * keptOfErrors) / (signals.weight * keptOfErrors + 1);
};

/** How many tasks that share is of: those of the last minutes count in full, older ones less. */
export const seenAt = (signals: Signals, nowMs: number): number =>
  signals.weight * kept(signals, nowMs, ERROR_DECAY_MS);

/** How much is left by now of what was seen last, from 0 to 1. A clock that went back counts as one that stood. */
function kept({ latencyMs, seenAtMs }: Signals, nowMs: number, decayMs: number): number {
  const elapsed = Math.max(0, nowMs - seenAtMs);
  return Math.exp(-elapsed / Math.max(decayMs, Math.min(latencyMs * TASKS_IN_DECAY, LONGEST_DECAY_MS)));
}
