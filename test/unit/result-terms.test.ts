/** On what terms results are kept: what all offers allow, for as long as none of them changes. */
import fc from "fast-check";
import { expect, test } from "vitest";
import type { Offer } from "../../src/services/agent-directory.ts";
import { resultTerms } from "../../src/services/result-terms.ts";

interface Facts {
  agentId: string;
  bornMs: number;
  revision: number;
  version: number;
  cacheTtlMs: number;
  cacheShared: boolean;
}

const facts: fc.Arbitrary<Facts> = fc.record({
  agentId: fc.constantFrom("a", "b", "c"),
  bornMs: fc.nat(2),
  revision: fc.nat(2),
  version: fc.nat(2),
  cacheTtlMs: fc.nat(3),
  cacheShared: fc.boolean(),
});
const offered = fc.uniqueArray(facts, { minLength: 1, maxLength: 3, selector: ({ agentId }) => agentId });

const offerOf = ({ agentId, bornMs, revision, version, cacheTtlMs, cacheShared }: Facts): Offer =>
  ({
    agent: { agentId, createdAt: new Date(bornMs), revision },
    capability: { cacheTtlMs, cacheShared },
    version,
  }) as Offer;

const identity = (all: readonly Facts[]): string =>
  JSON.stringify(all.map(({ agentId, bornMs, revision, version }) => [agentId, bornMs, revision, version]));

test("the generation is the same for the same agents with the same offers, and for no others", () => {
  fc.assert(
    fc.property(offered, offered, (one, other) => {
      const isSame = identity(one) === identity(other);
      const [a, b] = [one, other].map((all) => resultTerms(all.map(offerOf)).generation);
      expect(a === b).toBe(isSame);
    }),
    { numRuns: 1000 },
  );
});

test("the shortest time counts, and all must share", () => {
  fc.assert(
    fc.property(offered, (all) => {
      const { ttlMs, isShared } = resultTerms(all.map(offerOf));
      expect(all.every(({ cacheTtlMs }) => ttlMs <= cacheTtlMs)).toBe(true);
      expect(all.some(({ cacheTtlMs }) => cacheTtlMs === ttlMs)).toBe(true);
      expect(isShared).toBe(!all.some(({ cacheShared }) => !cacheShared));
    }),
  );
});

test("the same list is looked at once", () => {
  const offers = [offerOf({ agentId: "a", bornMs: 0, revision: 1, version: 0, cacheTtlMs: 1, cacheShared: false })];
  expect(resultTerms(offers)).toBe(resultTerms(offers));
});
