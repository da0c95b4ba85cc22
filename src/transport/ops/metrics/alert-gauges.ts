/** What is measured beside alert thresholds. */
import { Gauge, type Registry } from "prom-client";
import type { Alert } from "../../../../gen/signalbox/v1/rollout_pb.ts";

export interface AlertGauge {
  readonly workspaceId: string;
  readonly alert: Alert;
}

/** Alerts that a page shows at most: those that are crossed first, then those of the most tasks. */
const MOST_ALERTS = 400;

/** Returns what shows the alerts that are given, the most telling of them, and no others. */
export function alertGauges(registry: Registry): (alerts: readonly AlertGauge[]) => void {
  const gauge = (name: string, help: string) =>
    new Gauge({
      name,
      help,
      aggregator: "max",
      labelNames: ["workspace", "capability", "signal"],
      registers: [registry],
    });
  const crossed = gauge(
    "signalbox_alert",
    "1 when a signal is above the threshold of its rollout, by the last 5 minutes here; no capability is the whole workspace.",
  );
  const measured = gauge(
    "signalbox_alert_value",
    "The signal itself: a share from 0 to 1, or for p95_ms milliseconds.",
  );

  return (alerts) => {
    for (const each of [crossed, measured]) each.reset();
    for (const { workspaceId: workspace, alert } of mostTelling(alerts)) {
      const labels = { workspace, capability: alert.capabilityId, signal: alert.signal };
      crossed.set(labels, alert.crossed ? 1 : 0);
      measured.set(labels, alert.value);
    }
  };
}

const mostTelling = (alerts: readonly AlertGauge[]): AlertGauge[] =>
  alerts
    .toSorted((a, b) => Number(b.alert.crossed) - Number(a.alert.crossed) || Number(b.alert.samples - a.alert.samples))
    .slice(0, MOST_ALERTS);
