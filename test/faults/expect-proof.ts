/** Runs the suite, prints its counts, and expects that all is well although things broke. */
import { expect } from "vitest";
import { type FaultRunOptions, runFaults } from "./fault-run.ts";

/** What must have happened at least once, or the run was too tame to prove anything. */
const NEEDED = [
  "fault kill",
  "fault pause",
  "rescues",
  "takeovers",
  "retries",
  "deaths declared",
  "fenced",
  "resumed streams",
];

/** The seed is FAULT_SEED, or any. It is printed, because it repeats the run's plan. */
export async function expectProof(what: string, options: Omit<FaultRunOptions, "seed">): Promise<void> {
  const seed = Number(process.env.FAULT_SEED ?? Math.floor(Math.random() * 2 ** 32));
  console.log(`${what}: FAULT_SEED=${seed}`);
  const { faults, details, counts } = await runFaults({ ...options, seed });
  console.log(
    Object.entries(counts)
      .map(([name, count]) => `${String(count).padStart(8)} ${name}`)
      .join("\n"),
  );
  if (details.length > 0) console.log(details.join("\n"));
  expect(faults).toEqual([]);
  expect(
    NEEDED.filter((name) => !counts[name]),
    "what did not happen, so that nothing is proved",
  ).toEqual([]);
}
