/** What governing costs a task: the same server with policy, budgets, reputation and audit, and without, on one PostgreSQL. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { AddCapabilityRequestSchema, RegistryService } from "../../gen/signalbox/v1/registry_pb.ts";
import { capabilityTenant } from "../../src/domain/target.ts";
import { call } from "../lab/grpc.ts";
import type { InFlight } from "../lab/keep-in-flight.ts";
import type { Findings, Lab } from "../lab/lab.ts";
import { atLeast, type Goal } from "../lab/report.ts";
import { type Contestant, roundsText, takeTurns, times, type Work } from "../tasks/contest.ts";
import { type A2AAddress, grpcSend } from "../tasks/send.ts";

/** The agent, and its capability. */
const CLERK = "clerk";

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
  const governed = on(await writePolicy(stack));
  const goals: Goal[] = [];
  const figures: [string, string][] = [];
  for (const [title, enter] of [
    ["gRPC", overGrpc],
    ["in process", inProcess],
  ] as const) {
    await using own = new AsyncDisposableStack();
    const contestants = [await enter("on", governed, lab, own), await enter("off", OFF, lab, own)] as const;
    for (const inFlight of IN_FLIGHT) {
      for (const contestant of contestants) contestant.rounds = [];
      await takeTurns(contestants, inFlight, lab);
      const what = `whole tasks, ${title}, ${inFlight} in flight`;
      const ratio = times(...contestants);
      // What a task costs in all is what those have who send it.
      if (enter === overGrpc) goals.push(atLeast(`${what}: governed / not governed`, ratio, LEAST, "ratio"));
      else
        figures.push([`${what}: governed / not governed`, `${ratio.toFixed(2)}, without anything that a call costs`]);
      for (const { name, rounds } of contestants) figures.push([`${what}, governed: ${name}`, roundsText(rounds)]);
    }
  }
  return { goals, figures };
}

type Enter = (name: string, settings: readonly string[], lab: Lab, stack: AsyncDisposableStack) => Promise<Contestant>;

/** Sends to the capability, which costs something. */
const overGrpc: Enter = async (name, settings, lab, stack) => {
  const databaseUrl = await lab.database.createDatabase();
  const server = stack.use(await lab.start<A2AAddress>("signalbox", CLERK, databaseUrl, ...settings));
  const capability = { capabilityId: CLERK, costPerTask: "0.01" };
  const request = create(AddCapabilityRequestSchema, { agentId: CLERK, capability });
  await call(server.address, RegistryService.method.addCapability, request);
  const send = await grpcSend(server.address, capabilityTenant(CLERK));
  const run = (load: InFlight) => lab.load.run(send, load, lab.signal);
  return { name, server, databaseUrl, run, rounds: [], answered: 0 };
};

/** The same, by a function call. */
const inProcess: Enter = async (name, settings, lab, stack) => {
  const databaseUrl = await lab.database.createDatabase();
  const server = stack.use(await lab.start("signalbox-in-process", databaseUrl, ...settings));
  return { name, server, databaseUrl, run: (load) => server.ask<Work>(load), rounds: [], answered: 0 };
};
