/**
 * Contestants, each in a process of its own: all warmed up by one rule, then measured in rounds that take turns. And what a
 * round cost.
 */
import { administer } from "../../test/store/backends.ts";
import type { InFlight } from "../lab/keep-in-flight.ts";
import type { Lab } from "../lab/lab.ts";
import { type Latencies, loadText } from "../lab/latency.ts";
import { median } from "../lab/report.ts";
import type { ServerProcess } from "../lab/server-process.ts";

const ROUNDS = 5;
const ROUND_MS = 1_500;
/** What comes first ends it. Servers get faster over their first ten thousand calls and more, while their code is compiled. */
const WARM_UP = { calls: 20_000, seconds: 10, stepMs: 2_000 };

/** In words, for people. */
export const RULES =
  `${ROUNDS} of ${ROUND_MS / 1000} s each, interleaved, after a warm-up of each contestant: until it has answered ` +
  `${WARM_UP.calls.toLocaleString("en")} calls or ${WARM_UP.seconds} s have passed, its database analyzed meanwhile; ` +
  "ratios are medians over the rounds";

/** How long each call took is known of tasks only: nobody waits for a single job. */
export interface Work extends Partial<Latencies> {
  calls: number;
  perSecond: number;
}

/** Microseconds on the processor, a call. */
interface Cost {
  ownUs: number;
  /** Undefined when the contestant keeps everything in memory, or this is not known. */
  databaseUs: number | undefined;
}

/** What takes part, and what it has done so far. */
export interface Contestant<Name extends string = string, Did extends Work = Work> {
  readonly name: Name;
  readonly server: ServerProcess<object>;
  /** Undefined when it keeps everything in memory. */
  readonly databaseUrl: string | undefined;
  run(load: InFlight): Promise<Did>;
  rounds: (Did & Cost)[];
  /** In all, the warm-up included. */
  answered: number;
}

export async function takeTurns<Did extends Work>(
  contestants: readonly Contestant<string, Did>[],
  inFlight: number,
  lab: Lab,
): Promise<void> {
  for (const contestant of contestants) await warmUp(contestant, inFlight);
  for (let round = 0; round < ROUNDS; round++) {
    for (const contestant of contestants) contestant.rounds.push(await measure(contestant, inFlight, lab));
  }
}

/**
 * The tables are new, and PostgreSQL would analyze them by itself only after a minute. Until then it guesses, and may look
 * for the SDK's tasks in an index that gets slower with each of them.
 */
async function warmUp(contestant: Contestant, inFlight: number): Promise<void> {
  const end = performance.now() + WARM_UP.seconds * 1000;
  while (contestant.answered < WARM_UP.calls && performance.now() < end) {
    const { calls } = await contestant.run({ inFlight, durationMs: WARM_UP.stepMs });
    contestant.answered += calls;
    if (contestant.databaseUrl !== undefined) await administer(contestant.databaseUrl, "analyze");
  }
}

/** One round. */
export async function measure<Did extends Work>(
  contestant: Contestant<string, Did>,
  inFlight: number,
  { database }: Lab,
): Promise<Did & Cost> {
  const { server, databaseUrl } = contestant;
  const databaseBefore = await database.cpuMs();
  const ownBefore = await server.cpuMs();
  const work = await contestant.run({ inFlight, durationMs: ROUND_MS });
  const ownMs = (await server.cpuMs()) - ownBefore;
  const databaseAfter = await database.cpuMs();
  contestant.answered += work.calls;
  const known = databaseUrl !== undefined && databaseBefore !== undefined && databaseAfter !== undefined;
  return {
    ...work,
    ownUs: (ownMs * 1000) / work.calls,
    databaseUs: known ? ((databaseAfter - databaseBefore) * 1000) / work.calls : undefined,
  };
}

/** How many times the rate of the other one: the median over the rounds. */
export function times(one: Contestant, other: Contestant): number {
  return median(one.rounds.map(({ perSecond }, round) => perSecond / other.rounds[round]!.perSecond));
}

/** The round of the median rate, and the medians of what a call cost: those depend less on what else the machine does. */
export function roundsText(rounds: readonly (Work & Cost)[]): string {
  const middle = rounds.toSorted((a, b) => a.perSecond - b.perSecond)[rounds.length >> 1]!;
  const busy = Math.round((middle.ownUs * middle.perSecond) / 1e4);
  const ownUs = Math.round(median(rounds.map((round) => round.ownUs)));
  const databaseUs = rounds.map((round) => round.databaseUs).filter((us) => us !== undefined);
  const database = databaseUs.length > 0 ? `, PostgreSQL ${Math.round(median(databaseUs))} µs` : "";
  return `${loadText(middle)}, busy ${busy}%, ${ownUs} µs each${database}`;
}
