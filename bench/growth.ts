/**
 * What a task, a read and a page cost when a thousand tasks are stored, a hundred thousand, and a million. A database and a server for each
 * size, measured in rounds that take turns. Takes about ten minutes. `SIGNALBOX_GROWTH_SIZES=1000,5000,20000` sets other sizes.
 */
import { cpus, loadavg } from "node:os";
import { type Grown, grow, KINDS, type Kind } from "./growth/grown.ts";
import { type Lab, openLab } from "./lab/lab.ts";
import { atMost, type Benchmark, type Goal, median } from "./lab/report.ts";
import { versions } from "./lab/versions.ts";
import { type Contestant, measure, roundsText, times } from "./tasks/contest.ts";

const SIZES = (process.env.SIGNALBOX_GROWTH_SIZES ?? "1000,100000,1000000").split(",").map(Number);
const ROUNDS = 7;
const WARM_UP_MS = 2_000;
const IN_FLIGHT: Readonly<Record<Kind, number>> = {
  submit: 64,
  get: 64,
  "list, first page": 8,
  "list, deep page": 8,
  "list, of a rare status": 8,
  "list, of one context": 8,
};
/** What it may cost more with the most tasks. */
const MOST = 1.3;
/** So many tasks a list counts: where there are fewer, its page costs less. */
const COUNTED = 10_000;
/** Lists of which the larger databases have more than the least. */
const LONG: readonly Kind[] = ["list, first page", "list, deep page"];

export const bench: Benchmark = async (signal) => {
  const [loadBefore = 0] = loadavg();
  await using lab = await openLab(signal);
  await using stack = new AsyncDisposableStack();
  const grown: Grown[] = [];
  for (const size of SIZES) grown.push(await grow(size, lab, stack));
  const goals: Goal[] = [];
  const figures: [string, string][] = [];
  // What stores tasks comes last: until then each database has as many as it is said to have.
  for (const kind of KINDS.toReversed()) {
    const contestants = await contest(kind, grown, lab);
    const most = contestants.at(-1)!;
    const least = (LONG.includes(kind) && contestants.find((_, i) => SIZES[i]! > COUNTED)) || contestants[0]!;
    goals.push(atMost(`${kind}: cost with ${most.name} / with ${least.name} tasks`, costs(most, least), MOST, "ratio"));
    for (const contestant of contestants) {
      const than = contestants[0]!;
      const ratios = `; ${times(contestant, than).toFixed(2)} times the rate and ${costs(contestant, than).toFixed(2)} times the cost of ${than.name}`;
      figures.push([
        `${kind}, ${contestant.name} tasks`,
        roundsText(contestant.rounds) + (contestant === than ? "" : ratios),
      ]);
    }
  }
  return {
    goals: goals.toReversed(),
    figures: figures.toReversed(),
    conditions: [
      ["database", lab.database.description],
      ["machine", `${cpus()[0]?.model}; load average before the run ${loadBefore.toFixed(2)}`],
      ["cores", lab.cores.description],
      ["versions", versions("pg", "kysely")],
      [
        "stored",
        `${SIZES.map(named).join(", ")} tasks with logs of three rows, vacuumed and analyzed; submitting adds to each`,
      ],
      ["lists", "over gRPC, 10 tasks a page with their total; 10,000 are counted where there are more"],
      [
        "rounds",
        `${ROUNDS} for each size, taking turns, after ${WARM_UP_MS / 1000} s of warm-up each; ratios are medians over the rounds`,
      ],
    ],
  };
};

/**
 * How many times the cost of the other one: processor time of the server and of PostgreSQL a call, which depends less on what else the
 * machine does than rates; where that of PostgreSQL is not known, by the rates. The median over the rounds.
 */
function costs(one: Contestant, other: Contestant): number {
  const ratios = one.rounds.map((round, i) => {
    const than = other.rounds[i]!;
    if (round.databaseUs === undefined || than.databaseUs === undefined) return than.perSecond / round.perSecond;
    return (round.ownUs + round.databaseUs) / (than.ownUs + than.databaseUs);
  });
  return median(ratios);
}

const named = (count: number): string => count.toLocaleString("en");

async function contest(kind: Kind, grown: readonly Grown[], lab: Lab): Promise<Contestant[]> {
  const inFlight = IN_FLIGHT[kind];
  const contestants = grown.map(
    ({ count, databaseUrl, server, requests }): Contestant => ({
      name: named(count),
      server,
      databaseUrl,
      run: (load) => lab.load.run(requests[kind], load, lab.signal),
      rounds: [],
      answered: 0,
    }),
  );
  for (const contestant of contestants) await contestant.run({ inFlight, durationMs: WARM_UP_MS });
  for (let round = 0; round < ROUNDS; round++) {
    // Whoever comes first meets another machine than who comes last.
    const inTurn = round % 2 === 0 ? contestants : contestants.toReversed();
    for (const contestant of inTurn) contestant.rounds.push(await measure(contestant, inFlight, lab));
  }
  return contestants;
}
