/** A whole run: replicas, agents, clients, faults; then quiet, and the proof. */
import { rm } from "node:fs/promises";
import { setTimeout } from "node:timers/promises";
import type { Database } from "../../src/store/database.ts";
import { openPostgres } from "../../src/store/postgres.ts";
import { randomFrom } from "../fault/random.ts";
import { silent, temporaryDirectory } from "../store/backends.ts";
import { type FaultAgents, startAgents } from "./agents.ts";
import { countEngine, leftBehind } from "./check-agents.ts";
import { check } from "./checker.ts";
import { runSession } from "./client-session.ts";
import { type Cluster, startCluster } from "./cluster.ts";
import { detailsOf } from "./details.ts";
import { type Evidence, readLogs } from "./evidence.ts";
import { AGENT_FAULTS, createFaults, type FaultName, type Faults, REPLICA_FAULTS } from "./fault-schedule.ts";
import { planOf } from "./plan.ts";
import { createRecorder, type Recorder } from "./recorder.ts";

export interface FaultRunOptions {
  seed: number;
  /** Tasks that clients begin. */
  tasks: number;
  /** Clients at once. */
  clients: number;
  /** Tasks that are acknowledged between two faults. */
  every: number;
  /** Longest time for clients to come to their ends, and for the log to come to rest after that, in milliseconds. */
  workMs: number;
  restMs: number;
}

export interface FaultReport {
  /** What is wrong, in words. */
  faults: string[];
  /** The logs of some of the tasks that they name, a line a row. */
  details: string[];
  counts: Record<string, number>;
}

export async function runFaults(options: FaultRunOptions): Promise<FaultReport> {
  const startedAt = performance.now();
  const folder = await temporaryDirectory();
  const cluster = await startCluster(3);
  let agents: FaultAgents | undefined;
  let db: Database | undefined;
  try {
    const late = AbortSignal.timeout(options.workMs);
    const faults = createFaults(cluster, () => agents!, randomFrom(options.seed + 1), late);
    agents = await startAgents(folder, faults.agentDied);
    await agents.register(cluster.slots[0]!.client);
    db = openPostgres({ url: cluster.postgres.url, poolSize: 2, log: silent });
    const recorder = createRecorder();
    await work(options, cluster, agents, faults, recorder, late);
    await comeToRest(db, options.restMs, recorder);
    const evidence = await gather(db, cluster, agents, faults, recorder);
    const counts = countAll(evidence, cluster, faults, recorder);
    const found = check(evidence);
    return {
      faults: found,
      details: detailsOf(found, evidence),
      counts: { ...counts, seconds: Math.round((performance.now() - startedAt) / 1000) },
    };
  } finally {
    await db?.close();
    await agents?.stop();
    await cluster.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

/** Clients and faults side by side, until the last client is done and the last fault is mended. */
async function work(
  options: FaultRunOptions,
  cluster: Cluster,
  agents: FaultAgents,
  faults: Faults,
  recorder: Recorder,
  late: AbortSignal,
): Promise<void> {
  const random = randomFrom(options.seed);
  let begun = 0;
  let acknowledged = 0;
  let working = options.clients;
  let wake: (() => void)[] = [];
  const progress = () => {
    for (const resolve of wake.splice(0)) resolve();
  };
  const onAcknowledged = () => {
    acknowledged += 1;
    progress();
  };

  async function client(): Promise<void> {
    while (begun < options.tasks && !late.aborted) {
      begun += 1;
      const plan = planOf(random, agents.all);
      const deps = { cluster, recorder, random: randomFrom(options.seed + begun), signal: late, onAcknowledged };
      await runSession(deps, plan);
    }
    working -= 1;
    progress();
  }

  /** In the midst of the work, never before or after it. */
  async function trouble(names: readonly FaultName[]): Promise<void> {
    for (let i = 0; ; i++) {
      const enough = acknowledged + options.every;
      while (acknowledged < enough && working > options.clients / 2)
        await new Promise<void>((resolve) => wake.push(resolve));
      if (working <= options.clients / 2 || late.aborted) return;
      await faults.cause(names[i % names.length]!);
    }
  }

  const clients = Array.from({ length: options.clients }, client);
  await Promise.all([...clients, trouble(REPLICA_FAULTS), trouble(AGENT_FAULTS)]);
  wake = [];
}

const UNRESTED = {
  name: "fault-unrested",
  text: "select count(*)::int as tasks from tasks where state in (1, 2, 8, 9, 10)",
};

/** Waits until no task moves any more, those included of which no client ever heard. */
async function comeToRest(db: Database, mostMs: number, recorder: Recorder): Promise<void> {
  const until = performance.now() + mostMs;
  for (;;) {
    const [row] = await db.query(UNRESTED, []);
    if (row?.tasks === 0) return;
    // Nothing tells when the last of them has ended: tasks that nobody was told of are looked for in the table.
    if (performance.now() > until) return recorder.surprise(`${row?.tasks} tasks have not come to rest`);
    await setTimeout(100);
  }
}

async function gather(
  db: Database,
  cluster: Cluster,
  agents: FaultAgents,
  { troubles }: Faults,
  recorder: Recorder,
): Promise<Evidence> {
  const errors = cluster.lines().filter(({ level }) => String(level) === "error" || String(level) === "fatal");
  return {
    ...(await readLogs(db)),
    ...recorder,
    troubles,
    agents: agents.all.map(({ agentId, safe, process }) => ({ agentId, safe, process: process.name })),
    journals: agents.processes.map((process) => ({ process: process.name, entries: process.journal() })),
    surprises: [...recorder.surprises, ...errors.map((line) => `a replica logged: ${JSON.stringify(line)}`)],
  };
}

function countAll(evidence: Evidence, cluster: Cluster, faults: Faults, recorder: Recorder): Record<string, number> {
  const lines = cluster.lines();
  const said = (words: string) => lines.filter(({ msg }) => msg.includes(words)).length;
  return {
    ...countEngine(evidence.tasks),
    "left with their agents": leftBehind(evidence).length,
    acknowledged: evidence.acknowledged.size,
    "resumed streams": evidence.streams.filter(({ after, items }) => after !== undefined && items.length > 0).length,
    "deaths declared": said("declared dead"),
    fenced: said("another replica has taken the task over"),
    "fenced writes": said("a write was refused"),
    ...Object.fromEntries([...faults.counts].map(([name, count]) => [`fault ${name}`, count])),
    ...Object.fromEntries([...recorder.troubles].map(([what, count]) => [`told ${what}`, count])),
  };
}
