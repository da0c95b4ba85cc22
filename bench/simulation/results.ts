/** Every way to choose in every scenario, as rows of a table. */
import { STRATEGIES } from "../../src/domain/routing/strategy.ts";
import { SCENARIOS, type Scenario } from "./scenarios.ts";
import { type Chooser, type Outcome, simulate } from "./simulate.ts";

/** Begins all chance of the simulation. */
export const SEED = 4;

/** From the one that knows nothing to the one that knows everything. */
const CHOOSERS: readonly Chooser[] = ["RANDOM", ...STRATEGIES, "HINDSIGHT"];

export interface Results {
  readonly scenario: Scenario;
  readonly outcomes: readonly { chooser: Chooser; outcome: Outcome }[];
}

/** Takes a few seconds. */
export const simulateAll = (): Results[] =>
  SCENARIOS.map((scenario) => ({
    scenario,
    outcomes: CHOOSERS.map((chooser) => ({ chooser, outcome: simulate(scenario, chooser, SEED) })),
  }));

/** One way's outcome in one scenario. */
export function outcomeOf(results: readonly Results[], scenario: string, chooser: Chooser): Outcome {
  const found = results
    .find((result) => result.scenario.name === scenario)
    ?.outcomes.find((each) => each.chooser === chooser);
  if (!found) throw new Error(`nothing was simulated of ${chooser} in the scenario "${scenario}"`);
  return found.outcome;
}

/** A name for people, as "least load". */
export const chooserName = (chooser: Chooser): string =>
  chooser === "HINDSIGHT" ? "best in hindsight" : chooser.toLowerCase().replaceAll("_", " ");

/** Cost, p50, p99 and success as they are shown. */
export const shown = ({ cost, p50Ms, p99Ms, success }: Outcome) => ({
  cost: cost.toFixed(4),
  p50: `${Math.round(p50Ms).toLocaleString("en")} ms`,
  p99: `${Math.round(p99Ms).toLocaleString("en")} ms`,
  success: `${(success * 100).toFixed(1)} %`,
});
