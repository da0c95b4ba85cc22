/** The worlds in which strategies are compared: agents, how they change, and the tasks that come. */

/** An agent works on some tasks at once, and lets others wait in the order in which they came. */
export interface SimulatedAgent {
  readonly agentId: string;
  /** Mean time that it works on a task. */
  readonly workMs: number;
  /** Tasks that it works on at once. */
  readonly slots: number;
  /** Whether it says how many: then the router gives it no more, unless all are full. */
  readonly declaresSlots: boolean;
  /** Share of tasks that it fails, after a tenth of the work. */
  readonly failing: number;
  readonly costMicros: number;
  /** While it lasts, work takes `slower` times as long, and so much more of it fails. */
  readonly trouble?: { fromMs: number; toMs: number; slower: number; failing: number };
}

export interface Scenario {
  readonly name: string;
  /** For people: who there is and what comes. */
  readonly about: string;
  readonly agents: readonly SimulatedAgent[];
  /** Tasks per second, from a time on. The first begins at 0. */
  readonly load: readonly { fromMs: number; perSecond: number }[];
}

/** Tasks of a scenario. */
export const TASKS = 20_000;
/**
 * Tasks are of lognormal sizes, and a large one is large for every agent. Standard deviation of the logarithm: the largest
 * hundredth is more than 3.2 times the median.
 */
export const SPREAD = 0.5;
/** Contexts that the tasks belong to; a few have many of them. */
export const CONTEXTS = 400;

type Traits = Omit<SimulatedAgent, "agentId">;

const USUAL: Traits = { workMs: 300, slots: 4, declaresSlots: false, failing: 0.01, costMicros: 20_000 };

/** So many agents of a kind. */
const some = (count: number, kind: string, traits: Partial<Traits>): SimulatedAgent[] =>
  Array.from({ length: count }, (_, i) => ({ agentId: `${kind}-${i + 1}`, ...USUAL, ...traits }));

export const SCENARIOS: readonly Scenario[] = [
  {
    name: "even",
    about: "10 agents of one kind, 4 tasks at once, 300 ms a task; 100 tasks/s, three quarters of what they can do",
    agents: some(10, "same", {}),
    load: [{ fromMs: 0, perSecond: 100 }],
  },
  {
    name: "skewed",
    about: "18 agents that take 200 ms, and 2 that take ten times as long without saying so; 150 tasks/s",
    agents: [...some(18, "quick", { workMs: 200 }), ...some(2, "slow", { workMs: 2_000, slots: 20 })],
    load: [{ fromMs: 0, perSecond: 150 }],
  },
  {
    name: "mixed",
    about:
      "4 quick and dear agents, 4 usual ones, 2 slow and cheap ones, and 2 that fail 30 % of their tasks quickly; all declare a limit of 8; 60 tasks/s",
    agents: [
      ...some(4, "dear", { workMs: 150, costMicros: 50_000 }),
      ...some(4, "usual", { workMs: 400, failing: 0.02 }),
      ...some(2, "cheap", { workMs: 1_500, costMicros: 4_000, failing: 0.03 }),
      ...some(2, "failing", { workMs: 200, costMicros: 10_000, failing: 0.3 }),
    ].map((agent) => ({ ...agent, slots: 8, declaresSlots: true })),
    load: [{ fromMs: 0, perSecond: 60 }],
  },
  {
    name: "steps",
    about:
      "16 agents that take 200 to 400 ms; 80 tasks/s, then 240, then 80; meanwhile one becomes 15 times slower, and another fails 60 % of its tasks",
    agents: [
      ...some(7, "quick", { workMs: 200, slots: 6 }),
      ...some(7, "usual", { workMs: 400, slots: 6 }),
      ...some(1, "slowed", { slots: 6, trouble: { fromMs: 20_000, toMs: 80_000, slower: 15, failing: 0 } }),
      ...some(1, "broken", { slots: 6, trouble: { fromMs: 50_000, toMs: 110_000, slower: 1, failing: 0.6 } }),
    ],
    load: [
      { fromMs: 0, perSecond: 80 },
      { fromMs: 40_000, perSecond: 240 },
      { fromMs: 75_000, perSecond: 80 },
    ],
  },
];
