/** How agents do, as their operators see it; heartbeats, and checks on call. */
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import {
  type AgentHealth,
  AgentHealthSchema,
  CircuitState,
  type HeartbeatRequest,
} from "../../gen/signalbox/v1/registry_pb.ts";
import { type FieldViolation, invalidArgument } from "../domain/errors.ts";
import { isDnsLabel } from "../domain/identifiers.ts";
import { holds } from "../domain/identity/principal.ts";
import { refuse } from "../domain/refusal.ts";
import { errorRateAt, latencyQuantileAt } from "../domain/routing/agent-signals.ts";
import { circuitState } from "../domain/routing/breaker.ts";
import type { AgentHealthRepository, HealthRecord } from "../store/agent-health-repository.ts";
import type { AgentRecord } from "../store/agent-repository.ts";
import type { AgentCheck } from "./agent-check.ts";
import type { AgentDirectory } from "./agent-directory.ts";
import { agentNotFound, notOwn } from "./registry-views.ts";
import type { RequestContext } from "./request-context.ts";
import type { AgentLoads } from "./routing/agent-load.ts";
import type { AgentAvailability } from "./routing/availability.ts";
import type { Runtime } from "./runtime.ts";

const MIN_TTL_MS = 1_000;
const LENT_REASON = "the workspace that lends it knows why";
const MAX_TTL_MS = 86_400_000;

export interface AgentHealthService {
  /** Undefined when there is no such agent. */
  of(workspaceId: string, agentId: string): Promise<AgentHealth | undefined>;
  /** Of several, by id; one that there is not is left out. */
  ofAll(workspaceId: string, agentIds: readonly string[]): Promise<ReadonlyMap<string, AgentHealth>>;
  /** An agent says that it lives; of another one only who may change agents says so. Throws AGENT_NOT_FOUND. */
  beat(context: RequestContext, request: HeartbeatRequest): Promise<AgentHealth>;
  /** Checks an agent now. */
  check(context: RequestContext, agentId: string): Promise<AgentHealth>;
  /** An agent has another address: its next check is due at once. */
  recheck(workspaceId: string, agentId: string): Promise<void>;
}

export interface AgentHealthDeps {
  repository: AgentHealthRepository;
  /** The agent as it is registered now in this workspace. */
  findAgent: (workspaceId: string, agentId: string) => Promise<AgentRecord | undefined>;
  directory: AgentDirectory;
  availability: Pick<AgentAvailability, "ejectedForMs">;
  loads: Pick<AgentLoads, "of" | "breaker">;
  check: AgentCheck;
  runtime: Runtime;
  /** Whether what checks say counts. */
  heedsChecks: boolean;
}

/** What is wrong with how long a heartbeat shall last. 0 is for one that is none. */
export function heartbeatViolations(ttlMs: number, field = "heartbeatTtlMs"): FieldViolation[] {
  if (ttlMs === 0 || (ttlMs >= MIN_TTL_MS && ttlMs <= MAX_TTL_MS)) return [];
  return [{ field, description: `must be from ${MIN_TTL_MS} to ${MAX_TTL_MS} milliseconds` }];
}

export function createAgentHealth(deps: AgentHealthDeps): AgentHealthService {
  const { repository, directory, availability, loads, runtime } = deps;

  /** Why a check failed may name the agent's address, which is no business of those that it is lent to. */
  function view(workspaceId: string, record: HealthRecord, isLent: boolean): AgentHealth {
    const { agentId } = record;
    const nowMs = runtime.elapsedMs();
    const inMs = (ms: number) => timestampFromDate(new Date(runtime.now().getTime() + ms));
    const load = loads.of(workspaceId, agentId);
    const breaker = loads.breaker(workspaceId, agentId);
    const state = breaker ? circuitState(breaker, nowMs) : "CLOSED";
    const ejectedForMs = availability.ejectedForMs(workspaceId, agentId);
    const { healthy, reason } = judged(record, deps.heedsChecks);
    return create(AgentHealthSchema, {
      healthy,
      reason: isLent && reason !== "" ? LENT_REASON : reason,
      failureCount: record.failures,
      ...(record.checkedAt && { lastCheckTime: timestampFromDate(record.checkedAt) }),
      ...(record.succeededAt && { lastSuccessTime: timestampFromDate(record.succeededAt) }),
      ...(record.heartbeatExpiresAt && { heartbeatExpireTime: timestampFromDate(record.heartbeatExpiresAt) }),
      heartbeatTtlMs: record.heartbeatTtlMs ?? 0,
      circuitState: CircuitState[state],
      ...(state === "OPEN" && { circuitOpenUntil: inMs(breaker!.openUntilMs! - nowMs) }),
      ...(ejectedForMs !== undefined && { ejectedUntil: inMs(ejectedForMs) }),
      inFlight: load?.inFlight ?? 0,
      latencyP50Ms: (load && latencyQuantileAt(load.signals, 0.5, nowMs)) ?? 0,
      latencyP95Ms: (load && latencyQuantileAt(load.signals, 0.95, nowMs)) ?? 0,
      errorRate: load ? errorRateAt(load.signals, nowMs) : 0,
    });
  }

  async function ofAll(workspaceId: string, agentIds: readonly string[]): Promise<Map<string, AgentHealth>> {
    const homes = agentIds.map((agentId) => ({
      agentId,
      home: directory.homeOf(workspaceId, agentId) ?? { workspaceId, agentId },
    }));
    const found = new Map<string, AgentHealth>();
    for (const [lenderId, agents] of Map.groupBy(homes, ({ home }) => home.workspaceId)) {
      const records = await repository.get(
        lenderId,
        agents.map(({ home }) => home.agentId),
      );
      const byId = new Map(records.map((record) => [record.agentId, record]));
      for (const { agentId, home } of agents) {
        const record = byId.get(home.agentId);
        if (!record) continue;
        const isLent = lenderId !== workspaceId;
        found.set(agentId, view(workspaceId, { ...record, agentId }, isLent));
      }
    }
    return found;
  }

  const of = async (workspaceId: string, agentId: string) => (await ofAll(workspaceId, [agentId])).get(agentId);

  /** What changed is seen by the next request here, and by other replicas within a second. */
  async function shown(workspaceId: string, agentId: string): Promise<AgentHealth> {
    directory.changed(workspaceId);
    const health = await of(workspaceId, agentId);
    if (!health) throw agentNotFound(agentId);
    return health;
  }

  return {
    of,
    ofAll,
    async beat({ workspaceId, principal }, { agentId, ttlMs }) {
      if (ttlMs !== undefined) refuse(heartbeatViolations(ttlMs, "ttlMs"));
      // Of others it learns nothing: they are not looked for.
      const mayBeat = principal.agentId === agentId || holds(principal, "agents.write");
      if (!mayBeat) throw agentNotFound(agentId);
      const outcome = isDnsLabel(agentId) ? await repository.beat(workspaceId, agentId, ttlMs) : "missing";
      if (outcome === "missing") throw await notOwn(directory, workspaceId, agentId);
      if (outcome === "no-ttl") {
        const description = "is required: the agent gives no heartbeats, so nothing says how long one lasts";
        throw invalidArgument([{ field: "ttlMs", description }]);
      }
      return shown(workspaceId, agentId);
    },
    async check({ workspaceId, signal }, agentId) {
      const agent = isDnsLabel(agentId) ? await deps.findAgent(workspaceId, agentId) : undefined;
      if (!agent) throw await notOwn(directory, workspaceId, agentId);
      await deps.check(agent, signal);
      return shown(workspaceId, agentId);
    },
    recheck: (workspaceId, agentId) => repository.due(workspaceId, agentId),
  };
}

/** Whether checks and heartbeats let an agent have new tasks, and what there is to say about it. */
function judged({ healthy, reason, heartbeatLeftMs }: HealthRecord, heedsChecks: boolean) {
  if (heedsChecks && !healthy) return { healthy: false, reason };
  if (heartbeatLeftMs !== undefined && heartbeatLeftMs <= 0)
    return { healthy: false, reason: "its heartbeat has expired" };
  return { healthy: true, reason };
}
