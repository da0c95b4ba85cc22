/**
 * What one process keeps in memory: for a thousand tasks whose agents are at work, and for an idle stream. Ten thousand tasks are begun,
 * each is watched by a stream of its own, and at the end some of them speak: what they say must come. Takes about a minute.
 */
import { cpus, loadavg } from "node:os";
import { setTimeout as rest } from "node:timers/promises";
import { inTime } from "./lab/in-time.ts";
import { keepInFlight } from "./lab/keep-in-flight.ts";
import { type Lab, openLab } from "./lab/lab.ts";
import { atMost, type Benchmark, median } from "./lab/report.ts";
import type { ServerProcess } from "./lab/server-process.ts";
import { versions } from "./lab/versions.ts";
import { startWatchers } from "./lab/watchers.ts";
import type { Order } from "./servers/agents.ts";
import { type A2AAddress, connectTo } from "./tasks/send.ts";

const TASKS = 10_000;
const STREAMS = 10_000;
const CONNECTIONS = 10;
const WARM_UP_TASKS = 100;
const IN_FLIGHT = 32;
/** So many of the tasks speak at the end. */
const SPEAKERS = 500;
const MIB = 1024 * 1024;
const PATIENCE_MS = 60_000;

/** Memory is looked at until so many looks differ by less than a hundredth. */
const LOOKS = { alike: 4, most: 40, everyMs: 500 };

/** What the limits are by default is less than this bench asks for. */
const SETTINGS = [
  `limits.running-tasks=${2 * TASKS}`,
  `limits.connection-streams=${(2 * STREAMS) / CONNECTIONS}`,
  "agent.timeout-ms=3600000",
];

export const bench: Benchmark = async (signal) => {
  const [loadBefore = 0] = loadavg();
  await using lab = await openLab(signal);
  await using watchers = await startWatchers(signal);
  const databaseUrl = await lab.database.createDatabase();
  await using server = await lab.start<A2AAddress>("signalbox", "chorus", databaseUrl, ...SETTINGS);

  await beginTasks(WARM_UP_TASKS, server.address, signal);
  const atFirst = await settledBytes(server, signal);
  const taskIds = await beginTasks(TASKS, server.address, signal);
  const withTasks = await settledBytes(server, signal);
  const { authority } = server.address;
  const opening = performance.now();
  await watchers.open({ authority, taskIds, streams: STREAMS, connections: CONNECTIONS });
  const openedMs = performance.now() - opening;
  const withStreams = await settledBytes(server, signal);

  const order: Order = { before: WARM_UP_TASKS, tasks: SPEAKERS, chunks: 1 };
  const speaking = performance.now();
  await inTime("the agents", server.ask<void>(order), PATIENCE_MS, signal);
  const reached = await watchers.all(SPEAKERS);
  if (reached !== SPEAKERS) throw new Error(`${SPEAKERS} tasks spoke, and ${reached} streams heard it`);
  const spokenMs = performance.now() - speaking;
  await watchers.close();

  const perStream = (withStreams - withTasks) / STREAMS / 1024;
  const perThousand = (withTasks - atFirst) / (TASKS / 1_000) / MIB;
  return {
    goals: [
      atMost(
        `${named(STREAMS)} idle streams of ${named(TASKS)} running tasks: in all`,
        withStreams / MIB,
        1024,
        "MiB",
        0,
      ),
    ],
    figures: [
      ["a server with nothing to do", `${(atFirst / MIB).toFixed(0)} MiB`],
      [
        `with ${named(TASKS)} running tasks`,
        `${(withTasks / MIB).toFixed(0)} MiB, ${perThousand.toFixed(1)} MiB for each thousand`,
      ],
      [
        `and ${named(STREAMS)} idle streams`,
        `${(withStreams / MIB).toFixed(0)} MiB, ${perStream.toFixed(1)} KiB for each`,
      ],
      ["opening the streams", `${named(Math.round((STREAMS * 1_000) / openedMs))} streams/s, each up to its task`],
      [`one update of each of ${SPEAKERS} tasks`, `with all watchers after ${spokenMs.toFixed(0)} ms`],
    ],
    conditions: conditionsOf(lab, loadBefore),
  };
};

/** Begins tasks, many at once, and returns their ids. */
async function beginTasks(count: number, address: A2AAddress, signal: AbortSignal): Promise<string[]> {
  using connection = connectTo(address);
  const ids: string[] = [];
  let begun = 0;
  const beginOne = async () => {
    signal.throwIfAborted();
    if (begun++ < count) ids.push(await connection.startTask());
  };
  // Until all are begun, however long that takes a busy machine.
  while (begun < count)
    await inTime("new tasks", keepInFlight({ inFlight: IN_FLIGHT, durationMs: 100 }, beginOne), PATIENCE_MS, signal);
  return ids;
}

/** The resident set, once it has come to rest. */
async function settledBytes(server: ServerProcess<A2AAddress>, signal: AbortSignal): Promise<number> {
  const seen: number[] = [];
  for (let look = 0; look < LOOKS.most; look++) {
    await rest(LOOKS.everyMs, undefined, { signal });
    seen.push(await inTime("the memory", server.residentBytes(), PATIENCE_MS, signal));
    const last = seen.slice(-LOOKS.alike);
    if (last.length === LOOKS.alike && Math.max(...last) < 1.01 * Math.min(...last)) break;
  }
  return median(seen.slice(-LOOKS.alike));
}

const named = (count: number): string => count.toLocaleString("en");

const conditionsOf = (lab: Lab, loadBefore: number): [string, string][] => [
  ["database", lab.database.description],
  ["machine", `${cpus()[0]?.model}; load average before the run ${loadBefore.toFixed(2)}`],
  ["cores", lab.cores.description],
  ["versions", versions("pg", "@grpc/grpc-js")],
  ["settings", SETTINGS.join(", ")],
  [
    "memory",
    "resident set of the server's process, with the garbage that it has not collected yet, when it no longer changes",
  ],
  [
    "tasks",
    "begun one after another, each with its first state stored; the agents that wait are functions in the server's process, and in the figure",
  ],
  ["streams", `SubscribeToTask over gRPC on ${CONNECTIONS} connections, one for each task; each has shown its task`],
];
