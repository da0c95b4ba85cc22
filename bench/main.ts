/**
 * Benchmarks, by name:
 *
 *     npm run bench -- NAME [--json]
 *
 * Prints tables; with `--json` one JSON array with an object a goal, and the tables on standard error. Exits with 0 whether
 * the goals are reached or not, with 1 when the benchmark itself broke, with 2 for wrong use.
 */
import { readdirSync } from "node:fs";
import { parseArgs } from "node:util";
import { type Benchmark, printable } from "./lab/report.ts";

const SELF = "main.ts";

const names = readdirSync(import.meta.dirname)
  .filter((file) => file.endsWith(".ts") && file !== SELF)
  .map((file) => file.slice(0, -".ts".length));

process.exitCode = await main();

async function main(): Promise<number> {
  const asked = readArguments();
  if (!asked) {
    console.error(`Usage: npm run bench -- NAME [--json]\nNames: ${names.join(", ")}`);
    return 2;
  }
  const { bench } = (await import(`./${asked.name}.ts`)) as { bench: Benchmark };
  const interrupt = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => interrupt.abort(new Error(signal)));
  try {
    const report = await bench(interrupt.signal);
    (asked.json ? console.error : console.log)(printable(report));
    if (asked.json) console.log(JSON.stringify(report.goals));
    return 0;
  } catch (error) {
    console.error(interrupt.signal.aborted ? "Interrupted." : error);
    return 1;
  }
}

/** Undefined for wrong use. */
function readArguments(): { name: string; json: boolean } | undefined {
  try {
    const options = { json: { type: "boolean", default: false } } as const;
    const { values, positionals } = parseArgs({ options, allowPositionals: true });
    const [name = "", ...more] = positionals;
    return names.includes(name) && more.length === 0 ? { name, json: values.json } : undefined;
  } catch {
    return undefined;
  }
}
