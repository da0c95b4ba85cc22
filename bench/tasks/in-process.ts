/**
 * Whole tasks without a network: sent, taken up by a function in the process, completed, each step durable before the
 * next. Beside it queues on the same PostgreSQL that do one no-op job: sent one by one, worked, completed.
 */
import type { InFlight } from "../lab/keep-in-flight.ts";
import type { Findings, Lab } from "../lab/lab.ts";
import { type Load, loadText } from "../lab/latency.ts";
import { atLeast, median } from "../lab/report.ts";

const ROUNDS = 5;
const ROUND: InFlight = { inFlight: 64, durationMs: 1_500 };
const WARM_UP: InFlight = { inFlight: 64, durationMs: 2_000 };
/** Measured once each, to be known. */
const OTHERS = [1, 8, 512];

const NAMES = {
  signalbox: "in process, Signalbox, whole tasks",
  "pg-boss": "in process, pg-boss, no-op jobs",
  "graphile-worker": "in process, graphile-worker, no-op jobs",
};
type Name = keyof typeof NAMES;

/** How long each took is known of tasks only: nobody waits for a single job. */
type Round = Load | { perSecond: number };

export async function inProcess(lab: Lab): Promise<Findings> {
  await using stack = new AsyncDisposableStack();
  const contestants: { name: Name; run(load: InFlight): Promise<Round> }[] = [];
  for (const [name, file] of [
    ["signalbox", "signalbox-in-process"],
    ["pg-boss", "pg-boss"],
    ["graphile-worker", "graphile-worker"],
  ] as const) {
    const contestant = stack.use(await lab.start(file, await lab.database.createDatabase()));
    contestants.push({ name, run: (load) => contestant.ask<Round>(load) });
  }

  for (const { run } of contestants) await run(WARM_UP);
  const rounds: Record<Name, Round[]> = { signalbox: [], "pg-boss": [], "graphile-worker": [] };
  for (let round = 0; round < ROUNDS; round++) {
    for (const { name, run } of contestants) rounds[name].push(await run(ROUND));
  }
  const others: [string, string][] = [];
  for (const inFlight of OTHERS) {
    for (const { name, run } of contestants) {
      others.push([`${NAMES[name]}, ${inFlight} in flight`, text(await run({ ...ROUND, inFlight }))]);
    }
  }

  const times = (peer: Name) =>
    median(rounds.signalbox.map(({ perSecond }, round) => perSecond / rounds[peer][round]!.perSecond));
  return {
    goals: [atLeast("in process: whole tasks / pg-boss jobs", times("pg-boss"), 4, "ratio")],
    figures: [
      ...contestants.map(({ name }): [string, string] => [
        `${NAMES[name]}, ${ROUND.inFlight} in flight`,
        text(middle(rounds[name])) + (name === "signalbox" ? "" : `; Signalbox ${times(name).toFixed(2)} times`),
      ]),
      ...others,
    ],
  };
}

/** The round of the median rate. */
const middle = (rounds: readonly Round[]): Round =>
  rounds.toSorted((a, b) => a.perSecond - b.perSecond)[rounds.length >> 1]!;

const text = (round: Round): string =>
  "p50Ms" in round ? loadText(round) : `${Math.round(round.perSecond).toLocaleString("en")}/s`;
