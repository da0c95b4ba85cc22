/** `signalbox budgets`: how much may be spent, and how much is. */
import { toJson } from "@bufbuild/protobuf";
import { timestampDate } from "@bufbuild/protobuf/wkt";
import type { Command } from "commander";
import { type Budget, BudgetSchema, BudgetUnit, BudgetWindow } from "../../gen/signalbox/v1/budget_pb.ts";
import { json, table, utcMinute } from "./printable.ts";
import type { Cli } from "./run.ts";
import { callServer, type ServerOptions, withServer } from "./server-call.ts";

interface ListFlags extends ServerOptions {
  agent?: string;
  capability?: string;
  principal?: string;
}

/** Windows that one call asks for. */
const PAGE = 1_000;

export function addBudgetsCommands(program: Command, cli: Cli): void {
  const budgets = program
    .command("budgets")
    .description("see how much may be spent, and how much is; the policy sets it");
  const { io } = cli;

  const list = budgets
    .command("list")
    .description("list the budgets of the policy with what is used of them in this hour, day or month")
    .option("--agent <id>", "only those of an agent")
    .option("--capability <id>", "only those of a capability")
    .option("--principal <id>", "only those of a principal");
  withServer(list).action((options: ListFlags) =>
    callServer(cli, options, async (client) => {
      const asked = {
        agentId: options.agent ?? "",
        capabilityId: options.capability ?? "",
        principalId: options.principal ?? "",
        pageSize: PAGE,
      };
      const found = await all(async (pageToken) => {
        const page = await client.budgets.listBudgets({ ...asked, pageToken });
        return { items: page.budgets, nextPageToken: page.nextPageToken };
      });
      io.out(options.json ? json({ budgets: found.map((one) => toJson(BudgetSchema, one)) }) : listTable(found));
    }),
  );

  const usage = budgets
    .command("usage <id>")
    .description("list what was used of a budget in its windows, the latest first")
    .option("--limit <n>", "windows that are shown at most, 1 to 1000", "100");
  withServer(usage).action((budgetId: string, options: ServerOptions & { limit: string }) => {
    const pageSize = Number(options.limit);
    if (!Number.isInteger(pageSize) || pageSize < 1 || pageSize > PAGE) {
      usage.error(`error: --limit must be a whole number from 1 to ${PAGE}.`);
    }
    return callServer(cli, options, async (client) => {
      const { windows } = await client.budgets.listBudgetUsage({ budgetId, pageSize });
      io.out(options.json ? json({ windows: windows.map((one) => toJson(BudgetSchema, one)) }) : usageTable(windows));
    });
  });
}

async function all(
  page: (pageToken: string) => Promise<{ items: Budget[]; nextPageToken: string }>,
): Promise<Budget[]> {
  const found: Budget[] = [];
  let token = "";
  do {
    const { items, nextPageToken } = await page(token);
    found.push(...items);
    token = nextPageToken;
  } while (token !== "");
  return found;
}

function listTable(budgets: readonly Budget[]): string {
  if (budgets.length === 0) return "No budgets. They are the section budgets of the policy.\n";
  const rows = budgets.map((one) => [
    one.budgetId,
    forWhom(one),
    windowName(one),
    ...amounts(one),
    timeText(one.resetTime),
  ]);
  return table(["BUDGET", "FOR", "WINDOW", "LIMIT", "USED", "RESERVED", "LEFT", "OVERRUN", "RESET"], rows);
}

function usageTable(windows: readonly Budget[]): string {
  if (windows.length === 0) return "Nothing was used yet.\n";
  const rows = windows.map((one) => [timeText(one.startTime), windowName(one), forWhom(one), ...amounts(one)]);
  return table(["FROM", "WINDOW", "FOR", "LIMIT", "USED", "RESERVED", "LEFT", "OVERRUN"], rows);
}

const amounts = ({ limit, used, reserved, remaining, overrun }: Budget): string[] => [
  ...[limit, used, reserved, remaining],
  overrun === "0" ? "-" : overrun,
];

function forWhom({ agentId, capabilityId, principalId }: Budget): string {
  const parts = [
    agentId && `agent ${agentId}`,
    capabilityId && `capability ${capabilityId}`,
    principalId && `principal ${principalId}`,
  ].filter((part) => part !== "");
  return parts.length === 0 ? "all" : parts.join(", ");
}

const windowName = ({ window, unit }: Budget): string =>
  `${WINDOW_NAME.get(window) ?? "?"} ${unit === BudgetUnit.TASKS ? "tasks" : "money"}`;

const WINDOW_NAME: ReadonlyMap<BudgetWindow, string> = new Map(
  Object.entries(BudgetWindow).map(([name, number]) => [number, name.toLowerCase()]),
);

const timeText = (time: Budget["startTime"]): string => (time ? utcMinute(timestampDate(time)) : "-");
