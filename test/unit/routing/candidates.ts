/** Candidates for the tests of routing. */
import fc from "fast-check";
import type { Candidate } from "../../../src/domain/routing/candidate.ts";
import { STRATEGIES } from "../../../src/domain/routing/strategy.ts";

/** An idle agent of which little is known, but for what is given. */
export const candidate = (agentId: string, more: Partial<Candidate> = {}): Candidate => ({
  agentId,
  inFlight: 0,
  maxConcurrency: undefined,
  latencyMs: undefined,
  errorRate: 0,
  costMicros: 0,
  reputation: undefined,
  ...more,
});

export const anyStrategy = fc.constantFrom(...STRATEGIES);
export const anySeed = fc.integer({ min: 0, max: 2 ** 32 - 1 });
export const anyAgentId = fc.stringMatching(/^[a-z]([a-z0-9-]{0,10}[a-z0-9])?$/);

const anyCount = fc.nat({ max: 1_000 });
const anyShare = fc.double({ min: 0, max: 1, noNaN: true });
const orUnknown = <T>(values: fc.Arbitrary<T>) => fc.option(values, { nil: undefined });

/** As they can be. */
export const anyCandidates = candidatesOf({
  inFlight: anyCount,
  maxConcurrency: orUnknown(fc.integer({ min: 1, max: 1_000 })),
  latencyMs: orUnknown(fc.double({ min: 0, max: 1e6, noNaN: true })),
  errorRate: anyShare,
  costMicros: fc.nat({ max: 1e9 }),
  reputation: orUnknown(anyShare),
});

/** The same, where tasks wait for the full ones. */
export const anyQueues = fc
  .tuple(anyCandidates, fc.array(anyCount, { minLength: 30, maxLength: 30 }))
  .map(([candidates, waiting]) => candidates.map((each, i) => ({ ...each, waiting: waiting[i]! })));

/** As they can never be: any number at all. */
export const impossibleCandidates = candidatesOf({
  inFlight: fc.double(),
  maxConcurrency: orUnknown(fc.double()),
  latencyMs: orUnknown(fc.double()),
  errorRate: fc.double(),
  costMicros: fc.double(),
  reputation: orUnknown(fc.double()),
});

function candidatesOf(signals: { [K in Exclude<keyof Candidate, "agentId" | "waiting">]: fc.Arbitrary<Candidate[K]> }) {
  const one = fc.record<Candidate>({ agentId: anyAgentId, ...signals });
  return fc.uniqueArray(one, { minLength: 1, maxLength: 30, selector: ({ agentId }) => agentId });
}
