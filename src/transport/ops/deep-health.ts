/** `/health/deep`: how each part of this server is, for whoever has to find out which one is not well. */
import { connect } from "node:net";

/**
 * - `ok`: as it should be.
 * - `degraded`: it works, and somebody should look.
 * - `unhealthy`: this server should get no calls.
 */
export type HealthStatus = "ok" | "degraded" | "unhealthy";

/** How one part is. Beside its status, what is known of it. */
export type ComponentHealth = { status: HealthStatus; reason?: string } & Record<string, unknown>;

export interface DeepHealth {
  /** The worst of all parts. */
  status: HealthStatus;
  components: Record<string, ComponentHealth>;
}

export interface HealthSources {
  /** Whether this server takes calls: it has started, and does not stop. */
  serving: () => boolean;
  /** Resolves when the database answers. */
  database: () => Promise<void>;
  /** Where the gRPC listener can be reached from here. */
  grpc: () => { host: string; port: number };
  /** This replica's lease, as it knows it: its id, and how long the lease holds, in milliseconds. */
  lease: () => { replicaId: string; leftMs: number };
  /** What carries hints between replicas, and whether it does now. */
  bus: () => { kind: string; connected: boolean };
  /** How far the duties of the outbox are behind. Rejects when the database does not answer. */
  outboxLag: () => Promise<{ duty: string; rows: number; seconds: number }[]>;
  /** How many agents there are, and which of them are not well. */
  agents: () => Promise<AgentsHealth>;
  /** How far the audit logs are behind, and which are not intact. Rejects when the database does not answer. */
  audit: () => Promise<AuditHealth>;
}

/** How the audit logs are. */
export interface AuditHealth {
  /** Entries that are in no log yet, and the age of the oldest of them. */
  lag: { entries: number; seconds: number };
  /** What is known to be wrong, and of which workspaces. */
  faults: number;
  faultyWorkspaces: readonly string[];
}

/** Agents that are not well, by what is the matter with them; one agent may be in several of the lists. */
export interface AgentsHealth {
  registered: number;
  /** Those that fail their checks, or owe a heartbeat. */
  unhealthy: readonly string[];
  /** Those that could not be reached of late. */
  circuitOpen: readonly string[];
  /** Those that failed most of their tasks of late. */
  failing: readonly string[];
}

/** What a part may take to answer, in milliseconds. */
const TIMEOUT_MS = 2_000;
/** A duty that is so far behind should be looked at, in seconds. */
const LATE_S = 60;
/** Agents that are named at most of each kind of trouble. */
const NAMED_AGENTS = 16;

/** Workspaces that are named at most. */
const NAMED_WORKSPACES = 16;

const RANK: readonly HealthStatus[] = ["ok", "degraded", "unhealthy"];

/** Asks all parts at once. Never rejects, and takes little more than two seconds whatever is the matter. */
export async function deepHealth(sources: HealthSources): Promise<DeepHealth> {
  const checks: Record<string, () => Promise<ComponentHealth> | ComponentHealth> = {
    server: () => (sources.serving() ? OK : unhealthy("it is starting or stopping")),
    database: () => sources.database().then(() => OK),
    grpcListener: () => reaches(sources.grpc()).then(() => OK),
    lease: () => leaseHealth(sources.lease()),
    bus: () => busHealth(sources.bus()),
    outbox: async () => outboxHealth(await sources.outboxLag()),
    agents: async () => agentsHealth(await sources.agents()),
    audit: async () => auditHealth(await sources.audit()),
  };
  const entries = await Promise.all(
    Object.entries(checks).map(async ([name, check]) => [name, await inTime(check)] as const),
  );
  const worst = Math.max(...entries.map(([, { status }]) => RANK.indexOf(status)));
  return { status: RANK[worst]!, components: Object.fromEntries(entries) };
}

const OK: ComponentHealth = { status: "ok" };

const unhealthy = (reason: string): ComponentHealth => ({ status: "unhealthy", reason });

function leaseHealth({ replicaId, leftMs }: { replicaId: string; leftMs: number }): ComponentHealth {
  const facts = { replicaId, leftMs: Math.round(leftMs) };
  if (leftMs > 0) return { status: "ok", ...facts };
  return {
    status: "unhealthy",
    reason: "it has run out: the others may have taken this server's tasks over",
    ...facts,
  };
}

function busHealth(bus: { kind: string; connected: boolean }): ComponentHealth {
  if (bus.connected) return { status: "ok", ...bus };
  return {
    status: "degraded",
    reason: "no hints of other replicas come: their news is found by looking into the database",
    ...bus,
  };
}

function outboxHealth(duties: readonly { duty: string; rows: number; seconds: number }[]): ComponentHealth {
  const late = duties.filter(({ seconds }) => seconds > LATE_S).map(({ duty }) => duty);
  if (late.length === 0) return { status: "ok", duties };
  return { status: "degraded", reason: `behind by more than ${LATE_S} s: ${late.join(", ")}`, duties };
}

function auditHealth({ lag, faults, faultyWorkspaces }: AuditHealth): ComponentHealth {
  const facts = { lag, faults };
  if (faults > 0) {
    const reason = "a log is not intact: the server's log says where";
    return { status: "degraded", reason, ...facts, workspaces: faultyWorkspaces.slice(0, NAMED_WORKSPACES) };
  }
  if (lag.seconds <= LATE_S) return { status: "ok", ...facts };
  return { status: "degraded", reason: `behind by more than ${LATE_S} s: has a server the key?`, ...facts };
}

const AGENT_TROUBLES = [
  ["unhealthy", "some fail their checks or owe a heartbeat"],
  ["circuitOpen", "some could not be reached of late"],
  ["failing", "some fail most of their tasks"],
] as const;

function agentsHealth(agents: AgentsHealth): ComponentHealth {
  const { registered } = agents;
  const found = AGENT_TROUBLES.filter(([kind]) => agents[kind].length > 0);
  if (found.length === 0) return { status: "ok", registered };
  return {
    status: "degraded",
    reason: found.map(([, reason]) => reason).join("; "),
    registered,
    ...Object.fromEntries(found.map(([kind]) => [kind, agents[kind].slice(0, NAMED_AGENTS)])),
  };
}

async function inTime(check: () => Promise<ComponentHealth> | ComponentHealth): Promise<ComponentHealth> {
  const late = Promise.withResolvers<ComponentHealth>();
  const timer = setTimeout(() => late.resolve(unhealthy(`no answer within ${TIMEOUT_MS} ms`)), TIMEOUT_MS);
  try {
    return await Promise.race([check(), late.promise]);
  } catch (error) {
    return unhealthy((error as Error).message);
  } finally {
    clearTimeout(timer);
  }
}

/** Resolves when somebody listens there. */
function reaches({ host, port }: { host: string; port: number }): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port, timeout: TIMEOUT_MS });
    socket.once("connect", () => {
      socket.destroy();
      resolve();
    });
    socket.once("timeout", () => socket.destroy(new Error("the connection was not taken")));
    socket.once("error", reject);
  });
}
