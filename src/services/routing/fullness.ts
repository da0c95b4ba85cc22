/** Whether an agent takes one more task. */
import type { AgentLoads } from "./agent-load.ts";
import type { Possible } from "./offers.ts";

/** Whether an agent has as many tasks as it may have. */
export type IsFull = (workspaceId: string, offer: Possible) => boolean;

/** Tasks that an agent works on at once for what it offers; undefined when there is no limit. */
export function limitOf({ agent, capability }: Possible): number | undefined {
  const { maxConcurrency: most } = agent;
  const ofCapability = capability?.maxConcurrency;
  return most === undefined || ofCapability === undefined ? (most ?? ofCapability) : Math.min(most, ofCapability);
}

/** As this replica knows it: as many tasks in flight as it, or its capability, allows at once. */
export const fullByLoad =
  (loads: Pick<AgentLoads, "of">): IsFull =>
  (workspaceId, offer) => {
    const most = limitOf(offer);
    return most !== undefined && (loads.of(workspaceId, offer.agent.agentId)?.inFlight ?? 0) >= most;
  };
