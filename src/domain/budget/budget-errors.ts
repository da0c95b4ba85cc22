/** Why a task is refused for its cost. */
import { SignalboxError, unsupportedOperation } from "../errors.ts";
import { decimalOf } from "../money.ts";
import type { BudgetUnit } from "./budget-rule.ts";

/** What is known of one window of a budget. Units are millionths of the currency, or tasks. */
export interface WindowUse {
  readonly budgetId: string;
  readonly unit: BudgetUnit;
  readonly limit: number;
  readonly used: number;
  /** Held by tasks that have not ended. */
  readonly reserved: number;
  readonly resetAt: Date;
}

/** Units as people read them. */
export const unitsText = (units: number, unit: BudgetUnit): string =>
  unit === "MONEY" ? decimalOf(units) : String(units);

/** Whether so many units are neither used nor held by tasks. */
export const isFree = ({ limit, used, reserved }: WindowUse, units: number): boolean =>
  limit - used - reserved >= units;

/** A budget has not so much left; nothing at all where the cost is not known, and 0. `retryAfterMs`: until there is more again. */
export function budgetExceeded(use: WindowUse, wanted: number, retryAfterMs: number): SignalboxError {
  const { budgetId, unit, resetAt } = use;
  const [limit, used, reserved] = [use.limit, use.used, use.reserved].map((units) => unitsText(units, unit));
  const what = unit === "MONEY" ? "" : " tasks";
  const tooMuch =
    wanted === 0
      ? "so nothing is left for a task of which nobody says what it costs"
      : `so ${unitsText(wanted, unit)} more are too much`;
  const why = isFree(use, Math.max(1, wanted))
    ? `and the rest is with other servers, which give back what they do not need. Nothing was stored; try again.`
    : `${tooMuch}. Nothing was stored; it is reset at ${resetAt.toISOString()}.`;
  return new SignalboxError({
    code: "RESOURCE_EXHAUSTED",
    reason: "BUDGET_EXCEEDED",
    message:
      `Budget "${budgetId}" allows ${limit}${what}; ${used} are used and ${reserved} reserved by tasks that have not ended, ` +
      why,
    metadata: {
      budget: budgetId,
      limit: limit!,
      used: used!,
      reserved: reserved!,
      resetTime: resetAt.toISOString(),
    },
    retryAfterMs,
  });
}

/** A budget would not have so much even if nothing were used of it. `wanted` is 0 where nobody knows what a task costs. */
export function beyondBudget(
  { id, limit, unit }: { id: string; limit: number; unit: BudgetUnit },
  wanted: number,
): SignalboxError {
  const what = unit === "MONEY" ? "" : " tasks";
  const allowed = unitsText(limit, unit);
  const why =
    wanted === 0
      ? "so it has nothing for a task of which nobody says what it costs; raise the limit"
      : `and ${unitsText(wanted, unit)} is more than it ever allows; lower maxCost or raise the limit`;
  return new SignalboxError({
    code: "RESOURCE_EXHAUSTED",
    reason: "BUDGET_EXCEEDED",
    message: `Budget "${id}" allows ${allowed}${what}, ${why}. Nothing was stored.`,
    metadata: { budget: id, limit: allowed },
  });
}

/** The task on whose behalf another one is sent holds too little of a budget; nothing where `wanted` is 0, as of a cost that nobody knows. */
export function parentExceeded(budgetId: string, parentTaskId: string, left: number, wanted: number): SignalboxError {
  const needed =
    wanted === 0
      ? "something is needed for a task of which nobody says what it costs"
      : `${decimalOf(wanted)} are needed`;
  return new SignalboxError({
    code: "RESOURCE_EXHAUSTED",
    reason: "BUDGET_EXCEEDED",
    message:
      `Task "${parentTaskId}", on whose behalf this one is sent, has ${decimalOf(left)} of budget "${budgetId}" left, ` +
      `and ${needed}. Nothing was stored; give less to others, or begin a task of its own.`,
    metadata: { budget: budgetId, parentTaskId, remaining: decimalOf(left) },
  });
}

/** Whether a task is refused for what it costs. */
export const isBudgetExceeded = (error: unknown): boolean =>
  error instanceof SignalboxError && error.reason === "BUDGET_EXCEEDED";

/** The task on whose behalf another one is sent has ended. */
export const parentEnded = (parentTaskId: string): SignalboxError =>
  unsupportedOperation(
    `Task "${parentTaskId}" has ended: nothing can be sent on its behalf. Leave parentTaskId out to begin a task of its own.`,
    { taskId: parentTaskId },
  );
