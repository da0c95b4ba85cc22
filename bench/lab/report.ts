/** What a benchmark has to say, for people and for programs. */

/** One goal: a measured value and what it should be. */
export interface Goal {
  name: string;
  value: number;
  unit: string;
  /** Written with its comparison, as `>= 0.40`. */
  target: string;
  reached: boolean;
}

export interface Report {
  goals: readonly Goal[];
  /** All that was measured: name and value, with its unit. */
  figures: readonly (readonly [name: string, value: string])[];
  /** What it ran with: machine, versions, database, load. */
  conditions: readonly (readonly [name: string, value: string])[];
}

/** A benchmark, `bench` of `bench/<name>.ts`. Throws when it cannot measure; leaves nothing running behind. */
export type Benchmark = (signal: AbortSignal) => Promise<Report>;

/** A goal for a value that should be at least `target`, both as they are shown: to `digits` decimals. */
export function atLeast(name: string, value: number, target: number, unit: string, digits = 2): Goal {
  const shown = Number(value.toFixed(digits));
  return { name, value: shown, unit, target: `>= ${target.toFixed(digits)}`, reached: shown >= target };
}

/** A goal for a value that should be at most `target`. */
export function atMost(name: string, value: number, target: number, unit: string, digits = 2): Goal {
  const shown = Number(value.toFixed(digits));
  return { name, value: shown, unit, target: `<= ${target.toFixed(digits)}`, reached: shown <= target };
}

/** A goal for a value that should be below `target`. */
export function below(name: string, value: number, target: number, unit: string, digits = 2): Goal {
  const shown = Number(value.toFixed(digits));
  return { name, value: shown, unit, target: `< ${target.toFixed(digits)}`, reached: shown < target };
}

/** The report as tables. */
export function printable({ goals, figures, conditions }: Report): string {
  const verdicts = goals.map(({ name, value, unit, target, reached }) => [
    name,
    `${value} ${unit}`,
    `goal ${target}: ${reached ? "reached" : "NOT reached"}`,
  ]);
  return [figures, verdicts, conditions].map(table).join("\n\n");
}

function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows
    .map((row) =>
      row
        .map((cell, i) => cell.padEnd(widths[i] ?? 0))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

/** The middle value; of an even number of values, the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  return (sorted[Math.ceil(middle) - 1]! + sorted[Math.floor(middle)]!) / 2;
}
