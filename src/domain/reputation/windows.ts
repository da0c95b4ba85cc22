/**
 * What became of an agent's tasks in the last hour, day and week, counted in slots of time: a window is the slots that began within
 * it, so it moves by one slot. A task is in the slot of its own time, in whatever order tasks come. Pure.
 */
import { addLatency, addSketch, type LatencySketch, quantilesOf } from "./latency-sketch.ts";

/** Their lengths, and those of their slots, in milliseconds. They stand in the database in this order. */
export const WINDOWS = [
  { lengthMs: 3_600_000, slotMs: 300_000 },
  { lengthMs: 86_400_000, slotMs: 3_600_000 },
  { lengthMs: 7 * 86_400_000, slotMs: 12 * 3_600_000 },
] as const;

/** What was counted in one slot. */
export interface Slot {
  good: number;
  bad: number;
  /** Tasks whose capability has an SLA and of which it is known whether they kept to its latency, and those that did. */
  judged: number;
  inSla: number;
  /** How long those took that ended well, as far as it is known. */
  readonly latencies: LatencySketch;
}

/** Slots by their number: that of the time since 1970. Only those in which something was. */
export type Window = Map<number, Slot>;

/** One for each of WINDOWS. */
export type Windows = readonly Window[];

export const newWindows = (): Windows => WINDOWS.map(() => new Map());

export const newSlot = (): Slot => ({ good: 0, bad: 0, judged: 0, inSla: 0, latencies: new Map() });

/** A task, as windows count it. */
export interface Counted {
  readonly isGood: boolean;
  readonly atMs: number;
  readonly latencyMs: number | undefined;
  readonly isInSla: boolean | undefined;
}

/** Counts a task, and forgets the slots that have left their windows. What is older than a window is not counted in it. */
export function countTask(windows: Windows, { isGood, atMs, latencyMs, isInSla }: Counted): void {
  for (const [i, { lengthMs, slotMs }] of WINDOWS.entries()) {
    const window = windows[i]!;
    const number = Math.floor(atMs / slotMs);
    const newest = Math.max(number, ...window.keys());
    const oldest = newest - lengthMs / slotMs;
    if (number <= oldest) continue;
    for (const other of window.keys()) if (other <= oldest) window.delete(other);
    const slot = window.get(number) ?? newSlot();
    window.set(number, slot);
    if (isGood) slot.good += 1;
    else slot.bad += 1;
    if (isInSla !== undefined) slot.judged += 1;
    if (isInSla) slot.inSla += 1;
    if (latencyMs !== undefined) addLatency(slot.latencies, latencyMs);
  }
}

/** What a window says. Shares are from 0 to 1, latencies in milliseconds; undefined where there was no task to tell. */
export interface WindowView {
  readonly lengthMs: number;
  readonly good: number;
  readonly bad: number;
  readonly successRate: { readonly share: number; readonly low: number; readonly high: number } | undefined;
  /** p50, p95 and p99. */
  readonly latencies: readonly number[] | undefined;
  /** Share of the tasks that kept to the latency of the SLA. */
  readonly slaAdherence: number | undefined;
}

const QUANTILES = [0.5, 0.95, 0.99];

/** The windows that end at `nowMs`. What was counted later than that, by another's clock, is in them. */
export const viewWindows = (windows: Windows, nowMs: number): WindowView[] =>
  WINDOWS.map(({ lengthMs, slotMs }, i) => {
    const oldest = Math.floor(nowMs / slotMs) - lengthMs / slotMs;
    const sum = newSlot();
    for (const [number, slot] of windows[i]!) {
      if (number <= oldest) continue;
      sum.good += slot.good;
      sum.bad += slot.bad;
      sum.judged += slot.judged;
      sum.inSla += slot.inSla;
      addSketch(sum.latencies, slot.latencies);
    }
    const { good, bad, judged, inSla } = sum;
    return {
      lengthMs,
      good,
      bad,
      successRate: good + bad === 0 ? undefined : { share: good / (good + bad), ...wilson(good, good + bad) },
      latencies: quantilesOf(sum.latencies, QUANTILES),
      slaAdherence: judged === 0 ? undefined : inSla / judged,
    };
  });

/** 97.5 % of a normal distribution are below so many of its standard deviations. */
const Z = 1.959963984540054;

/**
 * The bounds of the 95 % confidence interval of a share of which `n` were seen (Wilson, "Probable inference, the law of succession,
 * and statistical inference", 1927): of few it is wide, and it never leaves 0 to 1.
 */
export function wilson(successes: number, n: number): { low: number; high: number } {
  const share = successes / n;
  const spread = Z * Math.sqrt((share * (1 - share)) / n + Z ** 2 / (4 * n ** 2));
  const middle = share + Z ** 2 / (2 * n);
  const scale = 1 + Z ** 2 / n;
  return { low: Math.max(0, (middle - spread) / scale), high: Math.min(1, (middle + spread) / scale) };
}
