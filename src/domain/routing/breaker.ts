/**
 * A circuit breaker: an agent that cannot be reached is left alone for a while instead of being called again and again
 * (M. Nygard, Release It!, 2007, "Circuit Breaker"). Closed, it counts failures; open, it lets nobody through; half-open, it
 * lets a few probes through, whose outcome decides.
 *
 * It opens after so many failures in a row, or when half of the calls of the last seconds failed. It stays open for a time
 * that doubles with each reopening, up to a bound, with jitter, so that several breakers of one agent do not all probe it at
 * once (M. Brooker, Exponential Backoff And Jitter, 2015). How often it opened is forgotten slowly: an agent that comes and
 * goes is left alone for longer each time.
 *
 * A failure here is one of the transport: the agent could not be reached, broke off, was silent or answered no A2A. A task
 * that the agent itself failed is an answer. Pure: the time is given, in milliseconds of any one clock.
 */

export interface BreakerRules {
  /** Failures in a row that open it. */
  readonly failures: number;
  /** How long it stays open the first time, and at most, in milliseconds. */
  readonly openMs: number;
  readonly openMaxMs: number;
}

/** Share of the last calls that must have failed, of how many at least, to open it though some succeed between. */
const FAILED_SHARE = 0.5;
const LEAST_CALLS = 20;
/** After so long, a call counts 1/e in that share. */
const WINDOW_MS = 30_000;
/** Probes that are under way at once at most. */
export const MOST_PROBES = 2;
/** Probes that must succeed, one after another, before it closes. */
export const SUCCESSES_TO_CLOSE = 2;
/** A probe of which nothing is heard for so long is given up: its place is another's. In milliseconds. */
export const PROBE_PATIENCE_MS = 30_000;
/** Part of the time open that chance takes off. */
const JITTER = 0.2;
/** Doublings that there can be at all: the bound is reached long before. */
const MOST_DOUBLINGS = 30;

export type CircuitState = "CLOSED" | "OPEN" | "HALF_OPEN";

export interface Breaker {
  failuresInRow: number;
  /** Weights of the calls, and of the failures among them, as of `seenAtMs`. */
  weight: number;
  failedWeight: number;
  seenAtMs: number;
  /** Undefined while it is closed. After this time it is half-open. */
  openUntilMs: number | undefined;
  /** How often it has opened, as far as that is not forgotten. */
  openings: number;
  closedAtMs: number;
  /** Probes under way, since when there is no news of them, and how many have succeeded. */
  probes: number;
  probedAtMs: number;
  successes: number;
}

export const newBreaker = (): Breaker => ({
  failuresInRow: 0,
  weight: 0,
  failedWeight: 0,
  seenAtMs: 0,
  openUntilMs: undefined,
  openings: 0,
  closedAtMs: 0,
  probes: 0,
  probedAtMs: 0,
  successes: 0,
});

export function circuitState({ openUntilMs }: Breaker, nowMs: number): CircuitState {
  if (openUntilMs === undefined) return "CLOSED";
  return nowMs < openUntilMs ? "OPEN" : "HALF_OPEN";
}

/** Whether a call may be made now. While it is half-open, whoever makes it takes the place of a probe. */
export function admits(breaker: Breaker, nowMs: number): boolean {
  const state = circuitState(breaker, nowMs);
  if (state !== "HALF_OPEN") return state === "CLOSED";
  return breaker.probes < MOST_PROBES || nowMs - breaker.probedAtMs >= PROBE_PATIENCE_MS;
}

/** When a call may be made again that may not be made now, as far as that is known. */
export const admitsAtMs = ({ openUntilMs = 0, probedAtMs }: Breaker, nowMs: number): number =>
  nowMs < openUntilMs ? openUntilMs : probedAtMs + PROBE_PATIENCE_MS;

/** A call will be made. */
export function takeProbe(breaker: Breaker, nowMs: number): void {
  if (circuitState(breaker, nowMs) !== "HALF_OPEN") return;
  // Those that were given up make room.
  breaker.probes = breaker.probes < MOST_PROBES ? breaker.probes + 1 : 1;
  breaker.probedAtMs = nowMs;
}

/** The agent answered. */
export function callSucceeded(breaker: Breaker, nowMs: number): void {
  const state = circuitState(breaker, nowMs);
  // What was sent before it opened says nothing of now.
  if (state === "OPEN") return;
  breaker.failuresInRow = 0;
  if (state === "CLOSED") {
    weigh(breaker, nowMs, 0);
    return;
  }
  breaker.probes = Math.max(0, breaker.probes - 1);
  breaker.successes += 1;
  if (breaker.successes < SUCCESSES_TO_CLOSE) return;
  Object.assign(breaker, { openUntilMs: undefined, closedAtMs: nowMs, probes: 0, successes: 0 });
  Object.assign(breaker, { weight: 0, failedWeight: 0, seenAtMs: nowMs });
}

/** The agent could not be had. `random` is from 0 up to but not including 1. */
export function callFailed(breaker: Breaker, rules: BreakerRules, nowMs: number, random: number): void {
  const state = circuitState(breaker, nowMs);
  if (state === "OPEN") return;
  if (state === "HALF_OPEN") {
    open(breaker, rules, nowMs, random);
    return;
  }
  breaker.failuresInRow += 1;
  weigh(breaker, nowMs, 1);
  const { weight, failedWeight } = breaker;
  const isShare = weight >= LEAST_CALLS && failedWeight >= weight * FAILED_SHARE;
  if (breaker.failuresInRow < rules.failures && !isShare) return;
  const quietMs = nowMs - breaker.closedAtMs;
  breaker.openings = Math.max(0, breaker.openings - Math.floor(quietMs / rules.openMaxMs));
  open(breaker, rules, nowMs, random);
}

/** Another breaker of the same agent is open until then: this one is, too, unless it knows better. */
export function openAsWell(breaker: Breaker, untilMs: number, openings: number, nowMs: number): void {
  if (untilMs <= nowMs || untilMs <= (breaker.openUntilMs ?? 0)) return;
  openUntil(breaker, untilMs);
  breaker.openings = Math.max(breaker.openings, openings);
}

/** Whether nothing of it is worth keeping: a new one would behave the same. */
export const isForgotten = (breaker: Breaker, rules: BreakerRules, nowMs: number): boolean =>
  breaker.openUntilMs === undefined &&
  breaker.failuresInRow === 0 &&
  breaker.failedWeight * keptOfWindow(breaker, nowMs) < 0.01 &&
  (breaker.openings === 0 || nowMs - breaker.closedAtMs >= breaker.openings * rules.openMaxMs);

function open(breaker: Breaker, { openMs, openMaxMs }: BreakerRules, nowMs: number, random: number): void {
  const wholeMs = Math.min(openMaxMs, openMs * 2 ** Math.min(breaker.openings, MOST_DOUBLINGS));
  openUntil(breaker, nowMs + wholeMs * (1 - JITTER * random));
  breaker.openings += 1;
}

function openUntil(breaker: Breaker, untilMs: number): void {
  Object.assign(breaker, { openUntilMs: untilMs, failuresInRow: 0, probes: 0, successes: 0 });
}

function weigh(breaker: Breaker, nowMs: number, failed: 0 | 1): void {
  const kept = keptOfWindow(breaker, nowMs);
  breaker.weight = breaker.weight * kept + 1;
  breaker.failedWeight = breaker.failedWeight * kept + failed;
  breaker.seenAtMs = Math.max(breaker.seenAtMs, nowMs);
}

const keptOfWindow = ({ seenAtMs }: Breaker, nowMs: number): number =>
  Math.exp(-Math.max(0, nowMs - seenAtMs) / WINDOW_MS);
