/**
 * Round robin (Kleinrock, "Analysis of a time-shared processor", 1964): each agent has its turn, in the order of ids.
 *
 * Whose turn it is follows from the number of the decision alone, so nothing is kept and a replay takes the same turns.
 * However many decisions follow each other among the same agents, each agent gets as many as any other, or one more. When
 * agents come or go, the round goes on from another place: that shifts what an agent gets by one decision at most.
 */
import type { Candidate } from "./candidate.ts";
import type { Strategy } from "./strategy.ts";

/** Turns until it is the agent's: 0 for the one that has it. */
export const roundRobin: Strategy = (candidates, { turn }) => {
  const count = candidates.length;
  const first = Math.trunc(turn) % count;
  // -1 and below: a turn before the first counts backwards, as a clock does. NaN is no turn and counts as the first.
  const now = first < 0 ? first + count : first || 0;
  const turnsUntil = (rank: number) => (rank < now ? rank + count - now : rank - now);
  if (areInOrder(candidates)) return candidates.map((_, i) => turnsUntil(i));
  const scores = new Array<number>(count).fill(0);
  const order = candidates.map((_, i) => i).sort((a, b) => compareIds(candidates[a]!, candidates[b]!));
  order.forEach((index, rank) => {
    scores[index] = turnsUntil(rank);
  });
  return scores;
};

/** Candidates mostly come in the order of their ids: then sorting, the dearest part by far, is left out. */
function areInOrder(candidates: readonly Candidate[]): boolean {
  for (let i = 1; i < candidates.length; i++) {
    if (compareIds(candidates[i - 1]!, candidates[i]!) > 0) return false;
  }
  return true;
}

/** By UTF-16 units: the same on every machine, unlike the order of a language. */
const compareIds = (a: Candidate, b: Candidate): number => (a.agentId < b.agentId ? -1 : a.agentId > b.agentId ? 1 : 0);
