/**
 * How an agent stands, as a whole or for one capability: its trust, its score, and what its windows count. A standing is the fold of
 * what became of its tasks and of what was said of it, in one order. What is read of it at a later time has faded, and nothing
 * else; no clock is asked. docs/reputation.md has the formulas. Pure.
 */
import type { TrustRule } from "./trust-rule.ts";
import { type Counted, countTask, newWindows, type Windows } from "./windows.ts";

export interface Standing {
  /** From 0 to 1, as of `atMs`. */
  trust: number;
  /** Outcomes that count in the score, and the good ones among them, each by its weight, as of `atMs`. */
  weight: number;
  goodWeight: number;
  /** Tasks that it ended well and that it failed, since the beginning. */
  succeeded: number;
  failed: number;
  /** When the last of it happened. */
  atMs: number;
  /** When its trust was set last: what happened before that does not change it any more. */
  setAtMs: number | undefined;
  readonly windows: Windows;
}

/** What a judge says: how good something was, from 0 to 1, and how much that counts beside a task. */
export interface Judgement {
  readonly quality: number;
  readonly weight: number;
  readonly atMs: number;
}

/** Outcomes that a new agent is taken to have had: as many as keep one first outcome from saying all (Jøsang and Ismail, 2002). */
const PRIOR_WEIGHT = 2;

/** Trust is kept to nine digits: 0.5 and six times 0.05 are 0.8. */
const DIGITS = 1e9;

/** One of which nothing was seen, with the trust that it begins with, as of a time. */
export const newStanding = ({ trust, atMs, setAtMs }: Pick<Standing, "trust" | "atMs" | "setAtMs">): Standing => ({
  trust,
  weight: 0,
  goodWeight: 0,
  succeeded: 0,
  failed: 0,
  atMs,
  setAtMs,
  windows: newWindows(),
});

/** Takes in what became of a task. Changes the standing in place, as the others here do. */
export function foldTask(standing: Standing, task: Counted, rule: TrustRule): void {
  fold(standing, { quality: task.isGood ? 1 : 0, weight: 1, atMs: task.atMs }, rule);
  if (task.isGood) standing.succeeded += 1;
  else standing.failed += 1;
  countTask(standing.windows, task);
}

/** Takes in what a judge says. It counts in the score and in the trust, and is no task. */
export const foldJudgement = (standing: Standing, judgement: Judgement, rule: TrustRule): void =>
  fold(standing, judgement, rule);

/** Sets the trust. What the agent does from then on counts on top. */
export function setTrust(standing: Standing, trust: number, atMs: number, rule: TrustRule): void {
  moveTo(standing, atMs, rule);
  standing.trust = rounded(trust);
  standing.setAtMs = Math.max(atMs, standing.setAtMs ?? 0);
}

function fold(standing: Standing, { quality, weight, atMs }: Judgement, rule: TrustRule): void {
  moveTo(standing, atMs, rule);
  // One that comes late counts as it would have by now: the order does not matter to the score.
  const counts = weight * kept(standing.atMs - atMs, rule.halfLifeMs);
  standing.weight += counts;
  standing.goodWeight += counts * quality;
  if (standing.setAtMs !== undefined && atMs < standing.setAtMs) return;
  const change = weight * (quality * rule.gain - (1 - quality) * rule.loss);
  standing.trust = rounded(Math.min(1, Math.max(0, standing.trust + change)));
}

/** Lets it fade to a later time. A time that is not later changes nothing. */
function moveTo(standing: Standing, atMs: number, rule: TrustRule): void {
  if (atMs <= standing.atMs) return;
  standing.trust = trustAt(standing, atMs, rule);
  const share = kept(atMs - standing.atMs, rule.halfLifeMs);
  standing.weight *= share;
  standing.goodWeight *= share;
  standing.atMs = atMs;
}

/** How far it is trusted then. What is below `initial` comes back to it; what is above stays. */
export function trustAt({ trust, atMs }: Pick<Standing, "trust" | "atMs">, nowMs: number, rule: TrustRule): number {
  const { initial, recoveryMs } = rule;
  if (trust >= initial || nowMs <= atMs) return trust;
  return rounded(initial - (initial - trust) * kept(nowMs - atMs, recoveryMs));
}

/**
 * Its share of good outcomes then, of which older ones count less. It begins at `prior`, from 0 to 1, and comes back to it when nothing
 * more is seen.
 */
export function scoreAt(
  { weight, goodWeight, atMs }: Pick<Standing, "weight" | "goodWeight" | "atMs">,
  nowMs: number,
  rule: TrustRule,
  prior: number,
): number {
  const share = kept(nowMs - atMs, rule.halfLifeMs);
  return (goodWeight * share + PRIOR_WEIGHT * prior) / (weight * share + PRIOR_WEIGHT);
}

/** When trust that was lost is back at a threshold, in milliseconds from then; undefined when it is not coming back by itself. */
export function trustedInMs(trust: number, threshold: number, { initial, recoveryMs }: TrustRule): number | undefined {
  if (trust >= threshold) return 0;
  if (threshold >= initial) return undefined;
  return Math.ceil(recoveryMs * Math.log2((initial - trust) / (initial - threshold)));
}

/** How much is left of something after so long. A clock that went back counts as one that stood. */
const kept = (elapsedMs: number, halfLifeMs: number): number => 0.5 ** (Math.max(0, elapsedMs) / halfLifeMs);

const rounded = (share: number): number => Math.round(share * DIGITS) / DIGITS;
