/**
 * Streams at another replica than their task: one, two and three processes on one PostgreSQL, told of news by PostgreSQL's NOTIFY and
 * by NATS. The agent speaks at the first; all are watched. How old a single update is when it comes, and how many come a second.
 * Takes about two minutes.
 */
import { cpus, loadavg } from "node:os";
import { ANY_CORE } from "./lab/cores.ts";
import { type DatabaseServer, openDatabaseServer } from "./lab/database.ts";
import { inTime } from "./lab/in-time.ts";
import { latencies } from "./lab/latency.ts";
import { type NatsServer, startNats } from "./lab/nats.ts";
import { type Benchmark, median } from "./lab/report.ts";
import { type ServerProcess, startServer } from "./lab/server-process.ts";
import { versions } from "./lab/versions.ts";
import { startWatchers, type Watchers } from "./lab/watchers.ts";
import type { Order } from "./servers/agents.ts";
import { type A2AAddress, connectTo } from "./tasks/send.ts";

const REPLICAS = [1, 2, 3];
const ROUNDS = 3;
const ROUND_MS = 1_500;
const SAMPLES = 150;
const WARM_UP_SAMPLES = 30;
/** Tasks that speak at once, and the streams of each at each of the replicas where they are watched. */
const TASKS = 8;
const STREAMS_EACH = 4;
/** Chunks that each agent says without waiting for the watchers; two such bursts are under way at a time. */
const BURST = 16;
const CONNECTIONS = 2;
const PATIENCE_MS = 30_000;

/** Some replicas on a database of their own. */
interface Cluster {
  readonly name: string;
  readonly servers: readonly ServerProcess<A2AAddress>[];
  readonly timesMs: number[];
  readonly rates: number[];
  /** Time on the processor of all replicas, for each delivered update, in microseconds. */
  readonly costUs: number[];
  /** Tasks that it has begun. */
  tasks: number;
}

export const bench: Benchmark = async (signal) => {
  const [loadBefore = 0] = loadavg();
  await using stack = new AsyncDisposableStack();
  const database = stack.use(await openDatabaseServer());
  const nats = await startNats(signal);
  if (nats) stack.use(nats);
  const watchers = stack.use(await startWatchers(signal));

  const clusters: Cluster[] = [];
  for (const replicas of REPLICAS) {
    clusters.push(await startCluster(replicas, undefined, database, stack, signal));
    if (nats && replicas > 1) clusters.push(await startCluster(replicas, nats, database, stack, signal));
  }
  for (let round = 0; round < ROUNDS; round++) {
    for (const cluster of clusters) {
      cluster.timesMs.push(...(await timeSingly(cluster, watchers, signal)));
      await speakFast(cluster, watchers, signal);
    }
  }
  return {
    goals: [],
    figures: clusters.map((cluster) => [cluster.name, textOf(cluster)]),
    conditions: [
      ["database", database.description],
      ["nats", nats?.version ?? "left out: there is no nats-server on this machine"],
      ["machine", `${cpus().length} x ${cpus()[0]?.model}; load average before the run ${loadBefore.toFixed(2)}`],
      ["cores", "nothing is bound to any: replicas, database, NATS and watchers share them"],
      ["versions", versions("pg", "@grpc/grpc-js", "@nats-io/transport-node")],
      ["one replica", "is watched itself; where there are more, tasks run at the first, and the others are watched"],
      [
        "latency",
        `from the agent's saying it to the watcher, task.gather-ms (10 ms) included, one at a time, ${SAMPLES} in each round, ${WARM_UP_SAMPLES} before`,
      ],
      [
        "rate",
        `${TASKS} tasks, ${STREAMS_EACH} streams of each at each replica that is watched; ${BURST} chunks at a time, two bursts under way`,
      ],
      ["rounds", `${ROUNDS} of ${ROUND_MS} ms each, interleaved; medians`],
    ],
  };
};

async function startCluster(
  replicas: number,
  nats: NatsServer | undefined,
  database: DatabaseServer,
  stack: AsyncDisposableStack,
  signal: AbortSignal,
): Promise<Cluster> {
  const bus = nats ? [`nats.url=${nats.url}`] : [];
  const args = ["chorus", await database.createDatabase(), ...bus];
  const servers: ServerProcess<A2AAddress>[] = [];
  while (servers.length < replicas) {
    servers.push(stack.use(await startServer<A2AAddress>("signalbox", { cores: ANY_CORE, args, signal })));
  }
  const name = replicas === 1 ? "1 replica" : `${replicas} replicas, ${nats ? "NATS" : "PostgreSQL"}`;
  return { name, servers, timesMs: [], rates: [], costUs: [], tasks: 0 };
}

/** Tasks at the first replica, watched at each of the others; where there are none, at the first. */
async function watchTasks(cluster: Cluster, tasks: number, streamsEach: number, watchers: Watchers, isTimed: boolean) {
  const [first, ...others] = cluster.servers;
  using connection = connectTo(first!.address);
  const taskIds: string[] = [];
  while (taskIds.length < tasks) taskIds.push(await connection.startTask());
  const before = cluster.tasks;
  cluster.tasks += tasks;
  const watched = others.length > 0 ? others : [first!];
  for (const { address } of watched) {
    const streams = tasks * streamsEach;
    await watchers.open({ authority: address.authority, taskIds, streams, connections: CONNECTIONS, isTimed });
  }
  const say = (chunks: number, signal: AbortSignal) =>
    inTime("the agents", first!.ask<void>({ before, tasks, chunks } satisfies Order), PATIENCE_MS, signal);
  return { say, streams: tasks * streamsEach * watched.length };
}

/** How old updates were that came one at a time, in milliseconds. */
async function timeSingly(cluster: Cluster, watchers: Watchers, signal: AbortSignal): Promise<number[]> {
  const { say } = await watchTasks(cluster, 1, 1, watchers, true);
  for (let said = 1; said <= WARM_UP_SAMPLES + SAMPLES; said++) {
    await say(1, signal);
    await watchers.each(said);
    if (said === WARM_UP_SAMPLES) await watchers.timesMs();
  }
  const timesMs = await watchers.timesMs();
  await watchers.close();
  return timesMs;
}

/** One round of many updates. */
async function speakFast(cluster: Cluster, watchers: Watchers, signal: AbortSignal): Promise<void> {
  const { say, streams } = await watchTasks(cluster, TASKS, STREAMS_EACH, watchers, false);
  const cpuMs = async () => (await Promise.all(cluster.servers.map((each) => each.cpuMs()))).reduce((a, b) => a + b);
  let said = 0;
  const sayMore = async () => {
    await say(BURST, signal);
    said += BURST;
  };
  await sayMore();
  await watchers.each(said);

  const [before, started] = [await cpuMs(), performance.now()];
  await sayMore();
  while (performance.now() < started + ROUND_MS) {
    await sayMore();
    await watchers.each(said - BURST);
  }
  await watchers.each(said);
  const tookMs = performance.now() - started;
  const updates = (said - BURST) * streams;
  cluster.rates.push((updates * 1_000) / tookMs);
  cluster.costUs.push((((await cpuMs()) - before) * 1_000) / updates);
  await watchers.close();
}

function textOf({ timesMs, rates, costUs }: Cluster): string {
  const { p50Ms, p99Ms } = latencies(timesMs);
  const rate = Math.round(median(rates)).toLocaleString("en");
  const cost = median(costUs).toFixed(0);
  return `p50 ${p50Ms.toFixed(1)} ms, p99 ${p99Ms.toFixed(1)} ms; ${rate} updates/s, ${cost} µs of the replicas' cores for each`;
}
