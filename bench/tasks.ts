/**
 * What a task costs, from its message to its end, with every step stored: in the process beside job queues on the same
 * PostgreSQL, and through gRPC and JSON-RPC beside the server of @a2a-js/sdk. And how soon a watcher that was cut off has
 * what it missed. Rounds are interleaved: a machine that slows down slows all.
 */
import { cpus, loadavg } from "node:os";
import { openLab } from "./lab/lab.ts";
import type { Benchmark } from "./lab/report.ts";
import { versions } from "./lab/versions.ts";
import { RULES } from "./tasks/contest.ts";
import { inProcess } from "./tasks/in-process.ts";
import { overTheWire } from "./tasks/over-the-wire.ts";
import { resuming } from "./tasks/resuming.ts";

export const bench: Benchmark = async (signal) => {
  const [loadBefore = 0] = loadavg();
  await using lab = await openLab(signal);
  const parts = [await inProcess(lab), await overTheWire(lab), await resuming(lab)];
  return {
    goals: parts.flatMap(({ goals }) => goals),
    figures: parts.flatMap(({ figures }) => figures),
    conditions: [
      ["database", lab.database.description],
      ["machine", `${cpus()[0]?.model}; load average before the run ${loadBefore.toFixed(2)}`],
      ["cores", lab.cores.description],
      ["versions", versions("pg", "@grpc/grpc-js", "@a2a-js/sdk", "kysely", "pg-boss", "graphile-worker")],
      ["load", lab.load.description],
      [
        "a task",
        "a row in the log for each state: as submitted, committed before the agent is called; as working and as completed, in " +
          "one commit when the agent says them in quick succession",
      ],
      ["a task of the SDK", "saved on each event of its agent, so as working and as completed, by its own stores"],
      ["agents", "functions in the servers"],
      [
        "a job",
        "sent, fetched and completed, a commit each; senders do not wait for the job, only for its being stored",
      ],
      ["costs", "time on the processor of the contestant's process, and of PostgreSQL as a whole, each task or job"],
      ["rounds", RULES],
    ],
  };
};
