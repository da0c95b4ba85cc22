/**
 * What all workers measure, as one page. Counters never fall: what a worker has counted stays in the sums when it has died, as it was
 * at its last answer, and when it does not answer in time.
 */
import { AggregatorRegistry, Counter, Gauge } from "prom-client";
import type { MetricsSnapshot } from "../../transport/ops/metrics.ts";

/** How many workers there are, by what they do. */
export interface WorkerCounts {
  /** As many as should serve. */
  readonly wanted: number;
  readonly starting: number;
  readonly serving: number;
  readonly draining: number;
  /** Workers that died or were stopped, and were started again, since the server has. */
  readonly restarts: number;
}

export interface MetricsBook {
  /** Takes down what a worker measures now. */
  take(worker: number, snapshot: MetricsSnapshot): void;
  /** A worker is gone. */
  close(worker: number): void;
  /** The page. `silent` workers did not answer in time: of them it shows what they had counted before, and nothing that may have changed. */
  page(counts: WorkerCounts, silent: ReadonlySet<number>): Promise<string>;
}

type Aggregated = ReturnType<typeof AggregatorRegistry.aggregate>;

/** Values of dead workers that are kept at most. Beyond that their counters begin anew, as after a restart. */
const MOST_KEPT = 50_000;

export function createMetricsBook(): MetricsBook {
  const last = new Map<number, MetricsSnapshot>();
  /** Of workers that are gone: a sum, and those that are not in it yet. */
  let gone: MetricsSnapshot[] = [];

  return {
    take: (worker, snapshot) => void last.set(worker, snapshot),
    close(worker) {
      const snapshot = last.get(worker);
      last.delete(worker);
      if (snapshot) gone.push(counted(snapshot));
    },
    async page(counts, silent) {
      if (gone.length > 1) gone = [await AggregatorRegistry.aggregate(gone).getMetricsAsJSON()];
      if (gone.reduce((sum, snapshot) => sum + sizeOf(snapshot), 0) > MOST_KEPT) gone = [];
      const shown = [...last].map(([worker, snapshot]) => (silent.has(worker) ? counted(snapshot) : snapshot));
      const registry = AggregatorRegistry.aggregate([...shown, ...gone]);
      addCounts(registry, counts, silent.size);
      addWorkers(registry, last, silent);
      return registry.metrics();
    },
  };
}

/** What only grows. */
const counted = (snapshot: MetricsSnapshot): MetricsSnapshot => snapshot.filter(({ type }) => isCounted(String(type)));

/** Types come by name, whatever the declarations of prom-client say. */
const isCounted = (type: string): boolean => type === "counter" || type === "histogram";

const sizeOf = (snapshot: MetricsSnapshot): number => snapshot.reduce((sum, { values }) => sum + values.length, 0);

function addCounts(registry: Aggregated, counts: WorkerCounts, silent: number): void {
  const registers = [registry];
  const workers = new Gauge({
    name: "signalbox_workers",
    help: "Workers of this server: those that should serve (wanted), those that start, serve or drain, and those that did not answer in time for this page (silent).",
    labelNames: ["state"],
    registers,
  });
  for (const state of ["wanted", "starting", "serving", "draining"] as const) workers.set({ state }, counts[state]);
  workers.set({ state: "silent" }, silent);
  new Counter({
    name: "signalbox_worker_restarts_total",
    help: "Workers that were started in the place of one that ended.",
    registers,
  }).inc(counts.restarts);
}

/** How evenly the workers are used. All else is one number for all of them. */
function addWorkers(
  registry: Aggregated,
  last: ReadonlyMap<number, MetricsSnapshot>,
  silent: ReadonlySet<number>,
): void {
  const options = { labelNames: ["worker"], registers: [registry] };
  const calls = new Counter({
    name: "signalbox_worker_calls_total",
    help: "Calls that a worker has answered.",
    ...options,
  });
  const cpu = new Counter({
    name: "signalbox_worker_cpu_seconds_total",
    help: "Time on the processor that a worker has used.",
    ...options,
  });
  const memory = new Gauge({
    name: "signalbox_worker_resident_memory_bytes",
    help: "Memory that a worker has.",
    ...options,
  });
  for (const [id, snapshot] of [...last].toSorted(([a], [b]) => a - b)) {
    const worker = String(id);
    calls.inc({ worker }, sumOf(snapshot, "signalbox_rpc_duration_seconds", "signalbox_rpc_duration_seconds_count"));
    cpu.inc({ worker }, sumOf(snapshot, "process_cpu_seconds_total"));
    if (!silent.has(id)) memory.set({ worker }, sumOf(snapshot, "process_resident_memory_bytes"));
  }
}

function sumOf(snapshot: MetricsSnapshot, name: string, part?: string): number {
  const values: readonly { value: number; metricName?: string }[] =
    snapshot.find((metric) => metric.name === name)?.values ?? [];
  return values.reduce((sum, { value, metricName }) => (metricName === part || !part ? sum + value : sum), 0);
}
