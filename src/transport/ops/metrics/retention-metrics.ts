/** What was removed because it had been kept long enough, and how far that is behind. */
import { Counter, Gauge, type Registry } from "prom-client";

/** Seconds for which the oldest of each kind has been due; 0 where none is. */
export type RetentionGauge = Readonly<Record<"task" | "artifact", number>>;

export interface RetentionMetrics {
  removed(what: "task" | "artifact", count: number): void;
  /** Shows what is known; nothing, where that is not known now. */
  showBehind(behind: RetentionGauge | undefined): void;
}

export function retentionMetrics(registry: Registry): RetentionMetrics {
  const registers = [registry];
  const labelNames = ["what"];
  const removed = new Counter({
    name: "signalbox_retention_removed_total",
    help: "What this process has removed because it had been kept long enough: tasks, and artifacts that lost their contents.",
    labelNames,
    registers,
  });
  const behind = new Gauge({
    name: "signalbox_retention_behind_seconds",
    help: "For how long the oldest task, or the oldest task with contents of artifacts, has been due to be removed, on whatever replica; 0 when none is.",
    aggregator: "max",
    labelNames,
    registers,
  });
  for (const what of ["task", "artifact"]) removed.inc({ what }, 0);
  return {
    removed: (what, count) => removed.inc({ what }, count),
    showBehind(now) {
      behind.reset();
      if (now) for (const [what, seconds] of Object.entries(now)) behind.set({ what }, seconds);
    },
  };
}
