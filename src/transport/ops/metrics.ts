/** Metrics after Prometheus conventions: `signalbox_*`, seconds and bytes. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";

export interface Metrics {
  readonly contentType: string;
  /** The page at /metrics. */
  render(): Promise<string>;
  call(call: { service: string; method: string; protocol: string; code: string; seconds: number }): void;
  transition(agentId: string, state: string): void;
  pushDelivery(outcome: "delivered" | "failed"): void;
  tasksTaken(how: "claimed" | "rescued", tasks: number): void;
  attemptFailed(): void;
}

export interface MetricsSources {
  version: string;
  backend: string;
  runningTasks: () => number;
  ready: () => boolean;
  /** Replicas that live, this one among them. */
  replicas: () => number;
  /** How many tasks wait for a replica, counted to a bound. */
  waitingTasks: () => Promise<number>;
  /** How many tasks wait for room at their agents. */
  waitingAtAgents: () => number;
  /** Units in this process's slices of limits, and those in use. */
  allotted: () => { granted: number; held: number };
  /** How far the duties of the outbox are behind. */
  outboxLag: () => Promise<{ duty: string; rows: number; seconds: number }[]>;
}

/** How long a page waits for the database. Without its answer it shows the rest. */
const DATABASE_TIMEOUT_MS = 1_000;

export function createMetrics(sources: MetricsSources): Metrics {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry });
  const calls = new Histogram({
    name: "signalbox_rpc_duration_seconds",
    help: "Duration of calls by service, method, protocol and status code. Streams count from first to last byte.",
    labelNames: ["service", "method", "protocol", "code"],
    buckets: [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60],
    registers,
  });
  /**
   * Transitions by agent and state since the last page. prom-client makes a key of the labels at each count, which tasks
   * would feel.
   */
  const newTransitions = new Map<string, Map<string, number>>();
  new Counter({
    name: "signalbox_task_transitions_total",
    help: "Status updates of tasks by agent and state.",
    labelNames: ["agent", "state"],
    registers,
    collect() {
      for (const [agent, states] of newTransitions) {
        for (const [state, count] of states) this.inc({ agent, state }, count);
      }
      newTransitions.clear();
    },
  });
  const deliveries = new Counter({
    name: "signalbox_push_deliveries_total",
    help: "Push notifications by outcome.",
    labelNames: ["outcome"],
    registers,
  });
  const taken = new Counter({
    name: "signalbox_tasks_taken_total",
    help: "Tasks that this process took: claimed, because they were due, or rescued from a replica that is gone.",
    labelNames: ["how"],
    registers,
  });
  // There from the start: a rate begins with the first task.
  for (const how of ["claimed", "rescued"]) taken.inc({ how }, 0);
  const attemptsFailed = new Counter({
    name: "signalbox_attempts_failed_total",
    help: "Attempts that failed here and after which another one follows. The last one of a task is a transition to FAILED.",
    registers,
  });
  new Gauge({
    name: "signalbox_running_tasks",
    help: "Tasks that this process carries now.",
    registers,
    collect() {
      this.set(sources.runningTasks());
    },
  });
  new Gauge({
    name: "signalbox_ready",
    help: "1 when this process takes calls, else 0.",
    registers,
    collect() {
      this.set(sources.ready() ? 1 : 0);
    },
  });
  new Gauge({
    name: "signalbox_replicas",
    help: "Replicas that live, this one among them, by its last heartbeat; 1 before the first.",
    registers,
    collect() {
      this.set(sources.replicas());
    },
  });
  const waiting = new Gauge({
    name: "signalbox_waiting_tasks",
    help: "Tasks that are due and wait for a replica, counted to limits.queued-tasks, over all replicas.",
    registers,
  });
  new Gauge({
    name: "signalbox_agent_waiting_tasks",
    help: "Tasks that wait for room at their agents, over all replicas, as this process has counted them.",
    registers,
    collect() {
      this.set(sources.waitingAtAgents());
    },
  });
  new Gauge({
    name: "signalbox_allotment_units",
    help: "Units of limits that this process has a share of: granted to it, and those of them in use.",
    labelNames: ["kind"],
    registers,
    collect() {
      const { granted, held } = sources.allotted();
      this.set({ kind: "granted" }, granted);
      this.set({ kind: "in_use" }, held);
    },
  });
  const lagSeconds = new Gauge({
    name: "signalbox_outbox_lag_seconds",
    help: "Age of the oldest update that a duty of the outbox has yet to pass, on whatever replica.",
    labelNames: ["duty"],
    registers,
  });
  const lagRows = new Gauge({
    name: "signalbox_outbox_lag_rows",
    help: "Updates that a duty of the outbox has yet to pass, counted to 10000, on whatever replica.",
    labelNames: ["duty"],
    registers,
  });
  new Gauge({
    name: "signalbox_build_info",
    help: "1, with the version and the database backend as labels.",
    labelNames: ["version", "backend"],
    registers,
  }).set({ version: sources.version, backend: sources.backend }, 1);

  return {
    contentType: registry.contentType,
    async render() {
      const [lags, [count]] = await Promise.all([
        within(DATABASE_TIMEOUT_MS, sources.outboxLag()),
        within(
          DATABASE_TIMEOUT_MS,
          sources.waitingTasks().then((tasks) => [tasks]),
        ),
      ]);
      // No number is not 0.
      if (count === undefined) waiting.remove();
      else waiting.set(count);
      lagRows.reset();
      lagSeconds.reset();
      for (const { duty, rows, seconds } of lags) {
        lagRows.set({ duty }, rows);
        lagSeconds.set({ duty }, seconds);
      }
      return registry.metrics();
    },
    call: ({ seconds, ...labels }) => calls.observe(labels, seconds),
    transition(agent, state) {
      let states = newTransitions.get(agent);
      if (!states) {
        states = new Map();
        newTransitions.set(agent, states);
      }
      states.set(state, (states.get(state) ?? 0) + 1);
    },
    pushDelivery: (outcome) => deliveries.inc({ outcome }),
    tasksTaken: (how, tasks) => taken.inc({ how }, tasks),
    attemptFailed: () => attemptsFailed.inc(),
  };
}

/** What comes in time; nothing when it does not, or fails. */
async function within<T>(ms: number, items: Promise<T[]>): Promise<T[]> {
  const late = Promise.withResolvers<T[]>();
  const timer = setTimeout(() => late.resolve([]), ms);
  try {
    return await Promise.race([items.catch(() => []), late.promise]);
  } finally {
    clearTimeout(timer);
  }
}
