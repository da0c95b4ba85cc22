/** One of several candidates, by a strategy. Pure: the same candidates, options and seed give the same choice. */
import type { Candidate } from "./candidate.ts";
import { seededRandom } from "./seeded-random.ts";
import { STRATEGY } from "./strategies.ts";
import type { StrategyName, Weights } from "./strategy.ts";

export interface ChoiceOptions {
  /** What should stay with one agent: the task's context. */
  readonly key: string;
  /** Counts the decisions of the capability. */
  readonly turn: number;
  /** A whole number from 0 to 2^32 - 1: begins the chance of the strategy, and that by which ties are broken. */
  readonly seed: number;
  readonly weights: Weights;
}

export interface Choice {
  /** Of the candidate that is chosen. */
  readonly index: number;
  /** Of all candidates, in their order: less is better. */
  readonly scores: number[];
}

/**
 * The candidate with the lowest score; of several, one by chance. One that is full is taken only when all are, and
 * then the one whose queue is the shortest for what it works on at once. Throws a RangeError when there is no candidate.
 */
export function choose(candidates: readonly Candidate[], strategy: StrategyName, options: ChoiceOptions): Choice {
  if (candidates.length === 0) throw new RangeError("there is no candidate to choose from");
  const { key, turn, seed, weights } = options;
  const random = seededRandom(seed);
  const scores = STRATEGY[strategy](candidates, { key, turn, random, weights });
  let index = 0;
  let equals = 1;
  for (let i = 1; i < scores.length; i++) {
    const order = compare(candidates, scores, i, index);
    if (order < 0) {
      index = i;
      equals = 1;
    } else if (order === 0) equals++;
  }
  // The first of them was found; chance says how many of them to pass.
  let pass = equals === 1 ? 0 : Math.floor(random() * equals);
  for (let i = index + 1; pass > 0; i++) {
    if (compare(candidates, scores, i, index) !== 0) continue;
    index = i;
    pass--;
  }
  return { index, scores };
}

/**
 * Indices of the best `most` candidates, the best first, for the record. Those that are as good are in their given order,
 * but `chosen`, which chance has taken among them, comes first.
 */
export function best(
  candidates: readonly Candidate[],
  scores: readonly number[],
  most: number,
  chosen?: number,
): number[] {
  const kept: number[] = [];
  for (let i = 0; i < candidates.length; i++) {
    let place = kept.length;
    while (place > 0 && isBefore(i, kept[place - 1]!)) place--;
    if (place >= most) continue;
    kept.splice(place, 0, i);
    if (kept.length > most) kept.pop();
  }
  return kept;

  function isBefore(a: number, b: number): boolean {
    const order = compare(candidates, scores, a, b);
    return order < 0 || (order === 0 && a === chosen);
  }
}

/** Negative when the first is better, 0 when chance decides. */
function compare(candidates: readonly Candidate[], scores: readonly number[], a: number, b: number): number {
  const aIsFull = isFull(candidates[a]!);
  if (aIsFull !== isFull(candidates[b]!)) return aIsFull ? 1 : -1;
  const queues = aIsFull ? queueOf(candidates[a]!) - queueOf(candidates[b]!) : 0;
  if (queues !== 0) return queues;
  // Two that are Infinity are the same, and their difference would be NaN.
  return scores[a]! < scores[b]! ? -1 : scores[a]! > scores[b]! ? 1 : 0;
}

/** Of one that is full: how often all its places must become free before a new task has one. */
const queueOf = ({ waiting = 0, maxConcurrency = 1 }: Candidate): number =>
  Math.floor(waiting / Math.max(1, maxConcurrency));

const isFull = ({ inFlight, maxConcurrency }: Candidate): boolean =>
  maxConcurrency !== undefined && inFlight >= maxConcurrency;
