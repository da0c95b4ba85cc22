/**
 * Updates per second that one process delivers: a task whose agent speaks as fast as its slowest watcher reads, with 1, 100 and 1,000
 * watchers. Beside them as many watchers for each of whom every update is encoded anew. And how soon a watcher that was cut off goes on.
 * Takes about three minutes.
 */
import { cpus, loadavg } from "node:os";
import { UPDATES_EXTENSION } from "../src/domain/updates-extension.ts";
import { inTime } from "./lab/in-time.ts";
import { type Lab, openLab } from "./lab/lab.ts";
import { atLeast, type Benchmark, median } from "./lab/report.ts";
import type { ServerProcess } from "./lab/server-process.ts";
import { versions } from "./lab/versions.ts";
import { startWatchers, type Watchers } from "./lab/watchers.ts";
import type { Order } from "./servers/agents.ts";
import { resuming } from "./tasks/resuming.ts";
import { type A2AAddress, connectTo } from "./tasks/send.ts";

const ROUNDS = 5;
const ROUND_MS = 2_500;
const WARM_UP_ROUNDS = 1;
/** Chunks that the agent says without waiting for its watchers; two such bursts are under way at a time. */
const BURST = 32;
const CONNECTIONS = 8;
const PATIENCE_MS = 30_000;

interface Round {
  perSecond: number;
  /** Of the server's core, for each delivered update. */
  ownUs: number;
  /** Share of its core that the client was busy. */
  clientBusy: number;
}

interface Contestant {
  readonly name: string;
  readonly streams: number;
  readonly headers?: Readonly<Record<string, string>>;
  /** Over gRPC at the HTTP listener, in place of the gRPC listener. */
  readonly overHttp?: boolean;
  readonly rounds: Round[];
}

export const bench: Benchmark = async (signal) => {
  const [loadBefore = 0] = loadavg();
  await using lab = await openLab(signal);
  await using watchers = await startWatchers(signal);
  await using server = await lab.start<A2AAddress>("signalbox", "chorus", await lab.database.createDatabase());
  const one: Contestant = { name: "1 watcher", streams: 1, rounds: [] };
  const hundred: Contestant = { name: "100 watchers", streams: 100, rounds: [] };
  const thousand: Contestant = { name: "1,000 watchers", streams: 1_000, rounds: [] };
  const numbered: Contestant = {
    name: "1,000 watchers, each item with its number",
    streams: 1_000,
    headers: { "a2a-extensions": UPDATES_EXTENSION },
    rounds: [],
  };
  const encoded: Contestant = { name: "1,000 watchers, the HTTP listener", streams: 1_000, overHttp: true, rounds: [] };
  const contestants = [one, hundred, thousand, numbered, encoded];

  const hall = new Hall(server, watchers, signal);
  for (let round = -WARM_UP_ROUNDS; round < ROUNDS; round++) {
    for (const contestant of contestants) {
      const done = await hall.hold(contestant);
      if (round >= 0) contestant.rounds.push(done);
    }
  }
  const resumed = await resuming(lab);
  const gain = median(thousand.rounds.map(({ perSecond }, i) => perSecond / encoded.rounds[i]!.perSecond));
  return {
    goals: [
      atLeast("1,000 watchers: updates/s in all", rateOf(thousand), 50_000, "updates/s", 0),
      atLeast("1,000 watchers: updates/s / those of the HTTP listener, which encodes for each", gain, 5, "ratio"),
      ...resumed.goals,
    ],
    figures: [
      ...contestants.map((contestant): [string, string] => [contestant.name, textOf(contestant)]),
      ...resumed.figures,
    ],
    conditions: conditionsOf(lab, loadBefore),
  };
};

/** Where tasks speak and are watched, one after another. */
class Hall {
  readonly #server: ServerProcess<A2AAddress>;
  readonly #watchers: Watchers;
  readonly #signal: AbortSignal;
  #tasks = 0;

  constructor(server: ServerProcess<A2AAddress>, watchers: Watchers, signal: AbortSignal) {
    this.#server = server;
    this.#watchers = watchers;
    this.#signal = signal;
  }

  /** One round, with a task of its own. */
  async hold({ streams, headers = {}, overHttp = false }: Contestant): Promise<Round> {
    const watchers = this.#watchers;
    const { address } = this.#server;
    const authority = overHttp ? new URL(address.httpUrl).host : address.authority;
    using connection = connectTo(address);
    const taskIds = [await inTime("a new task", connection.startTask(), PATIENCE_MS, this.#signal)];
    const before = this.#tasks++;
    await watchers.open({ authority, taskIds, streams, connections: Math.min(streams, CONNECTIONS), headers });
    await this.#say(before);
    await watchers.each(BURST);

    const [ownBefore, clientBefore] = [await this.#server.cpuMs(), await watchers.cpuMs()];
    const started = performance.now();
    let said = BURST;
    const sayMore = async () => {
      await this.#say(before);
      said += BURST;
    };
    await sayMore();
    while (performance.now() < started + ROUND_MS) {
      await sayMore();
      await watchers.each(said - BURST);
    }
    await watchers.each(said);
    const tookMs = performance.now() - started;
    const [ownMs, clientMs] = [await this.#server.cpuMs(), await watchers.cpuMs()];
    await watchers.close();
    const updates = (said - BURST) * streams;
    return {
      perSecond: (updates * 1_000) / tookMs,
      ownUs: ((ownMs - ownBefore) * 1_000) / updates,
      clientBusy: (clientMs - clientBefore) / tookMs,
    };
  }

  #say(before: number): Promise<void> {
    const order: Order = { before, tasks: 1, chunks: BURST };
    return inTime("the agent", this.#server.ask<void>(order), PATIENCE_MS, this.#signal);
  }
}

const rateOf = ({ rounds }: Contestant): number => median(rounds.map(({ perSecond }) => perSecond));

function textOf(contestant: Contestant): string {
  const { rounds, streams } = contestant;
  const rate = rateOf(contestant);
  const busy = Math.round(median(rounds.map(({ clientBusy }) => clientBusy)) * 100);
  const each = streams > 1 ? `, ${Math.round(rate / streams).toLocaleString("en")}/s each` : "";
  const cost = median(rounds.map(({ ownUs }) => ownUs)).toFixed(1);
  return `${Math.round(rate).toLocaleString("en")} updates/s${each}, ${cost} µs of the server's core for each, client busy ${busy}%`;
}

const conditionsOf = (lab: Lab, loadBefore: number): [string, string][] => [
  ["database", lab.database.description],
  ["machine", `${cpus()[0]?.model}; load average before the run ${loadBefore.toFixed(2)}`],
  ["cores", lab.cores.description],
  ["versions", versions("pg", "@grpc/grpc-js", "@connectrpc/connect-node")],
  [
    "watchers",
    `SubscribeToTask over gRPC, ${CONNECTIONS} connections, a client of Node's HTTP/2 in a process of its own`,
  ],
  [
    "an update",
    `a chunk of some 40 bytes, stored before it is shown; the agent says ${BURST} at a time, and is two bursts ahead of its slowest watcher`,
  ],
  ["rounds", `${ROUNDS} of ${ROUND_MS} ms each, interleaved, after ${WARM_UP_ROUNDS} to warm up; medians`],
];
