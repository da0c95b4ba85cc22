/**
 * What would have come of past decisions by another strategy or other weights. Each is decided once more from what was recorded
 * with it: candidates, signals, turn and seed. What the other agent would have done is taken from the signals that it had at that
 * moment, the "direct method" of off-policy evaluation (Dudik, Langford and Li, "Doubly robust policy evaluation and learning",
 * 2011). What the draft's own choices would have done to later signals is not in it. Pure.
 */
import type { Candidate } from "./candidate.ts";
import { choose } from "./choose.ts";
import type { StrategyName, Weights } from "./strategy.ts";
import { sameWeights } from "./weights.ts";

/** A decision as it was recorded. */
export interface RecordedDecision {
  /** The agent that was chosen. */
  readonly agentId: string;
  /** Undefined where there was nothing to choose. */
  readonly strategy: StrategyName | undefined;
  /** What should stay with one agent: the task's context. */
  readonly key: string;
  readonly turn: number;
  readonly seed: number;
  /** Undefined where they did not count. */
  readonly weights: Weights | undefined;
  /** Those that were kept, in any order. */
  readonly candidates: readonly Candidate[];
  /** How many there were. */
  readonly candidateCount: number;
}

/** What is tried. What it leaves out stays as it was. */
export interface Draft {
  readonly strategy: StrategyName | undefined;
  readonly weights: Weights | undefined;
}

/**
 * The candidate that the draft chooses; undefined when the one that was chosen is not among those that were kept, so that there
 * is nothing to compare. `standing` weights count where neither the draft nor the record has any.
 */
export function redecide(
  decision: RecordedDecision,
  draft: Draft,
  standing: Weights,
): { before: Candidate; after: Candidate } | undefined {
  const { agentId, key, turn, seed, candidateCount } = decision;
  const before = decision.candidates.find((candidate) => candidate.agentId === agentId);
  const strategy = draft.strategy ?? decision.strategy;
  if (!before || !strategy || decision.candidates.length < 2) return before && { before, after: before };
  const weights = draft.weights ?? decision.weights ?? standing;
  const isSame =
    strategy === decision.strategy &&
    (strategy !== "WEIGHTED_SCORE" || (decision.weights !== undefined && sameWeights(weights, decision.weights)));
  // Chance would fall otherwise among the few that were kept, and the same rules decide the same.
  if (isSame && candidateCount > decision.candidates.length) return { before, after: before };
  // As they stood when they were chosen from: chance counts places.
  const candidates = decision.candidates.toSorted((a, b) => (a.agentId < b.agentId ? -1 : 1));
  const { index } = choose(candidates, strategy, { key, turn, seed, weights });
  return { before, after: candidates[index]! };
}

/** How the task of a decision ended: undefined as long as it has not, or when its client canceled it. */
export type Ending = { readonly completed: boolean; readonly latencyMs: number } | undefined;

/** What was to be expected of the agents that tasks are given to. */
export interface Expectation {
  /** Of all tasks together, in millionths. */
  readonly costMicros: bigint;
  /** Mean, over the decisions in which it is known of both agents; 0 when there is none. */
  readonly latencyMs: number;
  /** Mean of 1 - error rate; 0 when there was no decision. */
  readonly success: number;
}

export interface ReplayResult {
  readonly decisions: number;
  /** Had more than one candidate. */
  readonly open: number;
  /** Had more candidates than were kept. */
  readonly partial: number;
  readonly changed: number;
  readonly before: Expectation;
  readonly after: Expectation;
  /** Decisions in which a latency is known of both agents. */
  readonly latencies: number;
  /** What became of the tasks that would not change. */
  readonly unchanged: {
    readonly ended: number;
    readonly completed: number;
    readonly costMicros: bigint;
    /** Mean, of those that were completed; 0 when there is none. */
    readonly latencyMs: number;
  };
  /** How many tasks each agent got and would get: who has the most first. */
  readonly shares: readonly { readonly agentId: string; readonly before: number; readonly after: number }[];
}

export interface Replay {
  /** Takes in one decision. Tells from whom to whom its task would move, if it would. */
  add(decision: RecordedDecision, ending: Ending): { from: string; to: string } | undefined;
  result(): ReplayResult;
}

/** Sums up decisions, in any order. */
export function createReplay(draft: Draft, standing: Weights): Replay {
  const counts = { decisions: 0, open: 0, partial: 0, changed: 0, latencies: 0 };
  const before = newSum();
  const after = newSum();
  const unchanged = { ended: 0, completed: 0, costMicros: 0n, latencyMs: 0 };
  const shares = new Map<string, { before: number; after: number }>();
  const mean = (sum: number, count: number) => (count === 0 ? 0 : sum / count);

  function shareOf(agentId: string): { before: number; after: number } {
    const share = shares.get(agentId) ?? { before: 0, after: 0 };
    shares.set(agentId, share);
    return share;
  }

  const expectation = ({ costMicros, latencyMs, success }: Sum): Expectation => ({
    costMicros,
    latencyMs: mean(latencyMs, counts.latencies),
    success: mean(success, counts.decisions),
  });

  return {
    add(decision, ending) {
      const choice = redecide(decision, draft, standing);
      if (!choice) return undefined;
      const [from, to] = [choice.before, choice.after];
      counts.decisions += 1;
      if (decision.candidateCount > 1) counts.open += 1;
      if (decision.candidateCount > decision.candidates.length) counts.partial += 1;
      include(before, from);
      include(after, to);
      if (from.latencyMs !== undefined && to.latencyMs !== undefined) {
        counts.latencies += 1;
        before.latencyMs += from.latencyMs;
        after.latencyMs += to.latencyMs;
      }
      shareOf(from.agentId).before += 1;
      shareOf(to.agentId).after += 1;
      if (from.agentId !== to.agentId) {
        counts.changed += 1;
        return { from: from.agentId, to: to.agentId };
      }
      if (ending) {
        unchanged.ended += 1;
        unchanged.costMicros += BigInt(from.costMicros);
        if (ending.completed) {
          unchanged.completed += 1;
          unchanged.latencyMs += ending.latencyMs;
        }
      }
      return undefined;
    },

    result: () => ({
      ...counts,
      before: expectation(before),
      after: expectation(after),
      unchanged: { ...unchanged, latencyMs: mean(unchanged.latencyMs, unchanged.completed) },
      shares: [...shares]
        .map(([agentId, share]) => ({ agentId, ...share }))
        .sort((a, b) => Math.max(b.before, b.after) - Math.max(a.before, a.after) || (a.agentId < b.agentId ? -1 : 1)),
    }),
  };
}

interface Sum {
  /** Thousands of large amounts are more than a number holds exactly. */
  costMicros: bigint;
  latencyMs: number;
  success: number;
}

const newSum = (): Sum => ({ costMicros: 0n, latencyMs: 0, success: 0 });

function include(sum: Sum, { costMicros, errorRate }: Candidate): void {
  sum.costMicros += BigInt(costMicros);
  sum.success += 1 - errorRate;
}
