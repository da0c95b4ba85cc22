/** All that watches over agents, put together: what is known of them, who of them gets no new tasks, and what finds that out. */
import type { Logger } from "pino";
import type { BreakerRules } from "../domain/routing/breaker.ts";
import type { EjectionRules } from "../domain/routing/outliers.ts";
import type { AgentHealthRepository } from "../store/agent-health-repository.ts";
import type { AgentRepository } from "../store/agent-repository.ts";
import type { CapabilityRepository } from "../store/capability-repository.ts";
import type { LendingReads } from "../store/lending-reads.ts";
import type { SignalRepository } from "../store/signal-repository.ts";
import { createAgentCheck } from "./agent-check.ts";
import { type AgentDirectory, createAgentDirectory, type DirectoryEvents } from "./agent-directory.ts";
import { type AgentHealthService, createAgentHealth } from "./agent-health.ts";
import type { AgentConnector, AgentProber, CardFetcher } from "./agent-port.ts";
import type { Audit } from "./audit.ts";
import { type AgentChecks, startAgentChecks } from "./background/agent-checks.ts";
import { createSignalExchange, type SignalExchange } from "./background/signal-exchange.ts";
import { type CardRefresh, createCardRefresh, isMoved } from "./card-refresh.ts";
import type { CardVerifier } from "./card-verifier.ts";
import { type AgentGauge, agentGauges } from "./routing/agent-gauges.ts";
import { type AgentLoads, createAgentLoads } from "./routing/agent-load.ts";
import { type AgentAvailability, createAvailability } from "./routing/availability.ts";
import type { Runtime } from "./runtime.ts";

export interface AgentWatchDeps {
  agents: AgentRepository;
  capabilities: CapabilityRepository;
  /** What workspaces lend each other; left out, nothing. */
  lendings?: LendingReads;
  health: AgentHealthRepository;
  signals: SignalRepository;
  connector: AgentConnector & AgentProber;
  cards: CardFetcher;
  verifier: CardVerifier;
  audit: Audit;
  runtime: Runtime;
  log: Logger;
  replicaId: () => string;
  /** 0 failures: no circuit ever opens. */
  circuit: BreakerRules;
  outlier: EjectionRules;
  /** Interval 0: nobody is checked, and what checks have said before does not count. */
  checks: { intervalMs: number; timeoutMs: number };
  /** Told of each check of an agent. */
  onCheck: (outcome: "passed" | "failed") => void;
}

export interface AgentWatch {
  readonly directory: AgentDirectory;
  readonly loads: AgentLoads;
  readonly availability: AgentAvailability;
  readonly cardRefresh: CardRefresh;
  readonly health: AgentHealthService;
  readonly exchange: SignalExchange;
  /** How the agents do that are known here, those in trouble first; as many as a page of metrics can hold. */
  gauges(): AgentGauge[];
  /** Begins what happens without being asked. */
  start(): void;
  stop(): Promise<void>;
}

export function createAgentWatch(deps: AgentWatchDeps): AgentWatch {
  const { agents, runtime, log, connector, checks, circuit } = deps;
  const heedsChecks = checks.intervalMs > 0;
  const availability = createAvailability({
    runtime,
    health: deps.health,
    heedsChecks,
    rules: deps.outlier,
    lentTo: (workspaceId) => directory.last(workspaceId)?.lent,
  });
  const loads = createAgentLoads(runtime, {
    rules: circuit.failures > 0 ? circuit : undefined,
    onCircuit: availability.circuitMoved,
    homeOf: (workspaceId, agentId) => directory.homeOf(workspaceId, agentId),
  });
  const events: DirectoryEvents = {
    onLoad: availability.refresh,
    onChange: (before, now) => {
      if (isMoved(connector, before.card, now.card)) loads.moved(now);
    },
  };
  const directory: AgentDirectory = createAgentDirectory(agents, deps.capabilities, runtime, events, deps.lendings);
  directory.onGone((workspaceId, agentId) => {
    loads.forget({ workspaceId, agentId });
    availability.forget({ workspaceId, agentId });
  });
  const cardRefresh = createCardRefresh({
    repository: agents,
    health: deps.health,
    directory,
    connector,
    cards: deps.cards,
    verifier: deps.verifier,
    audit: deps.audit,
    runtime,
  });
  const check = createAgentCheck({
    repository: deps.health,
    cardRefresh,
    connector,
    log,
    timeoutMs: checks.timeoutMs,
    onCheck: deps.onCheck,
    onNews: availability.refresh,
  });
  const health = createAgentHealth({
    repository: deps.health,
    findAgent: agents.get,
    directory,
    availability,
    loads,
    check,
    runtime,
    heedsChecks,
  });
  const exchange = createSignalExchange({ ...deps, loads, availability, directory });
  let checking: AgentChecks | undefined;

  return {
    directory,
    loads,
    availability,
    cardRefresh,
    health,
    exchange,
    gauges: () => agentGauges({ availability, loads, runtime }),
    start() {
      exchange.start();
      const { intervalMs } = checks;
      if (heedsChecks) checking = startAgentChecks({ repository: deps.health, check, runtime, log, intervalMs });
    },
    async stop() {
      await exchange.stop();
      await checking?.stop();
      await deps.health.close();
    },
  };
}
