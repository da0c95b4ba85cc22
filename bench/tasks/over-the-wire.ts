/**
 * Whole tasks through the bindings: SendMessage until the task is stored as COMPLETED, from Signalbox and from the server of
 * @a2a-js/sdk, each with an agent in its process that does the same. Every contest has processes of its own: what is kept
 * in memory only grows.
 */
import type { InFlight } from "../lab/keep-in-flight.ts";
import type { Findings, Lab } from "../lab/lab.ts";
import type { Load } from "../lab/latency.ts";
import { atLeast, below, type Goal, median } from "../lab/report.ts";
import type { ServerProcess } from "../lab/server-process.ts";
import { type Contestant, roundsText, takeTurns, times } from "./contest.ts";
import { type A2AAddress, grpcSend, jsonRpcSend, storedTasks } from "./send.ts";

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

/** More tasks than these are not counted exactly. */
const EXACT = 10_000;

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

interface A2AContestant extends Contestant<Name, Load> {
  readonly server: ServerProcess<A2AAddress>;
}

async function hold({ binding, inFlight, peers }: Contest, lab: Lab): Promise<Findings> {
  await using stack = new AsyncDisposableStack();
  const enter = async (name: Name, program: readonly string[], databaseUrl?: string): Promise<A2AContestant> => {
    const [file = "", ...args] = databaseUrl === undefined ? program : [...program, databaseUrl];
    const server = stack.use(await lab.start<A2AAddress>(file, ...args));
    const request = await (binding === "gRPC" ? grpcSend : jsonRpcSend)(server.address);
    const run = (load: InFlight) => lab.load.run(request, load, lab.signal);
    return { name, server, databaseUrl, run, rounds: [], answered: 0 };
  };
  const signalbox = await enter("signalbox", ["signalbox", "clerk"], await lab.database.createDatabase());
  const contestants = [signalbox];
  if (peers.memory) contestants.push(await enter("memory", ["a2a-sdk"]));
  if (peers.postgres) contestants.push(await enter("postgres", ["a2a-sdk"], await lab.database.createDatabase()));

  await takeTurns(contestants, inFlight, lab);
  for (const { name, server, answered } of contestants) {
    const stored = await storedTasks(server.address);
    if (stored < Math.min(answered, EXACT))
      throw new Error(`${name} answered ${answered} calls and has ${stored} tasks`);
  }

  const title = `${binding}, ${inFlight} in flight`;
  const spread = median(signalbox.rounds.map(({ p50Ms, p99Ms }) => p99Ms / p50Ms));
  return {
    goals: [
      ...contestants
        .filter((peer) => peer !== signalbox)
        .map((peer) =>
          atLeast(
            `${title}: tasks / ${NAMES[peer.name]}`,
            times(signalbox, peer),
            peers[peer.name as "memory"] ?? 0,
            "ratio",
          ),
        ),
      below(`${title}: p99 / p50`, spread, 10, "ratio"),
    ],
    figures: contestants.map(({ name, rounds }) => [`${title}, ${NAMES[name]}`, roundsText(rounds)]),
  };
}
