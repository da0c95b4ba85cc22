/**
 * One router, some agents, many tasks: what comes of a way to choose. A discrete-event simulation, the same for the same seed
 * on every machine. How large a task is, and with which agents it would fail, is drawn before anyone chooses, so all ways to
 * choose meet the same fate.
 */
import { errorRateAt, latencyAt, newSignals, observe, type Signals } from "../../src/domain/routing/agent-signals.ts";
import type { Candidate } from "../../src/domain/routing/candidate.ts";
import { choose } from "../../src/domain/routing/choose.ts";
import { mix32 } from "../../src/domain/routing/hash.ts";
import { seededRandom } from "../../src/domain/routing/seeded-random.ts";
import { DEFAULT_WEIGHTS } from "../../src/domain/routing/strategies.ts";
import type { StrategyName } from "../../src/domain/routing/strategy.ts";
import { latencies } from "../lab/latency.ts";
import { CONTEXTS, type Scenario, type SimulatedAgent, SPREAD, TASKS } from "./scenarios.ts";

/**
 * RANDOM takes any agent that has room. HINDSIGHT knows every fate, and takes the agent that will bring the task to a good end
 * first: the most that one can do for a task, but not for the tasks after it, and without a thought for money.
 */
export type Chooser = StrategyName | "RANDOM" | "HINDSIGHT";

export interface Outcome {
  /** Mean cost of a task, failed ones included, in the currency. */
  cost: number;
  /** From acceptance to the end, of tasks that did not fail. */
  p50Ms: number;
  p99Ms: number;
  /** Share of tasks that did not fail. */
  success: number;
}

/** An agent, as it is and as the router knows it. */
interface Worker {
  readonly agent: SimulatedAgent;
  /** When each of its slots is free. */
  readonly freeAtMs: number[];
  readonly signals: Signals;
  inFlight: number;
}

interface Fate {
  readonly slot: number;
  readonly endMs: number;
  readonly failed: boolean;
}

interface Ending extends Fate {
  readonly worker: Worker;
  readonly latencyMs: number;
}

export function simulate(scenario: Scenario, chooser: Chooser, seed: number): Outcome {
  const workers = scenario.agents.map(
    (agent): Worker => ({
      agent,
      freeAtMs: new Array<number>(agent.slots).fill(0),
      signals: newSignals(),
      inFlight: 0,
    }),
  );
  const arrivals = seededRandom(seed);
  /** In the order of their ends. */
  const running: Ending[] = [];
  const timesMs: number[] = [];
  let [nowMs, costMicros] = [0, 0];
  for (let task = 0; task < TASKS; task++) {
    nowMs += (-Math.log(1 - arrivals()) * 1_000) / perSecond(scenario, nowMs);
    const key = `context-${Math.floor(CONTEXTS * arrivals() ** 2)}`;
    while (running[0] && running[0].endMs <= nowMs) see(running.shift()!);
    const size = lognormal(arrivals);
    /** What would become of the task with an agent. */
    const fateWith = (i: number) =>
      fateOf(workers[i]!, { nowMs, size, luck: mix32(seed ^ mix32(task * 64 + i)) / 2 ** 32 });
    const index =
      chooser === "HINDSIGHT"
        ? firstGoodEnd(workers.map((_, i) => fateWith(i)))
        : pick(chooser, workers, { nowMs, key, task, seed: mix32(seed + task) });
    const [worker, fate] = [workers[index]!, fateWith(index)];
    const latencyMs = fate.endMs - nowMs;
    worker.freeAtMs[fate.slot] = fate.endMs;
    worker.inFlight++;
    insert(running, { ...fate, worker, latencyMs });
    costMicros += worker.agent.costMicros;
    if (!fate.failed) timesMs.push(latencyMs);
  }
  return { cost: costMicros / TASKS / 1e6, success: timesMs.length / TASKS, ...latencies(timesMs) };
}

/** The router learns of an end. */
function see({ worker, latencyMs, failed, endMs }: Ending): void {
  worker.inFlight--;
  observe(worker.signals, { latencyMs, failed, nowMs: endMs });
}

const perSecond = ({ load }: Scenario, nowMs: number): number =>
  load.findLast(({ fromMs }) => fromMs <= nowMs)!.perSecond;

/** What becomes of a task that is given to an agent now. `luck` is from 0 to 1: below the agent's rate of failure, it fails. */
function fateOf({ agent, freeAtMs }: Worker, task: { nowMs: number; size: number; luck: number }): Fate {
  const slot = freeAtMs.indexOf(Math.min(...freeAtMs));
  const startMs = Math.max(task.nowMs, freeAtMs[slot]!);
  const { trouble } = agent;
  const inTrouble = trouble !== undefined && startMs >= trouble.fromMs && startMs < trouble.toMs;
  const failed = task.luck < agent.failing + (inTrouble ? trouble.failing : 0);
  const workMs = agent.workMs * (inTrouble ? trouble.slower : 1) * task.size;
  return { slot, failed, endMs: startMs + (failed ? workMs / 10 : workMs) };
}

/** Of mean 1. Normal by Box and Muller, 1958. */
function lognormal(random: () => number): number {
  const normal = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  return Math.exp(SPREAD * normal - SPREAD ** 2 / 2);
}

function pick(
  chooser: Exclude<Chooser, "HINDSIGHT">,
  workers: readonly Worker[],
  { nowMs, key, task, seed }: { nowMs: number; key: string; task: number; seed: number },
): number {
  const options = { key, turn: task, seed, weights: DEFAULT_WEIGHTS };
  const candidates = workers.map((worker) => candidateOf(worker, nowMs));
  if (chooser !== "RANDOM") return choose(candidates, chooser, options).index;
  // At the same price, the lowest cost is chance among those that have room.
  const alike = candidates.map((candidate) => ({ ...candidate, costMicros: 0 }));
  return choose(alike, "LOWEST_COST", options).index;
}

function firstGoodEnd(fates: readonly Fate[]): number {
  const rank = ({ failed, endMs }: Fate) => (failed ? Number.MAX_VALUE : endMs);
  return fates.reduce((best, fate, i) => (rank(fate) < rank(fates[best]!) ? i : best), 0);
}

/** A reputation is what somebody keeps who has seen more: here the agent's usual share of tasks done well. */
const candidateOf = ({ agent, signals, inFlight }: Worker, nowMs: number): Candidate => ({
  agentId: agent.agentId,
  inFlight,
  maxConcurrency: agent.declaresSlots ? agent.slots : undefined,
  latencyMs: latencyAt(signals, nowMs),
  errorRate: errorRateAt(signals, nowMs),
  costMicros: agent.costMicros,
  reputation: 1 - agent.failing,
});

/** Most tasks end after those that came before them. */
function insert(running: Ending[], ending: Ending): void {
  let place = running.length;
  while (place > 0 && running[place - 1]!.endMs > ending.endMs) place--;
  running.splice(place, 0, ending);
}
