/** signalbox.v1.BudgetService over the use cases. */
import type { ServiceImpl } from "@connectrpc/connect";
import type { BudgetService } from "../../../gen/signalbox/v1/budget_pb.ts";
import type { BudgetUsage } from "../../services/budget-usage.ts";
import { requestContextOf } from "./bind.ts";

export function createBudgetService(usage: BudgetUsage): ServiceImpl<typeof BudgetService> {
  return {
    listBudgets: (request, context) => usage.list(requestContextOf(context), request),
    listBudgetUsage: (request, context) => usage.usage(requestContextOf(context), request),
  };
}
