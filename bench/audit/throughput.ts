/**
 * What governing costs a task: the same server with all of it on, and with all of it off, in the process and on one PostgreSQL.
 * What is on is said here, in one place.
 */
import type { Findings, Lab } from "../lab/lab.ts";
import { atLeast, type Goal } from "../lab/report.ts";
import { type Contestant, roundsText, takeTurns, times, type Work } from "../tasks/contest.ts";

const IN_FLIGHT = [64, 512];
const LEAST = 0.7;

/** Settings of the two servers, as `name=value`. */
const ON: readonly string[] = ["audit.enabled=true"];
const OFF: readonly string[] = ["audit.enabled=false"];

export async function throughput(lab: Lab): Promise<Findings> {
  await using stack = new AsyncDisposableStack();
  const enter = async (name: string, settings: readonly string[]): Promise<Contestant> => {
    const databaseUrl = await lab.database.createDatabase();
    const server = stack.use(await lab.start("signalbox-in-process", databaseUrl, ...settings));
    return { name, server, databaseUrl, run: (load) => server.ask<Work>(load), rounds: [], answered: 0 };
  };
  const on = await enter("on", ON);
  const off = await enter("off", OFF);
  const goals: Goal[] = [];
  const figures: [string, string][] = [];
  for (const inFlight of IN_FLIGHT) {
    for (const contestant of [on, off]) contestant.rounds = [];
    await takeTurns([on, off], inFlight, lab);
    goals.push(atLeast(`whole tasks, ${inFlight} in flight: with / without audit`, times(on, off), LEAST, "ratio"));
    for (const { name, rounds } of [on, off]) {
      figures.push([`whole tasks, ${inFlight} in flight, audit ${name}`, roundsText(rounds)]);
    }
  }
  return { goals, figures };
}
