/**
 * The names of the windows of budgets. `premium/20261127T000000Z/DAILY.MONEY/agent:writer`: the budget, when the window began, its period
 * and its unit, and for whom it is where each has its own. The keys of one budget are next to each other, in the order of time. Pure.
 */
import type { BudgetPeriod, BudgetRule, BudgetUnit } from "./budget-rule.ts";

/** Who asks for what. */
export interface Spender {
  readonly agentId: string;
  readonly capabilityId: string | undefined;
  /** All that the agent offers, where it alone was named: it may do any of it. */
  readonly among?: readonly string[] | undefined;
  readonly principalId: string;
}

export interface BudgetKey {
  readonly budgetId: string;
  readonly startMs: number;
  readonly period: BudgetPeriod;
  readonly unit: BudgetUnit;
  /** For whom it is, where each has its own. */
  readonly agentId?: string;
  readonly capabilityId?: string;
  readonly principalId?: string;
}

/** For whom one of a budget that each has is, as the end of its keys; empty for a budget that all share. */
export function shareOf(rule: BudgetRule, { agentId, capabilityId, principalId }: Spender): string {
  let share = "";
  if (rule.agentId === "*") share += `/agent:${agentId}`;
  if (rule.capabilityId === "*") share += `/capability:${capabilityId}`;
  if (rule.principalId === "*") share += `/principal:${encodeURIComponent(principalId.toWellFormed())}`;
  return share;
}

export function budgetKey(
  budgetId: string,
  startMs: number,
  period: BudgetPeriod,
  unit: BudgetUnit,
  share: string,
): string {
  return `${budgetId}/${stampOf(startMs)}/${period}.${unit}${share}`;
}

/** All keys of a budget are from `from` on, and before `to`. */
export const keysOf = (budgetId: string): { from: string; to: string } => ({
  from: `${budgetId}/`,
  to: `${budgetId}0`,
});

/** What a key says; undefined for what is none. */
export function parseBudgetKey(key: string): BudgetKey | undefined {
  const [budgetId, stamp, limit, ...share] = key.split("/");
  const [, year, month, day, hour, minute, second] = STAMP.exec(stamp ?? "") ?? [];
  const [, period, unit] = LIMIT.exec(limit ?? "") ?? [];
  if (budgetId === undefined || year === undefined || period === undefined) return undefined;
  const of: { agentId?: string; capabilityId?: string; principalId?: string } = {};
  for (const part of share) {
    const at = part.indexOf(":");
    const value = part.slice(at + 1);
    if (part.startsWith("agent:")) of.agentId = value;
    else if (part.startsWith("capability:")) of.capabilityId = value;
    else if (part.startsWith("principal:")) {
      const principalId = decoded(value);
      if (principalId === undefined) return undefined;
      of.principalId = principalId;
    }
  }
  return {
    budgetId,
    startMs: Date.UTC(Number(year), Number(month) - 1, Number(day), Number(hour), Number(minute), Number(second)),
    period: period as BudgetPeriod,
    unit: unit as BudgetUnit,
    ...of,
  };
}

function decoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}

/** What is left of a key without its window: the same limit, in whatever window. */
export function lineOf(key: string): string {
  const first = key.indexOf("/");
  return key.slice(0, first) + key.slice(key.indexOf("/", first + 1));
}

const STAMP = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/;
const LIMIT = /^(HOURLY|DAILY|MONTHLY)\.(MONEY|TASKS)$/;

const stampOf = (ms: number): string => `${new Date(ms).toISOString().slice(0, 19).replace(/[-:]/g, "")}Z`;
