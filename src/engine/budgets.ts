/** What tasks may cost: what holds it for them, and what tells how much is used. */
import { type BudgetHolds, createBudgetHolds } from "../services/budget-holds.ts";
import { type BudgetUsage, createBudgetUsage } from "../services/budget-usage.ts";
import { createBudgetRepository } from "../store/budget-repository.ts";
import { createBudgetUsageReads } from "../store/budget-usage-reads.ts";
import type { Ground } from "./ground.ts";
import type { EngineBase } from "./options.ts";
import type { PolicyParts } from "./policy.ts";

export interface BudgetParts {
  readonly budgets: BudgetHolds;
  readonly budgetUsage: BudgetUsage;
}

export function buildBudgets(
  base: EngineBase,
  { store, hub, replica }: Ground,
  { policies }: PolicyParts,
): BudgetParts {
  const { db, runtime, log } = base;
  const reads = createBudgetUsageReads(db);
  const budgets: BudgetHolds = createBudgetHolds({
    rulesOf: (workspaceId) => policies.of(workspaceId).budgets,
    repository: createBudgetRepository(db, (limit) => new Date(budgets.endOf(limit))),
    reads,
    store,
    replicaId: replica.id,
    announce: () => hub.announceWork(),
    onOverrun: base.onBudgetOverrun,
    runtime,
    log,
  });
  hub.onWork((origin) => {
    if (origin === "elsewhere") budgets.heed();
  });
  return { budgets, budgetUsage: createBudgetUsage({ reads, load: policies.load, indexOf: budgets.indexOf, runtime }) };
}
