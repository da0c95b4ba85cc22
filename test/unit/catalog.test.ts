/** The AI Catalog in its parts: no document is longer than it may be, and everything stands in one of them. */
import { create } from "@bufbuild/protobuf";
import fc from "fast-check";
import { expect, test } from "vitest";
import { AgentCardSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { CATALOG_TYPE, type Catalog, catalogOf, MOST_ENTRIES } from "../../src/services/catalog.ts";
import type { VisibleAgents } from "../../src/services/visible-agents.ts";
import type { AgentRecord } from "../../src/store/agent-repository.ts";

const settings = { name: "Router", description: "Routes.", version: "1" };
const address = { url: "https://r.example.com", grpc: "" };
const card = create(AgentCardSchema, { name: "n", description: "d", version: "1" });

function visible(count: number): VisibleAgents {
  const agents = Array.from({ length: count }, (_, i) => ({
    agent: { agentId: `a${i}`, card, updatedAt: new Date(0) } as AgentRecord,
    skills: [],
  }));
  return {
    isForAll: true,
    agents: () => agents,
    agent: () => undefined,
    capabilities: () => [],
    offers: () => undefined,
  };
}

const identifiers = (catalog: Catalog | undefined) => (catalog?.entries ?? []).map(({ identifier }) => identifier);

test("has everything once, in documents of a thousand entries at most", () => {
  fc.assert(
    fc.property(
      fc.oneof(fc.integer({ min: 0, max: 5_000 }), fc.constantFrom(998, 999, 1_000, 1_001, 2_000)),
      (count) => {
        const seen = visible(count);
        const first = catalogOf(settings, address, seen, undefined)!;
        const nested = first.entries.filter(({ mediaType }) => mediaType === CATALOG_TYPE);
        const documents = [first];
        for (const { url } of nested) {
          const part = Number(new URL(url).searchParams.get("part"));
          documents.push(catalogOf(settings, address, seen, part)!);
        }
        for (const { entries } of documents) expect(entries.length).toBeLessThanOrEqual(MOST_ENTRIES);
        const found = documents.flatMap(identifiers).filter((each) => each.includes("/agents/"));
        expect(found).toEqual(Array.from({ length: count }, (_, i) => `https://r.example.com/agents/a${i}`));
        expect(identifiers(first)[0]).toBe("https://r.example.com");
      },
    ),
    { numRuns: 25 },
  );
});

test("has no part beyond the last", () => {
  const parts = [0, 1, 2, 3].map((part) => catalogOf(settings, address, visible(1_500), part) !== undefined);
  expect(parts).toEqual([false, true, true, false]);
});
