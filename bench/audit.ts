/** What policy, budgets, reputation and the audit log cost a task together, and how fast the log is checked. */
import { cpus, loadavg } from "node:os";
import { throughput } from "./audit/throughput.ts";
import { verification } from "./audit/verification.ts";
import { type Findings, type Lab, openLab } from "./lab/lab.ts";
import type { Benchmark } from "./lab/report.ts";
import { versions } from "./lab/versions.ts";
import { RULES } from "./tasks/contest.ts";

/** In this order, one after another. */
const PARTS: readonly ((lab: Lab) => Promise<Findings>)[] = [throughput, (lab) => verification(lab.signal)];

export const bench: Benchmark = async (signal) => {
  const [loadBefore = 0] = loadavg();
  await using lab = await openLab(signal);
  const found: Findings[] = [];
  for (const part of PARTS) found.push(await part(lab));
  return {
    goals: found.flatMap(({ goals }) => goals),
    figures: found.flatMap(({ figures }) => figures),
    conditions: [
      ["database", lab.database.description],
      ["machine", `${cpus()[0]?.model}; load average before the run ${loadBefore.toFixed(2)}`],
      ["cores", lab.cores.description],
      ["versions", versions("pg", "kysely")],
      ["agents", "functions in the servers"],
      ["costs", "time on the processor of the server's process, and of PostgreSQL as a whole, each task"],
      ["rounds", RULES],
    ],
  };
};
