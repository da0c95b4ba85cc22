/** Windows of budgets. */
import { Gauge, type Registry } from "prom-client";
import type { BudgetGauge } from "../../../services/budget-usage.ts";

/** Returns what shows the windows that are given, and no others. */
export function budgetGauges(registry: Registry): (budgets: readonly BudgetGauge[]) => void {
  const gauge = (name: string, help: string) =>
    new Gauge({
      name,
      help,
      aggregator: "max",
      labelNames: ["workspace", "budget", "period", "unit", "share"],
      registers: [registry],
    });
  const limits = gauge(
    "signalbox_budget_limit",
    "What may be used in the present window of a budget, in the currency or tasks. As the next three, of the 200 windows of which the greatest shares are used, over all replicas.",
  );
  const usages = gauge("signalbox_budget_used", "What is used of it by tasks that have ended.");
  const reservations = gauge("signalbox_budget_reserved", "What is held of it by tasks that have not ended.");
  const ratios = gauge("signalbox_budget_used_ratio", "Used and reserved, as a share of the limit, from 0 to 1.");

  return (budgets) => {
    for (const each of [limits, usages, reservations, ratios]) each.reset();
    for (const { workspaceId: workspace, budgetId: budget, period, unit, share, limit, used, reserved } of budgets) {
      const labels = { workspace, budget, period, unit, share };
      limits.set(labels, limit);
      usages.set(labels, used);
      reservations.set(labels, reserved);
      ratios.set(labels, limit > 0 ? (used + reserved) / limit : 1);
    }
  };
}
