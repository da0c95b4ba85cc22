/** The example of docs/routing.md: its numbers are read from the page, and reckoned with. */
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { choose } from "../../../src/domain/routing/choose.ts";
import { DEFAULT_WEIGHTS, STRATEGY } from "../../../src/domain/routing/strategies.ts";
import type { StrategyName } from "../../../src/domain/routing/strategy.ts";
import { candidate } from "./candidates.ts";

const PAGE = readFileSync(new URL("../../../docs/routing.md", import.meta.url), "utf8");
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

/** From a heading to the next. */
function sectionOf(heading: string): string {
  const [, section] = PAGE.split(`\n## ${heading}\n`);
  if (section === undefined) throw new Error(`docs/routing.md has no section "${heading}"`);
  return section.split("\n## ")[0]!;
}

/** The cells of the table whose first line begins so, without its headings. */
function rowsAfter(text: string, begin: string): string[][] {
  const lines = text.split("\n");
  const first = lines.findIndex((line) => line.startsWith(begin));
  const rest = lines.slice(first + 2);
  return rest.slice(0, rest.indexOf("")).map((line) =>
    line
      .split("|")
      .slice(1, -1)
      .map((cell) => cell.trim().replaceAll("`", "")),
  );
}

function said(pattern: RegExp): string {
  const found = pattern.exec(EXAMPLE)?.[1];
  if (found === undefined) throw new Error(`the example says nothing like ${pattern}`);
  return found;
}
