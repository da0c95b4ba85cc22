/**
 * What a second worker brings: whole tasks over gRPC, from SendMessage until the task is stored as COMPLETED, by one process and by two
 * that share its listeners. Nothing is bound to a core: load and database take what the workers leave them. Rounds are interleaved.
 */
import { cpus, loadavg } from "node:os";
import { administer } from "../test/store/backends.ts";
import { ANY_CORE } from "./lab/cores.ts";
import { openDatabaseServer } from "./lab/database.ts";
import { loadText } from "./lab/latency.ts";
import { createLoadGenerator } from "./lab/load.ts";
import { atLeast, type Benchmark, median } from "./lab/report.ts";
import { startServer } from "./lab/server-process.ts";
import { versions } from "./lab/versions.ts";
import { type A2AAddress, grpcSend, storedTasks } from "./tasks/send.ts";

const ROUNDS = 7;
const ROUND = { inFlight: 64, durationMs: 2_000 };
const WARM_UP = { inFlight: 64, durationMs: 2_000 };
const WARM_UPS = 4;

export const bench: Benchmark = async (signal) => {
  const [loadBefore = 0] = loadavg();
  await using stack = new AsyncDisposableStack();
  const load = stack.use(await createLoadGenerator());
  const database = stack.use(await openDatabaseServer());

  const enter = async (name: string, program: string, ...more: string[]) => {
    const url = await database.createDatabase();
    const args = ["clerk", url, ...more];
    const server = stack.use(await startServer<A2AAddress>(program, { cores: ANY_CORE, args, signal }));
    const request = await grpcSend(server.address);
    let answered = 0;
    const run = async (shape: typeof ROUND) => {
      const done = await load.run(request, shape, signal);
      answered += done.calls;
      return done;
    };
    const check = async () => {
      const stored = await storedTasks(server.address);
      if (stored < answered) throw new Error(`${name} answered ${answered} calls and has ${stored} tasks`);
    };
    return { name, url, run, check, rounds: [] as Awaited<ReturnType<typeof run>>[] };
  };
  const one = await enter("one process", "signalbox");
  const two = await enter("two workers", "signalbox-workers", "2");
  const contestants = [one, two];

  for (const { run, url } of contestants) {
    for (let i = 0; i < WARM_UPS; i++) {
      await run(WARM_UP);
      await administer(url, "analyze");
    }
  }
  for (let round = 0; round < ROUNDS; round++) {
    for (const { run, rounds } of contestants) rounds.push(await run(ROUND));
  }
  for (const { check } of contestants) await check();

  const gain = median(two.rounds.map(({ perSecond }, round) => perSecond / one.rounds[round]!.perSecond));
  return {
    goals: [atLeast("gRPC, 64 in flight: tasks/s of two workers / one process", gain, 1.25, "ratio")],
    figures: contestants.map(({ name, rounds }) => [
      name,
      loadText(rounds.toSorted((a, b) => a.perSecond - b.perSecond)[rounds.length >> 1]!),
    ]),
    conditions: [
      ["database", database.description],
      ["machine", `${cpus().length} x ${cpus()[0]?.model}; load average before the run ${loadBefore.toFixed(2)}`],
      ["cores", "nothing is bound to any: load, database and servers share them"],
      ["versions", versions("pg", "@grpc/grpc-js")],
      ["load", load.description],
      ["agents", "functions in the servers"],
      ["rounds", `${ROUNDS} of ${ROUND.durationMs} ms each, interleaved, after ${WARM_UPS} to warm up; medians`],
    ],
  };
};
