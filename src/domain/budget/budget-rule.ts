/** The `budgets` section of a policy: how much may be spent on what, by whom, in an hour, a day or a month. Pure. */
import { isDnsLabel } from "../identifiers.ts";
import { costMicros, MAX_MICROS } from "../money.ts";
import { suggestion } from "../nearest.ts";

export type BudgetPeriod = "HOURLY" | "DAILY" | "MONTHLY";
export type BudgetUnit = "MONEY" | "TASKS";

/** What a budget is for: undefined where it does not matter, "*" where each has a budget of its own. */
export interface BudgetSelectors {
  readonly agentId: string | undefined;
  readonly capabilityId: string | undefined;
  readonly principalId: string | undefined;
  /** A budget is counted within one workspace, whatever this says: undefined and "*" both give each workspace its own. */
  readonly workspaceId: string | undefined;
}

/** What may be used in one period. */
export interface BudgetLimit {
  readonly period: BudgetPeriod;
  readonly unit: BudgetUnit;
  /** Millionths of the workspace's currency, or tasks. Whole, from 0 to MAX_MICROS. */
  readonly units: number;
}

/** What becomes of what was held for a task that did not complete. */
export type OnFailure = "RELEASE" | "CHARGE";

export interface BudgetRule extends BudgetSelectors {
  /**
   * Unique in its document: what the budget has used is kept under it. A DNS label where the document gives one. Otherwise it
   * is made from what the budget is for, so that it stays when a limit is changed: `agent.agent-001.capability.translate`.
   */
  readonly id: string;
  /** At least one, of each unit and period one at most. */
  readonly limits: readonly BudgetLimit[];
  /** IANA name of the time zone in which its days and months begin. UTC unless told. */
  readonly timeZone: string;
  /** RELEASE unless told. */
  readonly onFailure: OnFailure;
  /** Empty unless told. */
  readonly description: string;
}

/** Something wrong in a document: where, as `budgets[2].daily_limit`, and what to do about it. */
export interface BudgetProblem {
  path: string;
  description: string;
}

/** Entries in one document at most. */
export const MAX_BUDGETS = 10_000;
/** So many problems of one document are told at most. */
const MAX_PROBLEMS = 100;
const MAX_DESCRIPTION = 1_000;
const MAX_PRINCIPAL = 255;

const LIMITS: Readonly<Record<string, Omit<BudgetLimit, "units">>> = {
  hourly_limit: { period: "HOURLY", unit: "MONEY" },
  daily_limit: { period: "DAILY", unit: "MONEY" },
  monthly_limit: { period: "MONTHLY", unit: "MONEY" },
  hourly_tasks: { period: "HOURLY", unit: "TASKS" },
  daily_tasks: { period: "DAILY", unit: "TASKS" },
  monthly_tasks: { period: "MONTHLY", unit: "TASKS" },
};

const SELECTORS = ["agent_id", "capability_id", "principal_id", "workspace_id"] as const;
const KEYS = ["id", ...SELECTORS, ...Object.keys(LIMITS), "time_zone", "on_failure", "description"];

const ID_RULE = "must be a DNS label: a-z, 0-9, - inside, 63 characters at most";
const SELECTOR_RULE = 'must be the id of one, or "*": each has a budget of its own';
const MONEY_RULE = 'must be a decimal number from 0 to 9007199254.740991 with at most 6 decimals, as 99.5 or "99.50"';
const TASKS_RULE = "must be a whole number from 0 on";

/** Reads a `budgets` section, which stands at `path`, or tells all that is wrong with it. Undefined and null are no budgets. */
export function budgetRulesIn(value: unknown, path: string): { rules: BudgetRule[] } | { problems: BudgetProblem[] } {
  if (value === undefined || value === null) return { rules: [] };
  if (!Array.isArray(value)) return { problems: [{ path, description: "must be a list of budgets" }] };
  if (value.length > MAX_BUDGETS) {
    const description = `must have at most ${MAX_BUDGETS} entries, but has ${value.length}`;
    return { problems: [{ path, description }] };
  }
  const problems: BudgetProblem[] = [];
  const zones = new Map<string, boolean>();
  const placeOf = new Map<string, string>();
  const rules: BudgetRule[] = [];
  for (const [i, entry] of value.entries()) {
    const place = `${path}[${i}]`;
    const tell = (key: string, description: string) =>
      void problems.push({ path: key === "" ? place : `${place}.${key}`, description });
    const rule = ruleIn(entry, zones, tell);
    if (!rule) continue;
    const twin = placeOf.get(rule.id);
    if (twin === undefined) placeOf.set(rule.id, place);
    else if (hasOwnId(entry)) tell("id", `is also that of ${twin}; give each its own`);
    else tell("", `is for the same as ${twin}; put their limits into one entry, or give one of them an id`);
    rules.push(rule);
  }
  return problems.length > 0 ? { problems: problems.slice(0, MAX_PROBLEMS) } : { rules };
}

function ruleIn(
  entry: unknown,
  zones: Map<string, boolean>,
  tell: (key: string, description: string) => void,
): BudgetRule | undefined {
  if (!isObject(entry)) return void tell("", "must be a budget, as {agent_id: writer, daily_limit: 100}");
  for (const key of Object.keys(entry)) {
    if (!KEYS.includes(key)) tell(key.slice(0, 63), `is no field of a budget. ${suggestion(key.slice(0, 63), KEYS)}`);
  }
  const { id, time_zone: timeZone, on_failure: onFailure, description } = entry;
  if (isGiven(id) && !(typeof id === "string" && isDnsLabel(id))) tell("id", ID_RULE);
  const selectors = {
    agentId: selector("agent_id", isDnsLabel),
    capabilityId: selector("capability_id", isDnsLabel),
    principalId: selector("principal_id", isPrincipal),
    workspaceId: selector("workspace_id", isDnsLabel),
  };
  const limits = limitsIn(entry, tell);
  if (isGiven(timeZone) && !(typeof timeZone === "string" && isZone(timeZone, zones))) {
    tell("time_zone", "must be the IANA name of a time zone, as Europe/Berlin");
  }
  if (isGiven(onFailure) && onFailure !== "RELEASE" && onFailure !== "CHARGE") {
    tell("on_failure", "must be RELEASE or CHARGE");
  }
  if (isGiven(description) && !(typeof description === "string" && description.length <= MAX_DESCRIPTION)) {
    tell("description", `must be a text of at most ${MAX_DESCRIPTION} characters`);
  }
  return {
    id: typeof id === "string" ? id : idOf(selectors),
    ...selectors,
    limits,
    timeZone: typeof timeZone === "string" ? timeZone : "UTC",
    onFailure: onFailure === "CHARGE" ? "CHARGE" : "RELEASE",
    description: typeof description === "string" ? description : "",
  };

  function selector(key: (typeof SELECTORS)[number], isId: (text: string) => boolean): string | undefined {
    const said = (entry as Record<string, unknown>)[key];
    if (!isGiven(said)) return undefined;
    if (typeof said === "string" && (said === "*" || isId(said))) return said;
    return void tell(key, SELECTOR_RULE);
  }
}

function limitsIn(entry: Record<string, unknown>, tell: (key: string, description: string) => void): BudgetLimit[] {
  const limits: BudgetLimit[] = [];
  let isAnyGiven = false;
  for (const [key, limit] of Object.entries(LIMITS)) {
    const said = entry[key];
    if (!isGiven(said)) continue;
    isAnyGiven = true;
    const units = limit.unit === "MONEY" ? moneyIn(said) : tasksIn(said);
    if (units === undefined) tell(key, limit.unit === "MONEY" ? MONEY_RULE : TASKS_RULE);
    else limits.push({ ...limit, units });
  }
  if (!isAnyGiven) tell("", `needs a limit: ${Object.keys(LIMITS).join(", ")}`);
  return limits;
}

/** A number is taken by the shortest text that is read as it, which is what stands in the document. */
const moneyIn = (said: unknown): number | undefined =>
  typeof said === "number"
    ? costMicros(String(said))
    : typeof said === "string" && said !== ""
      ? costMicros(said)
      : undefined;

const tasksIn = (said: unknown): number | undefined =>
  Number.isInteger(said) && (said as number) >= 0 && (said as number) <= MAX_MICROS ? (said as number) : undefined;

/** `agent.a.each-principal`: what a budget is for, in one order. One that is for all has the id `workspace`. */
function idOf({ agentId, capabilityId, principalId, workspaceId }: BudgetSelectors): string {
  const parts = [
    part("agent", agentId),
    part("capability", capabilityId),
    part("principal", principalId),
    // Each workspace has its own anyway.
    part("workspace", workspaceId === "*" ? undefined : workspaceId),
  ].filter((text) => text !== undefined);
  return parts.length === 0 ? "workspace" : parts.join(".");
}

const part = (name: string, said: string | undefined): string | undefined =>
  said === undefined ? undefined : said === "*" ? `each-${name}` : `${name}.${encodeURIComponent(said)}`;

function isZone(name: string, known: Map<string, boolean>): boolean {
  let is = known.get(name);
  if (is === undefined) {
    // An offset, as +01:00, is none: it has no name, and no summer.
    is = /^[A-Za-z]/.test(name) && canFormat(name);
    known.set(name, is);
  }
  return is;
}

function canFormat(timeZone: string): boolean {
  try {
    new Intl.DateTimeFormat("en", { timeZone });
    return true;
  } catch {
    return false;
  }
}

/** Half of a surrogate pair is no character, and has no place in a key. */
const isPrincipal = (text: string): boolean => text !== "" && text.length <= MAX_PRINCIPAL && text.isWellFormed();

const isGiven = (value: unknown): boolean => value !== undefined && value !== null;

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const hasOwnId = (entry: unknown): boolean => isObject(entry) && isGiven(entry.id);
