/** Metrics after Prometheus conventions: `signalbox_*`, seconds and bytes. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import type { Alert } from "../../../gen/signalbox/v1/rollout_pb.ts";
import { PHASES } from "../../domain/policy/facts.ts";
import type { BudgetGauge } from "../../services/budget-usage.ts";

export interface Metrics {
  readonly contentType: string;
  /** The page at /metrics. */
  render(): Promise<string>;
  call(call: { service: string; method: string; protocol: string; code: string; seconds: number }): void;
  transition(agentId: string, state: string): void;
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
  /** What is measured beside alert thresholds. */
  alerts: () => Promise<{ workspaceId: string; alert: Alert }[]>;
  /** Whether the policy files of this server are in force as they stand on its disk. */
  policyFilesAreValid: () => boolean;
  /** Whether agents can be given tasks: a bounded number of them. */
  agents: () => { agentId: string; healthy: boolean; circuitOpen: boolean; ejected: boolean }[];
  /** How agents stand: at most so many, those first that are trusted least. */
  leastTrusted: (most: number) => { agentId: string; trust: number; score: number }[];
  /** Windows of budgets that are open now, over all replicas: a bounded number of them, the fullest first. */
  budgets: () => Promise<BudgetGauge[]>;
  /** How the audit logs are: how far behind, how much of them was read again here, and what is wrong. */
  audit: () => Promise<{ lag: { entries: number; seconds: number }; verified: number; faults: number }>;
}

const EFFECTS = ["ALLOW", "DENY", "REQUIRE_APPROVAL"] as const;

/** Alerts that a page shows at most: those that are crossed first, then those of the most tasks. */
const MOST_ALERTS = 400;

/** Agents whose transitions a page shows at most: those that were longest without one go first. */
const MOST_AGENTS = 1_000;

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
  /** The states that are counted of each agent; the agent that was longest without a transition comes first. */
  const counted = new Map<string, Set<string>>();
  const transitions = new Counter({
    name: "signalbox_task_transitions_total",
    help: "Status updates of tasks by agent and state.",
    labelNames: ["agent", "state"],
    registers,
    collect() {
      countTransitions();
    },
  });
  function countTransitions(): void {
    for (const [agent, states] of newTransitions) {
      const before = counted.get(agent);
      counted.delete(agent);
      counted.set(agent, new Set([...(before ?? []), ...states.keys()]));
      for (const [state, count] of states) transitions.inc({ agent, state }, count);
    }
    newTransitions.clear();
    for (const [agent, states] of counted) {
      if (counted.size <= MOST_AGENTS) break;
      counted.delete(agent);
      for (const state of states) transitions.remove({ agent, state });
    }
  }
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
  const alertLabels = ["workspace", "capability", "signal"] as const;
  const crossed = new Gauge({
    name: "signalbox_alert",
    help: "1 when a signal is above the threshold of its rollout, by the last 5 minutes here; no capability is the whole workspace.",
    labelNames: alertLabels,
    registers,
  });
  const measured = new Gauge({
    name: "signalbox_alert_value",
    help: "The signal itself: a share from 0 to 1, or for p95_ms milliseconds.",
    labelNames: alertLabels,
    registers,
  });
  const checks = new Counter({
    name: "signalbox_health_checks_total",
    help: "Checks of agents by outcome.",
    labelNames: ["outcome"],
    registers,
  });
  for (const outcome of ["passed", "failed"]) checks.inc({ outcome }, 0);
  const perAgent = (name: string, help: string) => new Gauge({ name, help, labelNames: ["agent"], registers });
  const healthy = perAgent(
    "signalbox_agent_healthy",
    "1 when checks and heartbeats let an agent have tasks, else 0. As the next two, of at most 1000 agents that this process knows, those in trouble first.",
  );
  const open = perAgent("signalbox_circuit_open", "1 while the circuit of an agent is open or half-open, else 0.");
  const ejected = perAgent("signalbox_agent_ejected", "1 while an agent is passed over for a capability, else 0.");
  const outcomes = new Counter({
    name: "signalbox_reputation_outcomes_total",
    help: "Ends of tasks that this process took into the reputation of their agents: good, bad, or neutral, which says nothing of the agent; and what judges have reported (report).",
    labelNames: ["outcome"],
    registers,
  });
  for (const outcome of ["good", "bad", "neutral", "report"]) outcomes.inc({ outcome }, 0);
  const trust = perAgent(
    "signalbox_reputation_trust",
    "How far an agent is trusted as a whole, from 0 to 1. As the next one, of at most 1000 agents that this process knows, the least trusted first.",
  );
  const score = perAgent(
    "signalbox_reputation_score",
    "Share of its tasks that an agent ended well, older ones less, from 0 to 1.",
  );
  const budgetGauge = (name: string, help: string) =>
    new Gauge({ name, help, labelNames: ["workspace", "budget", "period", "unit", "share"], registers });
  const budgetLimit = budgetGauge(
    "signalbox_budget_limit",
    "What may be used in the present window of a budget, in the currency or tasks. As the next three, of the 200 windows of which the greatest shares are used, over all replicas.",
  );
  const budgetUsed = budgetGauge("signalbox_budget_used", "What is used of it by tasks that have ended.");
  const budgetReserved = budgetGauge("signalbox_budget_reserved", "What is held of it by tasks that have not ended.");
  const budgetRatio = budgetGauge(
    "signalbox_budget_used_ratio",
    "Used and reserved, as a share of the limit, from 0 to 1.",
  );
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
  const auditGauge = (name: string, help: string) => new Gauge({ name, help, registers });
  const auditPending = auditGauge("signalbox_audit_pending_entries", "Entries of the audit that are in no log yet.");
  const auditLag = auditGauge(
    "signalbox_audit_lag_seconds",
    "Age of the oldest entry of the audit that is in no log yet.",
  );
  const auditFaults = auditGauge("signalbox_audit_faults", "What is known here to be wrong with audit logs.");
  const auditVerified = new Counter({
    name: "signalbox_audit_verified_entries_total",
    help: "Entries of the audit logs that this process has read again and checked.",
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
      const [lags, alerts, budgets, [count], [audit]] = await Promise.all([
        within(DATABASE_TIMEOUT_MS, sources.outboxLag()),
        within(DATABASE_TIMEOUT_MS, sources.alerts()),
        within(DATABASE_TIMEOUT_MS, sources.budgets()),
        within(
          DATABASE_TIMEOUT_MS,
          sources.waitingTasks().then((tasks) => [tasks]),
        ),
        within(
          DATABASE_TIMEOUT_MS,
          sources.audit().then((audit) => [audit]),
        ),
      ]);
      for (const gauge of [auditPending, auditLag, auditFaults]) gauge.remove();
      if (audit) {
        auditPending.set(audit.lag.entries);
        auditLag.set(audit.lag.seconds);
        auditFaults.set(audit.faults);
        auditVerified.reset();
        auditVerified.inc(audit.verified);
      }
      // No number is not 0.
      if (count === undefined) waiting.remove();
      else waiting.set(count);
      for (const gauge of [healthy, open, ejected]) gauge.reset();
      for (const agent of sources.agents()) {
        healthy.set({ agent: agent.agentId }, Number(agent.healthy));
        open.set({ agent: agent.agentId }, Number(agent.circuitOpen));
        ejected.set({ agent: agent.agentId }, Number(agent.ejected));
      }
      for (const gauge of [trust, score]) gauge.reset();
      for (const agent of sources.leastTrusted(MOST_AGENTS)) {
        trust.set({ agent: agent.agentId }, agent.trust);
        score.set({ agent: agent.agentId }, agent.score);
      }
      lagRows.reset();
      lagSeconds.reset();
      for (const { duty, rows, seconds } of lags) {
        lagRows.set({ duty }, rows);
        lagSeconds.set({ duty }, seconds);
      }
      for (const gauge of [budgetLimit, budgetUsed, budgetReserved, budgetRatio]) gauge.reset();
      for (const { workspaceId: workspace, budgetId: budget, period, unit, share, limit, used, reserved } of budgets) {
        const labels = { workspace, budget, period, unit, share };
        budgetLimit.set(labels, limit);
        budgetUsed.set(labels, used);
        budgetReserved.set(labels, reserved);
        budgetRatio.set(labels, limit > 0 ? (used + reserved) / limit : 1);
      }
      crossed.reset();
      measured.reset();
      for (const { workspaceId: workspace, alert } of mostTelling(alerts)) {
        const labels = { workspace, capability: alert.capabilityId, signal: alert.signal };
        crossed.set(labels, alert.crossed ? 1 : 0);
        measured.set(labels, alert.value);
      }
      return registry.metrics();
    },
    call: ({ seconds, ...labels }) => calls.observe(labels, seconds),
    transition(agent, state) {
      let states = newTransitions.get(agent);
      if (!states) {
        // Perhaps nobody asks for pages.
        if (newTransitions.size >= MOST_AGENTS) countTransitions();
        states = new Map();
        newTransitions.set(agent, states);
      }
      states.set(state, (states.get(state) ?? 0) + 1);
    },
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
  };
}

const mostTelling = <T extends { alert: Alert }>(alerts: readonly T[]): T[] =>
  alerts
    .toSorted((a, b) => Number(b.alert.crossed) - Number(a.alert.crossed) || Number(b.alert.samples - a.alert.samples))
    .slice(0, MOST_ALERTS);

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
