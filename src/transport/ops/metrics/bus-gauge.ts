/** Whether this process hears of the other replicas. */
import { Gauge, type Registry } from "prom-client";

/** What carries hints between replicas, and whether it does now. */
export interface BusState {
  readonly kind: string;
  readonly connected: boolean;
}

export function busGauge(registry: Registry, state: () => BusState): void {
  new Gauge({
    name: "signalbox_bus_connected",
    help: "1 while hints of other replicas come by the update bus (in-process, postgres or nats), 0 while the slow poll finds what they would tell.",
    aggregator: "min",
    labelNames: ["bus"],
    registers: [registry],
    collect() {
      const { kind, connected } = state();
      this.set({ bus: kind }, connected ? 1 : 0);
    },
  });
}
