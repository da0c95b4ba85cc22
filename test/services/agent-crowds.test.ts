/** Who waits for the same room, and in which order room is offered. */
import { expect, test } from "vitest";
import { createAgentCrowds } from "../../src/services/agent-crowds.ts";
import { systemRuntime } from "../../src/services/runtime.ts";

const home = { workspaceId: "lender", agentId: "worker" };
const alias = { workspaceId: "borrower", agentId: "digger" };
const task = (agent: typeof home) => ({ ...agent, taskId: "task", capabilityId: undefined });

test("room that one hopes for is offered to all who wait for it, to who was served longest ago first", () => {
  const crowds = createAgentCrowds({ crowded: async () => [] }, systemRuntime(), 10, (workspaceId, agentId) =>
    workspaceId === alias.workspaceId && agentId === alias.agentId ? home : undefined,
  );
  const lender = crowds.add(task(home));
  const borrower = crowds.add(task(alias));
  crowds.add(task({ workspaceId: "lender", agentId: "other" }));
  crowds.served(borrower);
  crowds.served(lender);
  // It has just been served, and there may be more.
  crowds.hope(lender);
  expect(crowds.takeHopeful()).toEqual([[borrower, lender]]);
  expect(crowds.hasHopeful).toBe(false);
});
