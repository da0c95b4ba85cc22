/**
 * Lowest latency: the peak-sensitive average of an agent's latency (agent-signals.ts) times what it would have in flight, as
 * Finagle's PeakEwma balancer reckons (Eriksen, "Your server as a function", 2013). By Little's law, what is in flight
 * counts beside the latency: it tells of a queue before its first task comes back from it.
 */
import type { Candidate } from "./candidate.ts";
import { quantity, share } from "./quantity.ts";
import type { Strategy } from "./strategy.ts";

/** Expected delay in milliseconds: latency x (in flight + 1). */
export const lowestLatency: Strategy = (candidates) => candidates.map(expectedDelayMs);

/** More than any latency that a task can have: 30,000 years. */
const UNMEASURED_MS = 1e15;

/**
 * An agent of which no latency is known is taken at once as long as it is idle, for there is no other way to know it, and
 * then not before others until its first task tells; nor is one that has only failed so far.
 */
export function expectedDelayMs({ latencyMs, inFlight, errorRate }: Candidate): number {
  const pending = quantity(inFlight);
  if (latencyMs === undefined) return UNMEASURED_MS * (pending + share(errorRate));
  return quantity(latencyMs) * (pending + 1);
}
