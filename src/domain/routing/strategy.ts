/** What chooses one of several candidates. */
import type { Candidate } from "./candidate.ts";

export const STRATEGIES = [
  "ROUND_ROBIN",
  "LEAST_LOAD",
  "LOWEST_COST",
  "LOWEST_LATENCY",
  "AFFINITY",
  "REPUTATION",
  "WEIGHTED_SCORE",
  "POWER_OF_TWO",
] as const;

export type StrategyName = (typeof STRATEGIES)[number];

/** Each strategy under its name, and in lower case with `_` or `-`. */
const BY_SPELLING: ReadonlyMap<unknown, StrategyName> = new Map(
  STRATEGIES.flatMap((name) => {
    const lower = name.toLowerCase();
    return [name, lower, lower.replaceAll("_", "-")].map((spelling) => [spelling, name] as const);
  }),
);

/** The strategy that somebody named, as LEAST_LOAD, least_load or least-load; undefined where there is none of that name. */
export const strategyNamed = (spelling: unknown): StrategyName | undefined => BY_SPELLING.get(spelling);

/** What a client is told that named another. */
export const STRATEGY_RULE = `must be one of ${STRATEGIES.join(", ")}`;

/** What a strategy knows besides the candidates. */
export interface StrategyInput {
  /** What should stay with one agent: the task's context. */
  readonly key: string;
  /** Counts the decisions of the capability, for those that take turns. */
  readonly turn: number;
  /** From 0 up to but not including 1; the same in a replay. */
  readonly random: () => number;
  readonly weights: Weights;
}

/** How much each signal counts in WEIGHTED_SCORE. They are not negative, and not all 0. */
export interface Weights {
  readonly load: number;
  readonly latency: number;
  readonly cost: number;
  readonly errors: number;
  readonly reputation: number;
}

/**
 * A score for each candidate, in their order: the least wins, and the same is as good. `Infinity` is for one that is not to be
 * taken while another can. There is at least one candidate.
 */
export type Strategy = (candidates: readonly Candidate[], input: StrategyInput) => number[];
