/** How agents do, for a page of metrics: a bounded number of them. */
import { circuitState } from "../../domain/routing/breaker.ts";
import type { Runtime } from "../runtime.ts";
import type { AgentLoads } from "./agent-load.ts";
import type { AgentAvailability } from "./availability.ts";

/** Agents at most: each is a few time series. */
const MOST = 1_000;

export interface AgentGauge {
  workspaceId: string;
  agentId: string;
  healthy: boolean;
  /** Whether its circuit is open or half-open. */
  circuitOpen: boolean;
  ejected: boolean;
}

export interface AgentGaugesDeps {
  availability: Pick<AgentAvailability, "known" | "isHealthy" | "ejectedForMs">;
  loads: Pick<AgentLoads, "known" | "breaker">;
  runtime: Runtime;
}

/** Those in trouble first. */
export function agentGauges({ availability, loads, runtime }: AgentGaugesDeps): AgentGauge[] {
  const gauges = new Map<string, AgentGauge>();
  for (const known of [availability.known(), loads.known()]) {
    for (const { workspaceId, agentId } of known) {
      const key = `${workspaceId}/${agentId}`;
      if (gauges.has(key)) continue;
      if (gauges.size === MOST) break;
      const breaker = loads.breaker(workspaceId, agentId);
      gauges.set(key, {
        workspaceId,
        agentId,
        healthy: availability.isHealthy(workspaceId, agentId),
        circuitOpen: breaker !== undefined && circuitState(breaker, runtime.elapsedMs()) !== "CLOSED",
        ejected: availability.ejectedForMs(workspaceId, agentId) !== undefined,
      });
    }
  }
  return [...gauges.values()];
}
