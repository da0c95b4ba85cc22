/**
 * Whole tasks through the bindings: SendMessage until the task is stored as COMPLETED, from Signalbox and from the server of
 * @a2a-js/sdk, each with an agent in its process that does the same. Every contest has processes of its own: what is kept
 * in memory only grows.
 */
import type { Findings, Lab } from "../lab/lab.ts";
import { type Load, loadText } from "../lab/latency.ts";
import type { LoadRequest } from "../lab/load-request.ts";
import { atLeast, below, type Goal, median } from "../lab/report.ts";
import { type A2AAddress, grpcSend, jsonRpcSend, storedTasks } from "./send.ts";

const ROUNDS = 5;
const ROUND_MS = 1_500;
const WARM_UP_MS = 2_000;

const NAMES = {
  signalbox: "Signalbox on PostgreSQL",
  memory: "@a2a-js/sdk in memory",
  postgres: "@a2a-js/sdk on PostgreSQL",
};
type Name = keyof typeof NAMES;

interface Contest {
  binding: "gRPC" | "JSON-RPC";
  inFlight: number;
  /** Signalbox, and each peer with how many times its rate is the goal. */
  peers: Partial<Record<Exclude<Name, "signalbox">, number>>;
}

const CONTESTS: readonly Contest[] = [
  { binding: "gRPC", inFlight: 64, peers: { memory: 1.1, postgres: 7 } },
  { binding: "gRPC", inFlight: 512, peers: { memory: 1.2 } },
  { binding: "JSON-RPC", inFlight: 64, peers: { memory: 1.2 } },
];

export async function overTheWire(lab: Lab): Promise<Findings> {
  const goals: Goal[] = [];
  const figures: (readonly [string, string])[] = [];
  for (const contest of CONTESTS) {
    const found = await hold(contest, lab);
    goals.push(...found.goals);
    figures.push(...found.figures);
  }
  return { goals, figures };
}

/** One round of one server: what the load saw, and what share of the time the server's core worked for it. */
interface Round extends Load {
  busy: number;
}

async function hold({ binding, inFlight, peers }: Contest, lab: Lab): Promise<Findings> {
  await using stack = new AsyncDisposableStack();
  const enter = async (name: Name, file: string, ...args: string[]) => {
    const server = stack.use(await lab.start<A2AAddress>(file, ...args));
    const request = await (binding === "gRPC" ? grpcSend : jsonRpcSend)(server.address);
    return { name, server, request, rounds: [] as Round[], answered: 0 };
  };
  const signalbox = await enter("signalbox", "signalbox", "clerk", await lab.database.createDatabase());
  const contestants = [signalbox];
  if (peers.memory) contestants.push(await enter("memory", "a2a-sdk"));
  if (peers.postgres) contestants.push(await enter("postgres", "a2a-sdk", await lab.database.createDatabase()));

  const measure = async ({ server, request }: (typeof contestants)[number], durationMs: number): Promise<Round> => {
    const before = await server.cpuMs();
    const load = await lab.load.run(request satisfies LoadRequest, { inFlight, durationMs }, lab.signal);
    return { ...load, busy: ((await server.cpuMs()) - before) / durationMs };
  };
  for (const contestant of contestants) {
    const { perSecond } = await measure(contestant, WARM_UP_MS);
    contestant.answered += (perSecond * WARM_UP_MS) / 1000;
  }
  for (let round = 0; round < ROUNDS; round++) {
    for (const contestant of contestants) {
      const measured = await measure(contestant, ROUND_MS);
      contestant.rounds.push(measured);
      contestant.answered += (measured.perSecond * ROUND_MS) / 1000;
    }
  }
  for (const { name, server, answered } of contestants) {
    const stored = await storedTasks(server.address);
    if (stored < Math.floor(answered)) throw new Error(`${name} answered ${answered} calls and has ${stored} tasks`);
  }

  const title = `${binding}, ${inFlight} in flight`;
  const times = (peer: (typeof contestants)[number]) =>
    median(signalbox.rounds.map(({ perSecond }, round) => perSecond / peer.rounds[round]!.perSecond));
  const spread = median(signalbox.rounds.map(({ p50Ms, p99Ms }) => p99Ms / p50Ms));
  return {
    goals: [
      ...contestants
        .filter((peer) => peer !== signalbox)
        .map((peer) =>
          atLeast(`${title}: tasks / ${NAMES[peer.name]}`, times(peer), peers[peer.name as "memory"] ?? 0, "ratio"),
        ),
      below(`${title}: p99 / p50`, spread, 10, "ratio"),
    ],
    figures: contestants.map(({ name, rounds }) => [`${title}, ${NAMES[name]}`, roundText(rounds)]),
  };
}

/** Of the round of the median rate. What a task costs the server's core does not depend on what else the machine does. */
function roundText(rounds: readonly Round[]): string {
  const middle = rounds.toSorted((a, b) => a.perSecond - b.perSecond)[rounds.length >> 1]!;
  const costUs = median(rounds.map(({ busy, perSecond }) => (busy * 1e6) / perSecond));
  return `${loadText(middle)}, server busy ${Math.round(middle.busy * 100)}%, ${Math.round(costUs)} µs of it a task`;
}
