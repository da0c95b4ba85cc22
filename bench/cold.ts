/**
 * How soon the installed command serves: from starting its process to the first answered call, on PostgreSQL and on PGlite. Starts
 * of all kinds take turns; each is a new process, with what it reads in the system's cache. Takes about two minutes.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { cpus, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { bundleIfChanged, COMMAND } from "../scripts/bundle.ts";
import { ROOT } from "../scripts/run.ts";
import { type Program, type Start, start } from "./cold/start.ts";
import { openDatabaseServer } from "./lab/database.ts";
import { type Benchmark, below, median } from "./lab/report.ts";
import { versions } from "./lab/versions.ts";

const ROUNDS = 5;

interface Kind {
  readonly name: string;
  /** Goal for the first answered call, in seconds; undefined for a figure. */
  readonly goalS: number | undefined;
  readonly program: () => Promise<Program>;
  readonly starts: Start[];
}

export const bench: Benchmark = async (signal) => {
  const [loadBefore = 0] = loadavg();
  await bundleIfChanged();
  await using stack = new AsyncDisposableStack();
  const database = stack.use(await openDatabaseServer());
  const folder = await mkdtemp(join(tmpdir(), "signalbox-bench-"));
  stack.defer(() => rm(folder, { recursive: true, force: true }));

  const cached = { NODE_COMPILE_CACHE: join(folder, "compiled") };
  const source = join(ROOT, "src", "main.ts");
  const migrated = { "database.url": await database.createDatabase() };
  const enter = (
    name: string,
    goalS: number | undefined,
    settings: () => Promise<Readonly<Record<string, string>>>,
    { file = COMMAND, env = cached }: { file?: string; env?: Readonly<Record<string, string>> } = {},
  ): Kind => ({
    name,
    goalS,
    program: async () => ({ file, env, cwd: folder, settings: await settings() }),
    starts: [],
  });
  const kinds = [
    enter("PostgreSQL", 1, async () => migrated),
    enter("PostgreSQL, to be migrated first", undefined, async () => ({
      "database.url": await database.createDatabase(),
    })),
    enter("PostgreSQL, without a compile cache", undefined, async () => migrated, { env: {} }),
    enter("PostgreSQL, the source", undefined, async () => migrated, { file: source }),
    enter("PGlite, a fresh folder", 6, async () => ({ "data.dir": await mkdtemp(join(folder, "data-")) })),
    enter("PGlite, opened again", 1.5, async () => ({ "data.dir": join(folder, "data") })),
  ];

  // The first round fills the caches, migrates the database and makes the folder that is opened again.
  for (let round = -1; round < ROUNDS; round++) {
    for (const { program, starts } of kinds) {
      const done = await start(await program(), signal);
      if (round >= 0) starts.push(done);
    }
  }

  return {
    goals: kinds
      .filter(({ goalS }) => goalS !== undefined)
      .map(({ name, goalS, starts }) => below(`${name}: to the first answered call`, secondsOf(starts), goalS!, "s")),
    figures: kinds.map(({ name, starts }) => [name, startsText(starts)]),
    conditions: [
      ["database", database.description],
      ["machine", `${cpus().length} x ${cpus()[0]?.model}; load average before the run ${loadBefore.toFixed(2)}`],
      ["cores", "nothing is bound to any"],
      ["versions", versions("pg", "@electric-sql/pglite")],
      ["command", "dist/bin/main.js serve, with a compile cache of the bench's own (NODE_COMPILE_CACHE)"],
      ["first call", "GetTask over HTTP+JSON of a task that is not there, as soon as the log says that it serves"],
      ["rounds", `${ROUNDS} starts of each, in turns, after one to warm up; medians`],
    ],
  };
};

const secondsOf = (starts: readonly Start[]): number => median(starts.map(({ answeredMs }) => answeredMs)) / 1_000;

function startsText(starts: readonly Start[]): string {
  const answered = starts.map(({ answeredMs }) => answeredMs);
  const servingMs = median(starts.map((each) => each.servingMs));
  const cpuMs = starts.map((each) => each.cpuMs).filter((ms) => ms !== undefined);
  const range = `${(Math.min(...answered) / 1_000).toFixed(2)} to ${(Math.max(...answered) / 1_000).toFixed(2)}`;
  const cost = cpuMs.length > 0 ? `, ${(median(cpuMs) / 1_000).toFixed(2)} s on the processor` : "";
  return `${secondsOf(starts).toFixed(2)} s (${range}), says so after ${(servingMs / 1_000).toFixed(2)} s${cost}`;
}
