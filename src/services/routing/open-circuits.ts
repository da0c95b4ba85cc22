import { circuitState } from "../../domain/routing/breaker.ts";
import type { AgentDirectory } from "../agent-directory.ts";
import type { OpenCircuits } from "../alerts.ts";
import type { Runtime } from "../runtime.ts";
import type { AgentLoads } from "./agent-load.ts";

export interface OpenCircuitsDeps {
  directory: Pick<AgentDirectory, "agents">;
  loads: Pick<AgentLoads, "breaker">;
  runtime: Pick<Runtime, "elapsedMs">;
}

/** Counts circuits that are not closed, as this replica sees them. */
export function createOpenCircuits({ directory, loads, runtime }: OpenCircuitsDeps): OpenCircuits {
  return async (workspaceId, capabilityId) => {
    const { byId, byCapability } = await directory.agents(workspaceId);
    const offers = capabilityId === undefined ? undefined : (byCapability.get(capabilityId) ?? []);
    const agentIds = offers ? offers.map(({ agent }) => agent.agentId) : [...byId.keys()];
    const open = agentIds.filter((agentId) => {
      const breaker = loads.breaker(workspaceId, agentId);
      return breaker !== undefined && circuitState(breaker, runtime.elapsedMs()) !== "CLOSED";
    });
    return { open: open.length, agents: agentIds.length };
  };
}
