/** How far agents are trusted. */
import { Gauge, type Registry } from "prom-client";

/** How an agent stands as a whole. */
export interface ReputationGauge {
  readonly workspaceId: string;
  readonly agentId: string;
  readonly trust: number;
  readonly score: number;
}

/** Returns what shows the agents that are given, and no others. */
export function reputationGauges(registry: Registry): (agents: readonly ReputationGauge[]) => void {
  const gauge = (name: string, help: string) =>
    new Gauge({ name, help, aggregator: "min", labelNames: ["workspace", "agent"], registers: [registry] });
  const trusts = gauge(
    "signalbox_reputation_trust",
    "How far an agent is trusted as a whole, from 0 to 1. As the next one, of at most 1000 agents that this process knows, the least trusted first.",
  );
  const scores = gauge(
    "signalbox_reputation_score",
    "Share of its tasks that an agent ended well, older ones less, from 0 to 1.",
  );

  return (agents) => {
    for (const each of [trusts, scores]) each.reset();
    for (const { workspaceId: workspace, agentId: agent, trust, score } of agents) {
      trusts.set({ workspace, agent }, trust);
      scores.set({ workspace, agent }, score);
    }
  };
}
