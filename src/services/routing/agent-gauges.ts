/** How agents do, for a page of metrics: a bounded number of them. */
import { circuitState } from "../../domain/routing/breaker.ts";
import type { Runtime } from "../runtime.ts";
import type { AgentLoads } from "./agent-load.ts";
import type { AgentAvailability } from "./availability.ts";

/** Agents at most: each is a few time series. */
const MOST = 1_000;

export interface AgentGauge {
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

/** Those in trouble first. What workspaces call by the same id is one agent here, and does as badly as the worst of them. */
export function agentGauges({ availability, loads, runtime }: AgentGaugesDeps): AgentGauge[] {
  const gauges = new Map<string, AgentGauge>();
  for (const known of [availability.known(), loads.known()]) {
    for (const { workspaceId, agentId } of known) {
      const before = gauges.get(agentId);
      if (!before && gauges.size === MOST) break;
      const breaker = loads.breaker(workspaceId, agentId);
      gauges.set(agentId, {
        agentId,
        healthy: (before?.healthy ?? true) && availability.isHealthy(workspaceId, agentId),
        circuitOpen:
          (before?.circuitOpen ?? false) ||
          (breaker !== undefined && circuitState(breaker, runtime.elapsedMs()) !== "CLOSED"),
        ejected: (before?.ejected ?? false) || availability.ejectedForMs(workspaceId, agentId) !== undefined,
      });
    }
  }
  return [...gauges.values()];
}
