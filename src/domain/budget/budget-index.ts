/** Finds the budgets that a task falls under, without looking at the others. Pure. */

import type { Spender } from "./budget-key.ts";
import type { BudgetRule } from "./budget-rule.ts";

export interface BudgetIndex {
  readonly byId: ReadonlyMap<string, BudgetRule>;
  /**
   * In the order of the document. A task of an agent that was named alone falls under the budgets of each capability that it offers, but
   * not under those that each capability has of its own.
   */
  matching(spender: Spender): readonly BudgetRule[];
}

/**
 * Of the budgets of all documents, those that are for a workspace. Where two documents have a budget of the same id, both hold, each by
 * itself: no document loosens what another says. The later one is known as `id+2`, which is the id of no other.
 */
export function createBudgetIndex(rules: readonly BudgetRule[], workspaceId: string): BudgetIndex {
  const byId = new Map<string, BudgetRule>();
  const bySelectors = new Map<string, { rule: BudgetRule; place: number }[]>();
  for (const [place, said] of rules.entries()) {
    if (said.workspaceId !== undefined && said.workspaceId !== "*" && said.workspaceId !== workspaceId) continue;
    let id = said.id;
    for (let twin = 2; byId.has(id); twin++) id = `${said.id}+${twin}`;
    const rule = id === said.id ? said : { ...said, id };
    byId.set(id, rule);
    const name = nameOf(fixed(rule.agentId), fixed(rule.capabilityId), fixed(rule.principalId));
    const known = bySelectors.get(name);
    if (known) known.push({ rule, place });
    else bySelectors.set(name, [{ rule, place }]);
  }
  return {
    byId,
    matching({ agentId, capabilityId, among = [], principalId }) {
      if (bySelectors.size === 0) return [];
      const capabilityIds = capabilityId === undefined ? among : [capabilityId];
      const found: { rule: BudgetRule; place: number }[] = [];
      for (const agent of [undefined, agentId]) {
        for (const principal of [undefined, principalId]) {
          found.push(...(bySelectors.get(nameOf(agent, undefined, principal)) ?? []));
          for (const capability of capabilityIds) {
            found.push(...(bySelectors.get(nameOf(agent, capability, principal)) ?? []));
          }
        }
      }
      return found
        .filter(({ rule }) => capabilityId !== undefined || rule.capabilityId !== "*")
        .sort((a, b) => a.place - b.place)
        .map(({ rule }) => rule);
    },
  };
}

const fixed = (selector: string | undefined): string | undefined => (selector === "*" ? undefined : selector);

// A principal may hold any character, so it comes last.
const nameOf = (agentId = "", capabilityId = "", principalId = ""): string =>
  `${agentId} ${capabilityId} ${principalId}`;
