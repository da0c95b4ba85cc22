/**
 * Whole tasks without a network: sent, stored, taken up by a function in the process, completed. Beside it queues on the
 * same PostgreSQL that do one no-op job: sent one by one, worked, completed.
 */
import type { Findings, Lab } from "../lab/lab.ts";
import { atLeast } from "../lab/report.ts";
import { type Contestant, measure, roundsText, takeTurns, times, type Work } from "./contest.ts";

const IN_FLIGHT = 64;
/** Measured once each, to be known. */
const OTHERS = [1, 8, 512];

const NAMES = {
  "signalbox-in-process": "in process, Signalbox, whole tasks",
  "pg-boss": "in process, pg-boss, no-op jobs",
  "graphile-worker": "in process, graphile-worker, no-op jobs",
};
type Name = keyof typeof NAMES;

export async function inProcess(lab: Lab): Promise<Findings> {
  await using stack = new AsyncDisposableStack();
  const enter = async (name: Name): Promise<Contestant<Name>> => {
    const databaseUrl = await lab.database.createDatabase();
    const server = stack.use(await lab.start(name, databaseUrl));
    return { name, server, databaseUrl, run: (load) => server.ask<Work>(load), rounds: [], answered: 0 };
  };
  const signalbox = await enter("signalbox-in-process");
  const pgBoss = await enter("pg-boss");
  const contestants = [signalbox, pgBoss, await enter("graphile-worker")];
  await takeTurns(contestants, IN_FLIGHT, lab);

  const others: [string, string][] = [];
  for (const inFlight of OTHERS) {
    for (const contestant of contestants) {
      const round = await measure(contestant, inFlight, lab);
      others.push([`${NAMES[contestant.name]}, ${inFlight} in flight`, roundsText([round])]);
    }
  }
  return {
    goals: [atLeast("in process: whole tasks / pg-boss jobs", times(signalbox, pgBoss), 4, "ratio")],
    figures: [
      ...contestants.map((contestant): [string, string] => [
        `${NAMES[contestant.name]}, ${IN_FLIGHT} in flight`,
        roundsText(contestant.rounds) +
          (contestant === signalbox ? "" : `; Signalbox ${times(signalbox, contestant).toFixed(2)} times`),
      ]),
      ...others,
    ],
  };
}
