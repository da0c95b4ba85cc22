/** Metrics after Prometheus conventions: `signalbox_*`, seconds and bytes. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import { LIMIT_NAMES, type LimitName } from "../../domain/identity/quotas.ts";
import { PHASES } from "../../domain/policy/facts.ts";
import type { BudgetGauge } from "../../services/budget-usage.ts";
import type { AgentGauge } from "../../services/routing/agent-gauges.ts";
import { agentGauges } from "./metrics/agent-gauges.ts";
import { type AlertGauge, alertGauges } from "./metrics/alert-gauges.ts";
import { type AuditGauge, auditGauges } from "./metrics/audit-gauges.ts";
import { budgetGauges } from "./metrics/budget-gauges.ts";
import { type BusState, busGauge } from "./metrics/bus-gauge.ts";
import { type ReputationGauge, reputationGauges } from "./metrics/reputation-gauges.ts";
import { type RetentionGauge, retentionMetrics } from "./metrics/retention-metrics.ts";
import { tlsMetrics } from "./metrics/tls-metrics.ts";
import { transitionCounter } from "./metrics/transition-counter.ts";

/** What one process measures, as prom-client tells it: plain data. */
export type MetricsSnapshot = Awaited<ReturnType<Registry["getMetricsAsJSON"]>>;

/** The page at /metrics. */
export interface MetricsPage {
  readonly contentType: string;
  render(): Promise<string>;
}

export interface Metrics extends MetricsPage {
  /** The same as data, for whoever puts the pages of several processes together. */
  snapshot(): Promise<MetricsSnapshot>;
  call(call: { service: string; method: string; protocol: string; code: string; seconds: number }): void;
  transition(workspaceId: string, agentId: string, state: string): void;
  pushDelivery(outcome: "delivered" | "failed"): void;
  tasksTaken(how: "claimed" | "rescued", tasks: number): void;
  attemptFailed(): void;
  cacheLookup(outcome: "hit" | "miss" | "follow"): void;
  hedge(outcome: "won" | "lost" | "failed" | "refused"): void;
  mirror(outcome: "same" | "different" | "failed" | "dropped"): void;
  approval(outcome: "requested" | "approved" | "rejected" | "expired" | "withdrawn"): void;
  healthCheck(outcome: "passed" | "failed"): void;
  policyReload(result: "loaded" | "refused"): void;
  policyVerdict(phase: "ADMISSION" | "CANDIDATE" | "RESULT", effect: "ALLOW" | "DENY" | "REQUIRE_APPROVAL"): void;
  reputation(outcome: "good" | "bad" | "neutral" | "report", count: number): void;
  budgetRefused(): void;
  budgetOverrun(micros: number): void;
  limited(limit: LimitName): void;
  retentionRemoved(what: "task" | "artifact", count: number): void;
  tlsReload(result: "loaded" | "refused"): void;
}

export interface MetricsSources {
  version: string;
  backend: string;
  runningTasks: () => number;
  ready: () => boolean;
  /** Replicas that live, this one among them. */
  replicas: () => number;
  /** What carries hints between replicas. */
  bus: () => BusState;
  /** How many tasks wait for a replica, counted to a bound. */
  waitingTasks: () => Promise<number>;
  /** How many tasks wait for room at their agents. */
  waitingAtAgents: () => number;
  /** Units in this process's slices of limits, and those in use. */
  allotted: () => { granted: number; held: number };
  /** How far the duties of the outbox are behind. */
  outboxLag: () => Promise<{ duty: string; rows: number; seconds: number }[]>;
  /** For how many seconds the oldest has been due of what is not kept any longer. */
  retentionBehind: () => Promise<RetentionGauge>;
  /** What is measured beside alert thresholds. */
  alerts: () => Promise<AlertGauge[]>;
  /** Whether the policy files of this server are in force as they stand on its disk. */
  policyFilesAreValid: () => boolean;
  /** Whether agents can be given tasks: a bounded number of them. */
  agents: () => AgentGauge[];
  /** How agents stand: at most so many, those first that are trusted least. */
  leastTrusted: (most: number) => ReputationGauge[];
  /** Windows of budgets that are open now, over all replicas: a bounded number of them, the fullest first. */
  budgets: () => Promise<BudgetGauge[]>;
  /** How the audit logs are: how far behind, how much of them was read again here, and what is wrong. */
  audit: () => Promise<AuditGauge>;
  /** When the certificate of the listeners ends, in seconds since 1970; undefined without TLS. */
  certificateEnd: () => number | undefined;
}

const EFFECTS = ["ALLOW", "DENY", "REQUIRE_APPROVAL"] as const;

/** Agents whose trust a page shows at most. */
const MOST_TRUSTS = 1_000;

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
  const transition = transitionCounter(registry);
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
  const cacheLookups = new Counter({
    name: "signalbox_cache_lookups_total",
    help: "Lookups in the result cache: hit, a result was there; miss, none was; follow, an equal task is under way and its result is waited for.",
    labelNames: ["outcome"],
    registers,
  });
  for (const outcome of ["hit", "miss", "follow"]) cacheLookups.inc({ outcome }, 0);
  const hedges = new Counter({
    name: "signalbox_hedges_total",
    help: "Tasks of slow agents, by what came of asking a second one: it won, it lost, it failed, or it was not asked (refused).",
    labelNames: ["outcome"],
    registers,
  });
  const mirrors = new Counter({
    name: "signalbox_mirrors_total",
    help: "Copies of tasks, by whether the mirror's result was the same or different; it failed, or nothing was compared (dropped).",
    labelNames: ["outcome"],
    registers,
  });
  for (const outcome of ["won", "lost", "failed", "refused"]) hedges.inc({ outcome }, 0);
  for (const outcome of ["same", "different", "failed", "dropped"]) mirrors.inc({ outcome }, 0);
  const approvals = new Counter({
    name: "signalbox_approvals_total",
    help: "Approvals of tasks by what became of them at this process: requested, approved, rejected, expired, or withdrawn with a canceled task.",
    labelNames: ["outcome"],
    registers,
  });
  for (const outcome of ["requested", "approved", "rejected", "expired", "withdrawn"]) approvals.inc({ outcome }, 0);
  const policyReloads = new Counter({
    name: "signalbox_policy_reloads_total",
    help: "Policies of workspaces and of this server's files that this process has taken over (loaded) or could not use (refused).",
    labelNames: ["result"],
    registers,
  });
  for (const result of ["loaded", "refused"]) policyReloads.inc({ result }, 0);
  const policyVerdicts = new Counter({
    name: "signalbox_policy_verdicts_total",
    help: "Verdicts of policies, where there are rules, by when they were asked and what they came to.",
    labelNames: ["phase", "effect"],
    registers,
  });
  /** Found once: making keys of labels takes longer than deciding. */
  const verdictCounters = Object.fromEntries(
    PHASES.flatMap((phase) =>
      EFFECTS.map((effect) => [`${phase} ${effect}`, policyVerdicts.labels({ phase, effect })] as const),
    ),
  );
  new Gauge({
    name: "signalbox_policy_files_valid",
    help: "1 while this server's policy files, if it has any, are in force as they stand on its disk; 0 while what they said before is, because they hold mistakes.",
    aggregator: "min",
    registers,
    collect() {
      this.set(sources.policyFilesAreValid() ? 1 : 0);
    },
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
    aggregator: "max",
    registers,
    collect() {
      this.set(sources.ready() ? 1 : 0);
    },
  });
  new Gauge({
    name: "signalbox_replicas",
    help: "Replicas that live, this one among them, by its last heartbeat; 1 before the first.",
    aggregator: "max",
    registers,
    collect() {
      this.set(sources.replicas());
    },
  });
  busGauge(registry, sources.bus);
  const waiting = new Gauge({
    name: "signalbox_waiting_tasks",
    help: "Tasks that are due and wait for a replica, counted to limits.queued-tasks, over all replicas.",
    aggregator: "max",
    registers,
  });
  new Gauge({
    name: "signalbox_agent_waiting_tasks",
    help: "Tasks that wait for room at their agents, over all replicas, as this process has counted them.",
    aggregator: "max",
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
    aggregator: "max",
    registers,
  });
  const lagRows = new Gauge({
    name: "signalbox_outbox_lag_rows",
    help: "Updates that a duty of the outbox has yet to pass, counted to 10000, on whatever replica.",
    labelNames: ["duty"],
    aggregator: "max",
    registers,
  });
  const showAlerts = alertGauges(registry);
  const checks = new Counter({
    name: "signalbox_health_checks_total",
    help: "Checks of agents by outcome.",
    labelNames: ["outcome"],
    registers,
  });
  for (const outcome of ["passed", "failed"]) checks.inc({ outcome }, 0);
  const showAgents = agentGauges(registry);
  const outcomes = new Counter({
    name: "signalbox_reputation_outcomes_total",
    help: "Ends of tasks that this process took into the reputation of their agents: good, bad, or neutral, which says nothing of the agent; and what judges have reported (report).",
    labelNames: ["outcome"],
    registers,
  });
  for (const outcome of ["good", "bad", "neutral", "report"]) outcomes.inc({ outcome }, 0);
  const showReputations = reputationGauges(registry);
  const showBudgets = budgetGauges(registry);
  const budgetRefusals = new Counter({
    name: "signalbox_budget_refusals_total",
    help: "Tasks that were refused here because a budget was used up.",
    registers,
  });
  const budgetOverruns = new Counter({
    name: "signalbox_budget_overrun_total",
    help: "What tasks that ended here cost beyond what their budgets had left, in the currency.",
    registers,
  });
  const limited = new Counter({
    name: "signalbox_limited_total",
    help: "Calls, tasks and streams that were refused here because of a rate limit or a quota, by the name of the limit.",
    labelNames: ["limit"],
    registers,
  });
  for (const limit of LIMIT_NAMES) limited.inc({ limit }, 0);
  const retention = retentionMetrics(registry);
  const showAudit = auditGauges(registry);
  const tlsReload = tlsMetrics(registry, sources.certificateEnd);
  new Gauge({
    name: "signalbox_build_info",
    help: "1, with the version and the database backend as labels.",
    labelNames: ["version", "backend"],
    aggregator: "first",
    registers,
  }).set({ version: sources.version, backend: sources.backend }, 1);

  /** Asks whoever knows for what is not counted as it happens. */
  async function refresh(): Promise<void> {
    const [lags = [], alerts = [], budgets = [], count, audit, behind] = await Promise.all([
      soon(sources.outboxLag()),
      soon(sources.alerts()),
      soon(sources.budgets()),
      soon(sources.waitingTasks()),
      soon(sources.audit()),
      soon(sources.retentionBehind()),
    ]);
    showAudit(audit);
    retention.showBehind(behind);
    // No number is not 0.
    if (count === undefined) waiting.remove();
    else waiting.set(count);
    showAgents(sources.agents());
    showReputations(sources.leastTrusted(MOST_TRUSTS));
    lagRows.reset();
    lagSeconds.reset();
    for (const { duty, rows, seconds } of lags) {
      lagRows.set({ duty }, rows);
      lagSeconds.set({ duty }, seconds);
    }
    showBudgets(budgets);
    showAlerts(alerts);
  }

  return {
    contentType: registry.contentType,
    async render() {
      await refresh();
      return registry.metrics();
    },
    async snapshot() {
      await refresh();
      return registry.getMetricsAsJSON();
    },
    call: ({ seconds, ...labels }) => calls.observe(labels, seconds),
    transition,
    pushDelivery: (outcome) => deliveries.inc({ outcome }),
    tasksTaken: (how, tasks) => taken.inc({ how }, tasks),
    attemptFailed: () => attemptsFailed.inc(),
    cacheLookup: (outcome) => cacheLookups.inc({ outcome }),
    hedge: (outcome) => hedges.inc({ outcome }),
    mirror: (outcome) => mirrors.inc({ outcome }),
    approval: (outcome) => approvals.inc({ outcome }),
    healthCheck: (outcome) => checks.inc({ outcome }),
    policyReload: (result) => policyReloads.inc({ result }),
    policyVerdict: (phase, effect) => verdictCounters[`${phase} ${effect}`]?.inc(),
    reputation: (outcome, count) => outcomes.inc({ outcome }, count),
    budgetRefused: () => budgetRefusals.inc(),
    budgetOverrun: (micros) => budgetOverruns.inc(micros / 1e6),
    limited: (limit) => limited.inc({ limit }),
    retentionRemoved: retention.removed,
    tlsReload,
  };
}

/** What the database says in time; undefined when it does not, or fails. */
async function soon<T>(asked: Promise<T>): Promise<T | undefined> {
  const late = Promise.withResolvers<undefined>();
  const timer = setTimeout(late.resolve, DATABASE_TIMEOUT_MS, undefined);
  try {
    return await Promise.race([asked.catch(() => undefined), late.promise]);
  } finally {
    clearTimeout(timer);
  }
}
