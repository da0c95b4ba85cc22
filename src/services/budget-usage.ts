/** What is used of the budgets of a workspace, now and in past windows. */
import { create } from "@bufbuild/protobuf";
import { timestampFromDate, timestampFromMs } from "@bufbuild/protobuf/wkt";
import {
  type Budget,
  BudgetSchema,
  BudgetUnit,
  BudgetWindow,
  type ListBudgetsRequest,
  type ListBudgetsResponse,
  ListBudgetsResponseSchema,
  type ListBudgetUsageRequest,
  type ListBudgetUsageResponse,
  ListBudgetUsageResponseSchema,
} from "../../gen/signalbox/v1/budget_pb.ts";
import { unitsText } from "../domain/budget/budget-errors.ts";
import type { BudgetIndex } from "../domain/budget/budget-index.ts";
import { type BudgetKey, budgetKey, keysOf, parseBudgetKey } from "../domain/budget/budget-key.ts";
import type { BudgetPeriod, BudgetRule } from "../domain/budget/budget-rule.ts";
import { WindowClock } from "../domain/budget/budget-window.ts";
import { clip, invalidArgument, SignalboxError } from "../domain/errors.ts";
import { type Viewer, viewerOf } from "../domain/identity/visibility.ts";
import type { BudgetUsageReads, WindowUsage } from "../store/budget-usage-reads.ts";
import { pageLimit, pageToken, pageTokenAs } from "./paging.ts";
import type { RequestContext } from "./request-context.ts";
import type { Runtime } from "./runtime.ts";

const DEFAULT_PAGE = 100;
const MAX_PAGE = 1_000;
/** Windows that one call looks at, at most, for those that it is asked for. */
const MOST_LOOKED_AT = 10_000;
/** Windows that a page of metrics shows at most. */
const MOST_GAUGES = 200;
/** So long the gauges of one look are shown, in milliseconds. */
const GAUGES_MS = 5_000;
/** Before and after all keys. */
const FIRST_KEY = "";
const LAST_KEY = "\u007f";

export interface BudgetUsage {
  list(context: RequestContext, request: ListBudgetsRequest): Promise<ListBudgetsResponse>;
  usage(context: RequestContext, request: ListBudgetUsageRequest): Promise<ListBudgetUsageResponse>;
  /** Open windows of all workspaces, the fullest first; a bounded number of them, as they were a few seconds ago at most. */
  gauges(): Promise<BudgetGauge[]>;
}

/** What metrics tell of a window: money in the currency, or tasks. */
export interface BudgetGauge {
  readonly workspaceId: string;
  readonly budgetId: string;
  readonly period: BudgetPeriod;
  readonly unit: "MONEY" | "TASKS";
  /** For whom it is, where each has its own. */
  readonly share: string;
  readonly limit: number;
  readonly used: number;
  readonly reserved: number;
}

export interface BudgetUsageDeps {
  reads: BudgetUsageReads;
  /** Has the policy of a workspace loaded; undefined where that is done. */
  load: (workspaceId: string) => Promise<void> | undefined;
  indexOf: (workspaceId: string) => BudgetIndex | undefined;
  runtime: Runtime;
}

export function createBudgetUsage({ reads, load, indexOf, runtime }: BudgetUsageDeps): BudgetUsage {
  /** The open windows of budgets that all share: they are there before anything is used. */
  function sharedWindows(index: BudgetIndex, now: Date): WindowUsage[] {
    const clock = new WindowClock();
    const rules = [...index.byId.values()].filter((rule) => !isForEach(rule));
    return rules.flatMap((rule) =>
      rule.limits.map(({ period, unit, units }) => {
        const { startMs, endMs } = clock.at(period, rule.timeZone, now.getTime());
        const key = budgetKey(rule.id, startMs, period, unit, "");
        return { key, limit: units, used: 0, reserved: 0, overrun: 0, endsAt: new Date(endMs) };
      }),
    );
  }

  /** A window as the policy has it now; undefined where it has no such budget, or it is not asked for. */
  function viewOf(index: BudgetIndex, usage: WindowUsage): Budget | undefined {
    const key = parseBudgetKey(usage.key);
    const rule = key && index.byId.get(key.budgetId);
    const limit = rule?.limits.find(({ period, unit }) => period === key?.period && unit === key.unit);
    return key && rule && limit && budgetView(key, rule, { ...usage, limit: limit.units });
  }

  let gauges: BudgetGauge[] = [];
  let lookedMs = Number.NEGATIVE_INFINITY;
  let looking: Promise<BudgetGauge[]> | undefined;

  async function readGauges(): Promise<BudgetGauge[]> {
    const found = await reads.fullest(runtime.now(), MOST_GAUGES);
    lookedMs = runtime.elapsedMs();
    gauges = found.flatMap(gaugeOf);
    return gauges;
  }

  return {
    async list({ workspaceId, principal }, request) {
      const viewer = viewerOf(principal);
      const limit = pageLimit(request.pageSize, DEFAULT_PAGE, MAX_PAGE);
      const begin = keyIn(request.pageToken, "ListBudgets");
      await load(workspaceId);
      const index = indexOf(workspaceId);
      if (!index) return create(ListBudgetsResponseSchema);
      const now = runtime.now();
      const shared = sharedWindows(index, now)
        .filter(({ key }) => begin === undefined || key > begin)
        .sort((a, b) => compare(a.key, b.key));
      const budgets: Budget[] = [];
      let after = begin;
      for (let looked = 0; looked < MOST_LOOKED_AT; looked += MAX_PAGE) {
        const range = {
          from: FIRST_KEY,
          to: LAST_KEY,
          after,
          endsAfter: now,
          order: "ascending",
          limit: MAX_PAGE,
        } as const;
        const stored = await reads.windows(workspaceId, range);
        const isLast = stored.length < MAX_PAGE;
        const reach = isLast ? LAST_KEY : stored.at(-1)!.key;
        const page = merged(stored, takeUpTo(shared, reach));
        for (const [i, usage] of page.entries()) {
          const view = viewOf(index, usage);
          if (!view || !isAskedFor(request, view) || !isFor(viewer, view.principalId)) continue;
          budgets.push(view);
          if (budgets.length < limit) continue;
          const isEnd = isLast && i === page.length - 1;
          return create(ListBudgetsResponseSchema, { budgets, nextPageToken: isEnd ? "" : pageToken(usage.key) });
        }
        if (isLast) return create(ListBudgetsResponseSchema, { budgets });
        after = reach;
      }
      return create(ListBudgetsResponseSchema, { budgets, nextPageToken: pageToken(after!) });
    },

    async usage({ workspaceId, principal }, { budgetId, pageSize, pageToken: token }) {
      const viewer = viewerOf(principal);
      if (budgetId === "")
        throw invalidArgument([{ field: "budgetId", description: "is required: the id of a budget" }]);
      const limit = pageLimit(pageSize, DEFAULT_PAGE, MAX_PAGE);
      const after = keyIn(token, "ListBudgetUsage");
      await load(workspaceId);
      const held = indexOf(workspaceId)?.byId.get(budgetId);
      const rule = isFor(viewer, named(held?.principalId)) ? held : undefined;
      const stored = budgetId.includes("\0")
        ? []
        : await reads.windows(workspaceId, { ...keysOf(budgetId), after, order: "descending", limit: limit + 1 });
      const page = stored.slice(0, limit);
      const windows = page
        .map((usage) => budgetView(parseBudgetKey(usage.key)!, held, usage))
        .filter(({ principalId }) => isFor(viewer, principalId));
      if (!rule && windows.length === 0 && after === undefined) throw budgetNotFound(budgetId);
      return create(ListBudgetUsageResponseSchema, {
        windows,
        nextPageToken: stored.length > limit ? pageToken(page.at(-1)!.key) : "",
      });
    },

    gauges() {
      // However many ask, and however long it takes, one statement is under way.
      if (looking) return looking;
      if (runtime.elapsedMs() - lookedMs < GAUGES_MS) return Promise.resolve(gauges);
      looking = readGauges().finally(() => {
        looking = undefined;
      });
      return looking;
    },
  };
}

function gaugeOf({ workspaceId, key, limit, used, reserved }: WindowUsage & { workspaceId: string }): BudgetGauge[] {
  const parsed = parseBudgetKey(key);
  if (!parsed) return [];
  const { budgetId, period, unit, agentId, capabilityId, principalId } = parsed;
  const share = [agentId, capabilityId, principalId].filter((part) => part !== undefined).join(" ");
  const amount = (units: number) => (unit === "MONEY" ? units / 1e6 : units);
  const amounts = { limit: amount(limit), used: amount(used), reserved: amount(reserved) };
  return [{ workspaceId, budgetId, period, unit, share, ...amounts }];
}

function budgetView(key: BudgetKey, rule: BudgetRule | undefined, usage: WindowUsage): Budget {
  const { unit, startMs } = key;
  const { limit, used, reserved, overrun, endsAt } = usage;
  return create(BudgetSchema, {
    budgetId: key.budgetId,
    agentId: key.agentId ?? named(rule?.agentId),
    capabilityId: key.capabilityId ?? named(rule?.capabilityId),
    principalId: key.principalId ?? named(rule?.principalId),
    window: WINDOW[key.period],
    unit: unit === "MONEY" ? BudgetUnit.MONEY : BudgetUnit.TASKS,
    limit: unitsText(limit, unit),
    used: unitsText(used, unit),
    reserved: unitsText(reserved, unit),
    remaining: unitsText(Math.max(0, limit - used - reserved), unit),
    overrun: unitsText(overrun, unit),
    startTime: timestampFromMs(startMs),
    resetTime: timestampFromDate(endsAt),
    timeZone: rule?.timeZone ?? "",
    description: rule?.description ?? "",
  });
}

const WINDOW: Record<BudgetPeriod, BudgetWindow> = {
  HOURLY: BudgetWindow.HOURLY,
  DAILY: BudgetWindow.DAILY,
  MONTHLY: BudgetWindow.MONTHLY,
};

const named = (selector = ""): string => (selector === "*" ? "" : selector);

const isForEach = ({ agentId, capabilityId, principalId }: BudgetRule): boolean =>
  [agentId, capabilityId, principalId].includes("*");

/** What is another principal's own is shown only to who sees what belongs to others. */
const isFor = (viewer: Viewer | undefined, principalId: string): boolean =>
  !viewer || principalId === "" || principalId === viewer.id;

const isAskedFor = (
  { agentId, capabilityId, principalId }: ListBudgetsRequest,
  view: Pick<Budget, "agentId" | "capabilityId" | "principalId">,
): boolean =>
  (agentId === "" || view.agentId === agentId) &&
  (capabilityId === "" || view.capabilityId === capabilityId) &&
  (principalId === "" || view.principalId === principalId);

/** Both lists in one order; what is stored wins. */
function merged(stored: readonly WindowUsage[], shared: readonly WindowUsage[]): WindowUsage[] {
  const known = new Set(stored.map(({ key }) => key));
  return [...stored, ...shared.filter(({ key }) => !known.has(key))].sort((a, b) => compare(a.key, b.key));
}

/** Takes from the front what is not beyond a key. */
function takeUpTo(windows: WindowUsage[], reach: string): WindowUsage[] {
  const beyond = windows.findIndex(({ key }) => key > reach);
  return windows.splice(0, beyond < 0 ? windows.length : beyond);
}

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

const keyIn = (token: string, method: string): string | undefined =>
  pageTokenAs(token, method, (key) => (parseBudgetKey(key) && !key.includes("\0") ? key : undefined));

const budgetNotFound = (budgetId: string) =>
  new SignalboxError({
    code: "NOT_FOUND",
    reason: "BUDGET_NOT_FOUND",
    message: `The policy has no budget "${clip(budgetId)}", and nothing was used of one. See signalbox budgets list.`,
    metadata: { budgetId: clip(budgetId) },
  });
