/** Whether an agent takes one more task. */
import type { AgentLoads } from "./agent-load.ts";
import type { Possible } from "./offers.ts";

/** Whether an agent has as many tasks as it may have. */
export type IsFull = (workspaceId: string, offer: Possible) => boolean;

/** As this replica knows it: as many tasks in flight as its capability allows at once. */
export const fullByLoad =
  (loads: Pick<AgentLoads, "of">): IsFull =>
  (workspaceId, { agent, capability }) => {
    const most = capability?.maxConcurrency;
    return most !== undefined && (loads.of(workspaceId, agent.agentId)?.inFlight ?? 0) >= most;
  };
