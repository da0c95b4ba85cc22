/** Whether agents can be given tasks. */
import { Gauge, type Registry } from "prom-client";
import type { AgentGauge } from "../../../services/routing/agent-gauges.ts";

/** Returns what shows the agents that are given, and no others. */
export function agentGauges(registry: Registry): (agents: readonly AgentGauge[]) => void {
  // Of several processes, the one that is worst off tells.
  const gauge = (name: string, help: string, aggregator: "min" | "max") =>
    new Gauge({ name, help, aggregator, labelNames: ["workspace", "agent"], registers: [registry] });
  const healthy = gauge(
    "signalbox_agent_healthy",
    "1 when checks and heartbeats let an agent have tasks, else 0. As the next two, of at most 1000 agents that this process knows, those in trouble first.",
    "min",
  );
  const open = gauge("signalbox_circuit_open", "1 while the circuit of an agent is open or half-open, else 0.", "max");
  const ejected = gauge("signalbox_agent_ejected", "1 while an agent is passed over for a capability, else 0.", "max");

  return (agents) => {
    for (const each of [healthy, open, ejected]) each.reset();
    for (const { workspaceId: workspace, agentId: agent, ...is } of agents) {
      healthy.set({ workspace, agent }, Number(is.healthy));
      open.set({ workspace, agent }, Number(is.circuitOpen));
      ejected.set({ workspace, agent }, Number(is.ejected));
    }
  };
}
