/**
 * Which agents take no new tasks at the moment: those that fail their checks or owe a heartbeat, those whose circuits are
 * open, those that fail far more tasks than their peers. Where no agent of a workspace is in such trouble, which is nearly
 * always, routing asks nothing here.
 */

import { errorRateAt, seenAt } from "../../domain/routing/agent-signals.ts";
import { admits, admitsAtMs, type Breaker, takeProbe } from "../../domain/routing/breaker.ts";
import { type Ejection, type EjectionRules, ejected, isPast, outliers } from "../../domain/routing/outliers.ts";
import type { AgentHealthRepository, AgentKey, HealthRecord } from "../../store/agent-health-repository.ts";
import type { Offer, WorkspaceAgents } from "../agent-directory.ts";
import type { Runtime } from "../runtime.ts";
import type { AgentLoad, AgentLoads } from "./agent-load.ts";

/** Why an agent takes no new task. */
export type Trouble = "UNHEALTHY" | "CIRCUIT_OPEN" | "EJECTED";

export interface Unavailable {
  readonly reason: Trouble;
  /** When it may be another way, in milliseconds from now. */
  readonly retryInMs: number;
}

/** The agents of one workspace that are in trouble. */
export interface Troubles {
  /** What keeps an agent from a new task of a capability, or of none in particular. */
  of(agentId: string, capabilityId: string | undefined): Unavailable | undefined;
}

export interface AgentAvailability {
  /** Undefined when no agent of the workspace is in trouble. */
  troubles(workspaceId: string): Troubles | undefined;
  /** An agent was chosen for a task. If its circuit is half-open, that is a probe. */
  chosen(workspaceId: string, agentId: string): void;
  /** The circuit of an agent has opened; undefined when it has closed. */
  circuitMoved(agent: AgentKey, breaker: Breaker | undefined): void;
  /** Forgets the circuit and the ejections of an agent that has gone, or was registered anew. */
  forget(agent: AgentKey): void;
  /** Reads what checks and heartbeats say. */
  refresh(workspaceId: string): Promise<void>;
  /** Ejects from the capabilities of these agents who fails far more than the others there. Returns who was ejected. */
  judge(workspaceId: string, agents: WorkspaceAgents, agentIds: readonly string[], loads: AgentLoads): string[];
  /** Whether checks and heartbeats let an agent have tasks, as they were read last. */
  isHealthy(workspaceId: string, agentId: string): boolean;
  /** Until when an agent is ejected from some capability, in milliseconds from now; undefined when it is from none. */
  ejectedForMs(workspaceId: string, agentId: string): number | undefined;
  /** The agents that are in trouble, or were lately. */
  known(): AgentKey[];
}

export interface AvailabilityDeps {
  runtime: Runtime;
  /**
   * Where the agents are registered that other workspaces lend a workspace, by their ids there; left out, none are lent. What checks
   * and circuits say of them is said there, once for all; who is ejected is so among the peers that it has in each workspace.
   */
  lentTo?: (workspaceId: string) => ReadonlyMap<string, AgentKey> | undefined;
  health: Pick<AgentHealthRepository, "troubled">;
  /** Whether what checks say counts. */
  heedsChecks: boolean;
  rules: EjectionRules;
}

/** When to try again where nothing says it, in milliseconds, and the shortest such time. */
const RETRY_MS = 5_000;
const LEAST_RETRY_MS = 100;

export function createAvailability(deps: AvailabilityDeps): AgentAvailability {
  const { runtime, health, heedsChecks, rules, lentTo = () => undefined } = deps;
  const workspaces = new Map<string, WorkspaceTroubles>();

  function of(workspaceId: string): WorkspaceTroubles {
    const known = workspaces.get(workspaceId);
    if (known) return known;
    const troubles = new WorkspaceTroubles(runtime, rules);
    workspaces.set(workspaceId, troubles);
    return troubles;
  }

  const homeOf = (workspaceId: string, agentId: string): AgentKey =>
    lentTo(workspaceId)?.get(agentId) ?? { workspaceId, agentId };

  /** Of a workspace that borrows agents. */
  function withLent(workspaceId: string, lent: ReadonlyMap<string, AgentKey>): Troubles | undefined {
    const own = workspaces.get(workspaceId);
    const isAny = own?.isAny || [...lent.values()].some((home) => workspaces.get(home.workspaceId)?.isAny);
    if (!isAny) return undefined;
    return {
      of(agentId, capabilityId) {
        const home = lent.get(agentId);
        if (!home) return own?.of(agentId, capabilityId);
        return workspaces.get(home.workspaceId)?.of(home.agentId, undefined) ?? own?.ejection(agentId, capabilityId);
      },
    };
  }

  return {
    troubles(workspaceId) {
      const lent = lentTo(workspaceId);
      if (lent && lent.size > 0) return withLent(workspaceId, lent);
      const troubles = workspaces.get(workspaceId);
      return troubles?.isAny ? troubles : undefined;
    },
    chosen(workspaceId, agentId) {
      const home = homeOf(workspaceId, agentId);
      const breaker = workspaces.get(home.workspaceId)?.circuits.get(home.agentId);
      if (breaker) takeProbe(breaker, runtime.elapsedMs());
    },
    circuitMoved({ workspaceId, agentId }, breaker) {
      if (breaker) of(workspaceId).circuits.set(agentId, breaker);
      else of(workspaceId).circuits.delete(agentId);
    },
    forget: ({ workspaceId, agentId }) => workspaces.get(workspaceId)?.forget(agentId),
    async refresh(workspaceId) {
      const records = await health.troubled(workspaceId);
      if (records.length > 0 || workspaces.has(workspaceId)) of(workspaceId).setHealth(records, heedsChecks);
    },
    judge: (workspaceId, agents, agentIds, loads) => {
      const capabilityIds = new Set(
        agentIds.flatMap((agentId) => (agents.capabilities.get(agentId) ?? []).map((each) => each.capabilityId)),
      );
      return [...capabilityIds].flatMap((capabilityId) =>
        of(workspaceId).judge(capabilityId, agents.byCapability.get(capabilityId) ?? [], (agentId) =>
          loads.of(workspaceId, agentId),
        ),
      );
    },
    isHealthy(workspaceId, agentId) {
      const home = homeOf(workspaceId, agentId);
      return !workspaces.get(home.workspaceId)?.isUnhealthy(home.agentId);
    },
    ejectedForMs: (workspaceId, agentId) => workspaces.get(workspaceId)?.ejectedForMs(agentId),
    known: () =>
      [...workspaces].flatMap(([workspaceId, troubles]) =>
        [...troubles.agentIds()].map((agentId) => ({ workspaceId, agentId })),
      ),
  };
}

/** What checks and heartbeats say against an agent, by this process's clock. */
interface HealthTrouble {
  /** When the next check is due of one that fails them; undefined for one that does not. */
  readonly checkAtMs: number | undefined;
  /** When its heartbeat has expired; undefined for one that gives none. */
  readonly beatsUntilMs: number | undefined;
}

/** An ejection, and what was known of the agent when it began: what came before it is not held against the agent again. */
interface Ejected {
  readonly ejection: Ejection;
  readonly succeeded: number;
  readonly failed: number;
}

class WorkspaceTroubles implements Troubles {
  readonly circuits = new Map<string, Breaker>();
  readonly #runtime: Runtime;
  readonly #rules: EjectionRules;
  #health: ReadonlyMap<string, HealthTrouble> = new Map();
  /** By capability and agent. */
  readonly #ejections = new Map<string, Map<string, Ejected>>();

  constructor(runtime: Runtime, rules: EjectionRules) {
    this.#runtime = runtime;
    this.#rules = rules;
  }

  get isAny(): boolean {
    return this.circuits.size > 0 || this.#health.size > 0 || this.#ejections.size > 0;
  }

  of(agentId: string, capabilityId: string | undefined): Unavailable | undefined {
    const health = this.#health.get(agentId);
    if (health && isDown(health, this.#runtime.elapsedMs())) {
      return this.#because("UNHEALTHY", health.checkAtMs ?? this.#runtime.elapsedMs() + RETRY_MS);
    }
    const circuit = this.circuits.get(agentId);
    if (circuit && !admits(circuit, this.#runtime.elapsedMs())) {
      return this.#because("CIRCUIT_OPEN", admitsAtMs(circuit, this.#runtime.elapsedMs()));
    }
    return this.ejection(agentId, capabilityId);
  }

  ejection(agentId: string, capabilityId: string | undefined): Unavailable | undefined {
    if (capabilityId === undefined) return undefined;
    const ejection = this.#ejections.get(capabilityId)?.get(agentId)?.ejection;
    if (!ejection || ejection.untilMs <= this.#runtime.elapsedMs()) return undefined;
    return this.#because("EJECTED", ejection.untilMs);
  }

  setHealth(records: readonly HealthRecord[], heedsChecks: boolean): void {
    const nowMs = this.#runtime.elapsedMs();
    this.#health = new Map(
      records
        .filter(({ healthy, heartbeatLeftMs }) => (heedsChecks && !healthy) || heartbeatLeftMs !== undefined)
        .map(({ agentId, healthy, nextCheckInMs, heartbeatLeftMs }) => [
          agentId,
          {
            checkAtMs: heedsChecks && !healthy ? nowMs + nextCheckInMs : undefined,
            beatsUntilMs: heartbeatLeftMs === undefined ? undefined : nowMs + heartbeatLeftMs,
          },
        ]),
    );
  }

  isUnhealthy(agentId: string): boolean {
    const health = this.#health.get(agentId);
    return health !== undefined && isDown(health, this.#runtime.elapsedMs());
  }

  ejectedForMs(agentId: string): number | undefined {
    const nowMs = this.#runtime.elapsedMs();
    let longest = 0;
    for (const ejections of this.#ejections.values())
      longest = Math.max(longest, (ejections.get(agentId)?.ejection.untilMs ?? 0) - nowMs);
    return longest > 0 ? longest : undefined;
  }

  judge(capabilityId: string, offers: readonly Offer[], loadOf: (agentId: string) => AgentLoad | undefined): string[] {
    const nowMs = this.#runtime.elapsedMs();
    const past = this.#ejections.get(capabilityId) ?? new Map<string, Ejected>();
    for (const [agentId, { ejection }] of past) if (isPast(ejection, this.#rules, nowMs)) past.delete(agentId);
    const records = offers.map(({ agent: { agentId } }) => {
      const load = loadOf(agentId);
      const before = past.get(agentId);
      if (!load) return { agentId, tasks: 0, failed: 0 };
      const { signals } = load;
      if (before) {
        const failed = Math.max(0, signals.failed - before.failed);
        return { agentId, tasks: failed + Math.max(0, signals.succeeded - before.succeeded), failed };
      }
      const tasks = seenAt(signals, nowMs);
      // Of the error rate, the task that it assumes is taken out again.
      return { agentId, tasks, failed: errorRateAt(signals, nowMs) * (tasks + 1) };
    });
    const isEjected = (agentId: string) => (past.get(agentId)?.ejection.untilMs ?? 0) > nowMs;
    const found = outliers(records, isEjected, this.#rules);
    for (const agentId of found) {
      const { succeeded = 0, failed = 0 } = loadOf(agentId)?.signals ?? {};
      past.set(agentId, { ejection: ejected(past.get(agentId)?.ejection, this.#rules, nowMs), succeeded, failed });
    }
    if (past.size > 0) this.#ejections.set(capabilityId, past);
    else this.#ejections.delete(capabilityId);
    return found;
  }

  forget(agentId: string): void {
    this.circuits.delete(agentId);
    for (const [capabilityId, ejections] of this.#ejections) {
      ejections.delete(agentId);
      if (ejections.size === 0) this.#ejections.delete(capabilityId);
    }
  }

  agentIds(): Set<string> {
    const ejected = [...this.#ejections.values()].flatMap((agents) => [...agents.keys()]);
    return new Set([...this.#health.keys(), ...this.circuits.keys(), ...ejected]);
  }

  #because(reason: Trouble, atMs: number): Unavailable {
    return { reason, retryInMs: Math.max(LEAST_RETRY_MS, Math.ceil(atMs - this.#runtime.elapsedMs())) };
  }
}

const isDown = ({ checkAtMs, beatsUntilMs }: HealthTrouble, nowMs: number): boolean =>
  checkAtMs !== undefined || (beatsUntilMs !== undefined && beatsUntilMs <= nowMs);
