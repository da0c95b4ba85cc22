/**
 * Everything that a change must pass. Goes on after a failure, so that one run shows all there is to mend.
 *
 *     node scripts/check.ts [--after-tests]
 *
 * `--after-tests` leaves the tests out, for a caller that has just run them (.ci/run).
 */
import { run } from "./run.ts";

const STEPS: Record<string, [program: string, ...args: string[]]> = {
  "format and lint": ["biome", "ci", "--error-on-warnings"],
  types: ["tsc"],
  "proto lint": ["buf", "lint"],
  "proto format": ["buf", "format", "proto", "--diff", "--exit-code"],
  "generated code": ["node", "scripts/check-generated.ts"],
  "OpenAPI document": ["node", "scripts/write-openapi.ts", "--check"],
  "drawn states": ["node", "scripts/draw-lifecycle.ts", "--check"],
  "drawn simulation": ["node", "scripts/draw-routing.ts", "--check"],
  "breaking changes": ["node", "scripts/check-breaking.ts"],
  "unused code": ["knip"],
  tests: ["vitest", "run"],
};

const afterTests = process.argv.includes("--after-tests");
const failed: string[] = [];
for (const [name, [program, ...args]] of Object.entries(STEPS)) {
  if (afterTests && name === "tests") continue;
  console.log(`── ${name}: ${[program, ...args].join(" ")}`);
  if (run(program, ...args) !== 0) failed.push(name);
}

console.log(failed.length === 0 ? "Every check passes." : `Failed: ${failed.join(", ")}.`);
process.exitCode = failed.length === 0 ? 0 : 1;
