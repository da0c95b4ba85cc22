/**
 * What governing costs a task: the same server with policy, budgets, reputation and audit, and without, in the process and on one
 * PostgreSQL.
 */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Findings, Lab } from "../lab/lab.ts";
import { atLeast, type Goal } from "../lab/report.ts";
import { type Contestant, roundsText, takeTurns, times, type Work } from "../tasks/contest.ts";

const IN_FLIGHT = [64, 512];
const LEAST = 0.7;

const RULES = 1_000;

/** What none of the tasks comes near. */
const POLICY = `version: 1
rules:
${Array.from(
  { length: RULES - 4 },
  (_, i) => `  - {effect: DENY, scope: CAPABILITY, when: {capability_id: capability-${i}, cost: {">": 1}}}`,
).join("\n")}
  - {effect: DENY, scope: CAPABILITY, when: {capability_id: clerk, cost: {">": 1}}}
  - {effect: DENY, scope: AGENT, when: {agent_id: clerk, delegation_depth: {">": 3}}}
  - {effect: DENY, scope: GLOBAL, when: {message_bytes: {">": 1000000}}}
  - {effect: REQUIRE, scope: CAPABILITY, when: {capability_id: clerk}, then: {effect: DENY, when: {reputation_score: {"<": 0.3}}}}
budgets:
  - {agent_id: clerk, capability_id: clerk, daily_limit: 1000000}
  - {principal_id: "*", hourly_tasks: 100000000, monthly_limit: 10000000}
reputation: {half_life: 1h}
`;

/** Settings of the two servers, as `name=value`. */
const on = (policyPath: string) => [`policy.path=${policyPath}`];
const OFF: readonly string[] = ["audit.enabled=false", "reputation.enabled=false"];

async function writePolicy(stack: AsyncDisposableStack): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "signalbox-bench-"));
  stack.defer(() => rm(folder, { recursive: true, force: true }));
  const path = join(folder, "policy.yaml");
  await writeFile(path, POLICY);
  return path;
}

export async function throughput(lab: Lab): Promise<Findings> {
  await using stack = new AsyncDisposableStack();
  const enter = async (name: string, settings: readonly string[]): Promise<Contestant> => {
    const databaseUrl = await lab.database.createDatabase();
    const server = stack.use(await lab.start("signalbox-in-process", databaseUrl, ...settings));
    return { name, server, databaseUrl, run: (load) => server.ask<Work>(load), rounds: [], answered: 0 };
  };
  const governed = await enter("on", on(await writePolicy(stack)));
  const off = await enter("off", OFF);
  const goals: Goal[] = [];
  const figures: [string, string][] = [];
  for (const inFlight of IN_FLIGHT) {
    for (const contestant of [governed, off]) contestant.rounds = [];
    await takeTurns([governed, off], inFlight, lab);
    const ratio = times(governed, off);
    goals.push(atLeast(`whole tasks, ${inFlight} in flight: governed / not governed`, ratio, LEAST, "ratio"));
    for (const { name, rounds } of [governed, off]) {
      const what = "policy, budgets, reputation and audit";
      figures.push([`whole tasks, ${inFlight} in flight, ${what} ${name}`, roundsText(rounds)]);
    }
  }
  return { goals, figures };
}
