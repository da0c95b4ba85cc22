/** The example of docs/routing.md: its numbers are read from the page, and reckoned with. */
import { expect, test } from "vitest";
import { choose } from "../../../src/domain/routing/choose.ts";
import { DEFAULT_WEIGHTS, STRATEGY } from "../../../src/domain/routing/strategies.ts";
import type { StrategyName } from "../../../src/domain/routing/strategy.ts";
import { candidate } from "./candidates.ts";
import { rowsAfter, sectionOf } from "./documented-page.ts";

const EXAMPLE = sectionOf("An example");

const AGENTS = rowsAfter(EXAMPLE, "| agent |").map(([agentId, inFlight, limit, latency, errorRate, cost]) =>
  candidate(agentId!, {
    inFlight: Number(inFlight),
    maxConcurrency: limit === "none" ? undefined : Number(limit),
    latencyMs: Number.parseFloat(latency!),
    errorRate: Number(errorRate),
    costMicros: Number(cost) * 1e6,
  }),
);

const GIVEN = {
  key: said(/the context `(\w+)`/),
  turn: Number(said(/(\d+) decisions were made/)),
  seed: Number(said(/the seed is (\d+)/)),
  weights: DEFAULT_WEIGHTS,
};

const SCORES = rowsAfter(EXAMPLE, "| strategy ");

test("the example shows every strategy", () => {
  expect(AGENTS.map(({ agentId }) => agentId)).toEqual(["amber", "birch", "cedar"]);
  expect(SCORES.map(([name]) => name)).toEqual(Object.keys(STRATEGY));
});

test.each(SCORES)("%s scores %s, %s and %s, and takes %s", (name, ...cells) => {
  const { index, scores } = choose(AGENTS, name as StrategyName, GIVEN);
  const documented = cells.slice(0, AGENTS.length);
  // As many decimals as the page shows.
  expect(scores.map((score, i) => score.toFixed(documented[i]!.split(".")[1]?.length ?? 0))).toEqual(documented);
  expect(AGENTS[index]!.agentId).toBe(cells[AGENTS.length]);
});

test("the page tells the default weights", () => {
  const [formula = ""] = sectionOf("Strategies")
    .split("\n")
    .filter((line) => line.includes("`WEIGHTED_SCORE`"));
  const weights = [...formula.matchAll(/(\d) x \(?(\d - )?(\w+)/g)].map(([, weight, , signal]) => [
    signal,
    Number(weight),
  ]);
  const { load, latency, cost, errors, reputation } = DEFAULT_WEIGHTS;
  expect(Object.fromEntries(weights)).toEqual({ load, latency, cost, error: errors, reputation });
});

function said(pattern: RegExp): string {
  const found = pattern.exec(EXAMPLE)?.[1];
  if (found === undefined) throw new Error(`the example says nothing like ${pattern}`);
  return found;
}
