/** The outcomes of the simulation as tables for docs/routing.md. */
import { chooserName, type Results, shown } from "../../bench/simulation/results.ts";

/** A section for each scenario. */
export const simulationTables = (results: readonly Results[]): string => results.map(section).join("\n\n");

const HEADINGS = ["", "cost a task", "p50", "p99", "success"];

function section({ scenario, outcomes }: Results): string {
  const rows = outcomes.map(({ chooser, outcome }) => {
    const { cost, p50, p99, success } = shown(outcome);
    return [chooserName(chooser), cost, p50, p99, success];
  });
  return `### ${scenario.name}\n\n${scenario.about}.\n\n${table([HEADINGS, ...rows])}`;
}

function table([headings = [], ...rows]: readonly (readonly string[])[]): string {
  const widths = headings.map((_, column) => Math.max(3, ...[headings, ...rows].map((row) => row[column]!.length)));
  const cells = (row: readonly string[]) =>
    `| ${row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join(" | ")} |`;
  const rule = `| ${widths.map((width, i) => (i === 0 ? "-".repeat(width) : `${"-".repeat(width - 1)}:`)).join(" | ")} |`;
  return [cells(headings), rule, ...rows.map(cells)].join("\n");
}
