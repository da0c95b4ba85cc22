/** Selects the best of several offers, and says why. Pure: the same offers, limits and seed give the same choice. */
import { decimalOf } from "./money.ts";
import type { Candidate } from "./routing/candidate.ts";
import { best, type ChoiceOptions, choose } from "./routing/choose.ts";
import type { StrategyName } from "./routing/strategy.ts";

/** What an offer must not go beyond to be selected. */
export interface OfferLimits {
  readonly maxCostMicros?: number | undefined;
  /** In milliseconds. What nobody knows goes beyond any. */
  readonly maxLatencyMs?: number | undefined;
}

export interface Selection {
  /** Indices of the offers: those within the limits, the best first, then the others in their order. */
  readonly order: readonly number[];
  /** Of the best offer; undefined when none is within the limits. */
  readonly chosen: number | undefined;
  /** By index; less is better. Undefined for an offer beyond the limits. */
  readonly scores: readonly (number | undefined)[];
  /** Sentences. */
  readonly reasons: readonly string[];
}

export function selectOffer(
  offers: readonly Candidate[],
  limits: OfferLimits,
  strategy: StrategyName,
  options: ChoiceOptions,
): Selection {
  const all = offers.map((_, index) => index);
  const within = all.filter((index) => isWithin(offers[index]!, limits));
  const beyond = all.filter((index) => !within.includes(index));
  const scores: (number | undefined)[] = offers.map(() => undefined);
  const cut = beyond.length === 0 ? [] : [`${counted(beyond.length)} beyond the limits of the request.`];
  if (within.length === 0) return { order: beyond, chosen: undefined, scores, reasons: cut };
  const candidates = within.map((index) => offers[index]!);
  const choice = choose(candidates, strategy, options);
  for (const [i, index] of within.entries()) scores[index] = choice.scores[i];
  const ranked = best(candidates, choice.scores, candidates.length, choice.index).map((i) => within[i]!);
  const chosen = within[choice.index]!;
  return {
    order: [...ranked, ...beyond],
    chosen,
    scores,
    reasons: [...reasonsFor(candidates, choice.index, choice.scores, strategy), ...cut],
  };
}

/** Whether an offer may be selected. */
export const isWithin = (
  { costMicros, latencyMs = Number.POSITIVE_INFINITY }: Candidate,
  { maxCostMicros = Number.POSITIVE_INFINITY, maxLatencyMs }: OfferLimits,
): boolean => costMicros <= maxCostMicros && (maxLatencyMs === undefined || latencyMs <= maxLatencyMs);

function reasonsFor(
  candidates: readonly Candidate[],
  index: number,
  scores: readonly number[],
  strategy: StrategyName,
): string[] {
  const { agentId, costMicros, latencyMs } = candidates[index]!;
  const [score, count] = [scores[index]!, candidates.length];
  const reasons =
    count === 1
      ? [`"${agentId}" is the only one to choose from.`]
      : [
          `"${agentId}" is the best of ${count} by ${strategy}: its score is ${Number(score.toPrecision(4))}; less is better.`,
        ];
  if (scores.some((other, i) => i !== index && other < score)) reasons.push("Those with a better score have no room.");
  else if (scores.some((other, i) => i !== index && other === score)) reasons.push("Chance chose among equals.");
  const others = candidates.filter((_, i) => i !== index);
  if (count > 1 && others.every((other) => other.costMicros >= costMicros))
    reasons.push(`None costs less than ${decimalOf(costMicros)}.`);
  if (count > 1 && latencyMs !== undefined && others.every((other) => (other.latencyMs ?? Infinity) >= latencyMs))
    reasons.push(`None is known to be faster than ${Math.round(latencyMs)} ms.`);
  return reasons;
}

const counted = (count: number): string => (count === 1 ? "1 offer is" : `${count} offers are`);
