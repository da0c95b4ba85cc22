/**
 * What a routing decision costs beside a plain scan of the same candidates, what the signals of an agent weigh, and what comes
 * of each strategy in a simulation. Rounds are interleaved: a machine that slows down slows all.
 */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { newSignals, observe, type Signals } from "../src/domain/routing/agent-signals.ts";
import type { Candidate } from "../src/domain/routing/candidate.ts";
import { choose } from "../src/domain/routing/choose.ts";
import { seededRandom } from "../src/domain/routing/seeded-random.ts";
import { DEFAULT_WEIGHTS } from "../src/domain/routing/strategies.ts";
import { STRATEGIES, type StrategyName } from "../src/domain/routing/strategy.ts";
import { type Benchmark, below, type Goal, median } from "./lab/report.ts";
import { versions } from "./lab/versions.ts";
import { chooserName, outcomeOf, type Results, SEED, shown, simulateAll } from "./simulation/results.ts";
import { TASKS } from "./simulation/scenarios.ts";

const AGENTS = 10_000;
const ROUNDS = 201;
/** Decisions in a round, each among the candidates of another capability. */
const DECISIONS = 200;
/** Rounds before those that count: by then the compiler has done its work. */
const WARM_UP = 30;
const GOAL_US: readonly (readonly [candidates: number, us: number])[] = [
  [100, 20],
  [10, 3],
];
const GOAL_BYTES = 4_096;

export const bench: Benchmark = async (signal) => {
  const agents = makeAgents();
  const costs = GOAL_US.map(([count, goalUs]) => {
    signal.throwIfAborted();
    return { count, goalUs, ...measure(agents, count) };
  });
  const bytes = bytesOfSignals();
  signal.throwIfAborted();
  const results = simulateAll();
  const slowest = costs.map(({ us }) => STRATEGIES.toSorted((a, b) => us[b] - us[a])[0]!);
  return {
    goals: [
      ...costs.map(({ count, goalUs, us }, i) =>
        below(`decision, ${count} candidates, ${chooserName(slowest[i]!)}`, us[slowest[i]!], goalUs, "us"),
      ),
      below("signals of an agent", bytes, GOAL_BYTES, "bytes", 0),
      ...tailGoals(results),
    ],
    figures: [
      ["decision", costs.map(({ count }) => `${count} candidates`).join("; ")],
      ["plain scan", costs.map(({ scanUs }) => `${scanUs.toFixed(3)} us`).join("; ")],
      ...STRATEGIES.map((name): [string, string] => [
        chooserName(name),
        costs.map(({ us, ratio }) => `${us[name].toFixed(2)} us, ${ratio[name].toFixed(1)} scans`).join("; "),
      ]),
      ...results.flatMap(simulationFigures),
    ],
    conditions: [
      ["versions", versions()],
      ["agents", `${AGENTS}, in the order of their ids, each capability offered by as many as there are candidates`],
      ["a decision", "candidates given, strategy run, choice made; the goals are for the slowest strategy"],
      ["a plain scan", "the same candidates once: the least in flight, by one comparison each"],
      ["rounds", `${ROUNDS} of ${DECISIONS} decisions each, interleaved; medians`],
      ["simulation", `${TASKS} tasks a run, seed ${SEED}`],
    ],
  };
};

function makeAgents(): Candidate[] {
  const random = seededRandom(SEED);
  return Array.from({ length: AGENTS }, (_, i) => ({
    agentId: `agent-${String(i).padStart(5, "0")}`,
    inFlight: Math.floor(random() * 20),
    maxConcurrency: random() < 0.5 ? 20 : undefined,
    latencyMs: random() < 0.9 ? 50 + random() * 2_000 : undefined,
    errorRate: random() < 0.5 ? 0 : random() * 0.1,
    costMicros: Math.floor(random() * 50_000),
    reputation: random() < 0.5 ? undefined : random(),
  }));
}

/** Microseconds of a decision by each strategy, those of a scan, and the one by the other in the same round. */
function measure(agents: readonly Candidate[], count: number) {
  const capabilities = Array.from({ length: AGENTS / count }, (_, i) => agents.slice(i * count, (i + 1) * count));
  const deciding = (strategy: StrategyName) => (candidates: readonly Candidate[], turn: number) =>
    choose(candidates, strategy, { key: "01a1fb3c-4793-7162", turn, seed: turn, weights: DEFAULT_WEIGHTS }).index;
  const contestants = STRATEGIES.map((name) => ({ name, decide: deciding(name), us: [] as number[] }));
  const scansUs: number[] = [];
  for (let round = -WARM_UP; round < ROUNDS; round++) {
    const scanUs = timed(capabilities, round, scan);
    if (round >= 0) scansUs.push(scanUs);
    for (const { decide, us } of contestants) {
      const decisionUs = timed(capabilities, round, decide);
      if (round >= 0) us.push(decisionUs);
    }
  }
  const perStrategy = (value: (us: readonly number[]) => number) =>
    Object.fromEntries(contestants.map(({ name, us }) => [name, value(us)])) as Record<StrategyName, number>;
  return {
    scanUs: median(scansUs),
    us: perStrategy(median),
    ratio: perStrategy((us) => median(us.map((each, round) => each / scansUs[round]!))),
  };
}

/** Microseconds of one call, over a round of them. */
function timed(
  capabilities: readonly (readonly Candidate[])[],
  round: number,
  decide: (candidates: readonly Candidate[], turn: number) => number,
): number {
  let taken = 0;
  const begin = performance.now();
  for (let i = 0; i < DECISIONS; i++) {
    const turn = (round + WARM_UP) * DECISIONS + i;
    taken += decide(capabilities[turn % capabilities.length]!, turn);
  }
  const us = ((performance.now() - begin) * 1_000) / DECISIONS;
  // What nobody uses, a compiler may leave out.
  if (taken < 0) throw new Error("no candidate was chosen");
  return us;
}

function scan(candidates: readonly Candidate[]): number {
  let least = 0;
  for (let i = 1; i < candidates.length; i++) {
    if (candidates[i]!.inFlight < candidates[least]!.inFlight) least = i;
  }
  return least;
}

/** Bytes of the heap for one record of signals in which there is something. */
function bytesOfSignals(): number {
  setFlagsFromString("--expose_gc");
  const collect = runInNewContext("gc") as () => void;
  const kept = new Array<Signals | undefined>(AGENTS * 10).fill(undefined);
  collect();
  const before = process.memoryUsage().heapUsed;
  for (let i = 0; i < kept.length; i++) {
    const signals = newSignals();
    for (let task = 0; task < 3; task++) {
      observe(signals, { latencyMs: 100.5 + i + task, failed: task === 1, nowMs: i + task * 1_000.5 });
    }
    kept[i] = signals;
  }
  collect();
  return (process.memoryUsage().heapUsed - before) / kept.length;
}

/** How much of chance's p99 is left where some agents are slow. */
const tailGoals = (results: readonly Results[]): Goal[] =>
  (["POWER_OF_TWO", "LOWEST_LATENCY"] as const).map((name) => {
    const { p99Ms } = outcomeOf(results, "skewed", name);
    const share = p99Ms / outcomeOf(results, "skewed", "RANDOM").p99Ms;
    return below(`p99 of ${chooserName(name)} / random, skewed`, share, 0.5, "ratio");
  });

const simulationFigures = ({ scenario, outcomes }: Results): [string, string][] => [
  [`simulated: ${scenario.name}`, `${scenario.about}; cost a task, p50, p99, success`],
  ...outcomes.map(({ chooser, outcome }): [string, string] => {
    const { cost, p50, p99, success } = shown(outcome);
    return [`  ${chooserName(chooser)}`, [cost, p50.padStart(9), p99.padStart(9), success.padStart(7)].join("  ")];
  }),
];
