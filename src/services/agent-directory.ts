/**
 * The agents of each workspace and what they offer, held for a moment: every message asks for them, and they seldom change.
 * What has not changed when they are loaded again is the same object as before, with all that was made of it.
 */
import { type Capability, capabilitiesOf } from "../domain/capability.ts";
import type { AgentRecord, AgentRepository } from "../store/agent-repository.ts";
import type { CapabilityKey, CapabilityRecord, CapabilityRepository } from "../store/capability-repository.ts";
import { type CapabilitySearch, createSearchIndexes, type SearchIndexes } from "./capability-search.ts";
import { holdBriefly } from "./held-briefly.ts";
import type { Runtime } from "./runtime.ts";

const PAGE = 500;

/** An agent that offers a capability. */
export interface Offer {
  readonly agent: AgentRecord;
  readonly capability: Capability;
  /** Of what was said of the capability beside the agent's card; 0 when nothing was. Never used twice. */
  readonly version: number;
}

/** How many tasks an agent works on at once. */
export interface ConcurrencyLimits {
  /** Undefined when there is no limit. */
  readonly agent: number | undefined;
  /** Of each of its capabilities that has a limit. */
  readonly capabilities: ReadonlyMap<string, number>;
}

export interface WorkspaceAgents {
  /** In the order of their ids. */
  readonly byId: ReadonlyMap<string, AgentRecord>;
  /** The default that was set, or the only agent there is. */
  readonly defaultAgent: AgentRecord | undefined;
  /** What each agent offers, by the agent's id. */
  readonly capabilities: ReadonlyMap<string, readonly Capability[]>;
  /** Who offers each capability, in the order of the agents' ids; capabilities in the order of theirs. */
  readonly byCapability: ReadonlyMap<string, readonly Offer[]>;
  readonly search: CapabilitySearch;
  /** Of the agents that have any, by the agent's id. */
  readonly limits: ReadonlyMap<string, ConcurrencyLimits>;
}

export interface AgentDirectory {
  agents(workspaceId: string): Promise<WorkspaceAgents>;
  /** One agent. Undefined only if there is none now: one that is not held may have come by another replica. */
  agent(workspaceId: string, agentId: string): Promise<AgentRecord | undefined>;
  /** What `agents` resolved to last; undefined before the first time. */
  last(workspaceId: string): WorkspaceAgents | undefined;
  /** Calls the listener when limits, or what else is known of the agents of a workspace with limits, were loaded anew. */
  onLimits(listener: (workspaceId: string) => void): void;
  /** Calls the listener with each agent that has gone, or has been registered anew, since the load before. */
  onGone(listener: (workspaceId: string, agentId: string) => void): void;
  /** Forgets what is held, after a change. */
  changed(workspaceId: string): void;
}

/** What was loaded last, from which the next load takes what is still true. */
interface Loaded {
  readonly agents: WorkspaceAgents;
  readonly given: ReadonlyMap<string, readonly CapabilityRecord[]>;
  readonly indexes: SearchIndexes;
}

export interface DirectoryEvents {
  /** Called with each load: what is read of agents as often as they are, without changing them. */
  onLoad?: (workspaceId: string) => Promise<void>;
  /** Told of each agent that is another than when it was loaded last. */
  onChange?: (before: AgentRecord, now: AgentRecord) => void;
}

export function createAgentDirectory(
  agents: AgentRepository,
  capabilities: CapabilityRepository,
  runtime: Runtime,
  { onLoad = async () => {}, onChange = () => {} }: DirectoryEvents = {},
): AgentDirectory {
  const held = holdBriefly(runtime, load);
  const last = new Map<string, Loaded>();
  const onLimits = new Set<(workspaceId: string) => void>();
  const onGone = new Set<(workspaceId: string, agentId: string) => void>();

  async function load(workspaceId: string): Promise<WorkspaceAgents> {
    const records = await allAgents(workspaceId);
    const given = await allGiven(workspaceId);
    const defaultId = await agents.defaultAgentId(workspaceId);
    await onLoad(workspaceId);
    const before = last.get(workspaceId);
    const loaded = assemble(records, given, defaultId, before);
    last.set(workspaceId, loaded);
    if (before && loaded.agents.byId !== before.agents.byId) {
      tellChanges(workspaceId, before.agents.byId, loaded.agents.byId);
    }
    const { limits } = loaded.agents;
    if (limits.size > 0 && limits !== before?.agents.limits) for (const listener of onLimits) listener(workspaceId);
    return loaded.agents;
  }

  function tellChanges(workspaceId: string, before: WorkspaceAgents["byId"], now: WorkspaceAgents["byId"]): void {
    for (const [agentId, old] of before) {
      const agent = now.get(agentId);
      if (agent === old) continue;
      if (agent?.createdAt.getTime() === old.createdAt.getTime()) onChange(old, agent);
      else for (const listener of onGone) listener(workspaceId, agentId);
    }
  }

  async function allAgents(workspaceId: string): Promise<AgentRecord[]> {
    const all: AgentRecord[] = [];
    for (let afterId: string | undefined; ; ) {
      const page = await agents.list(workspaceId, { limit: PAGE, ...(afterId !== undefined && { afterId }) });
      all.push(...page);
      if (page.length < PAGE) return all;
      afterId = page.at(-1)!.agentId;
    }
  }

  async function allGiven(workspaceId: string): Promise<CapabilityRecord[]> {
    const all: CapabilityRecord[] = [];
    for (let after: CapabilityKey | undefined; ; ) {
      const page = await capabilities.list(workspaceId, { limit: PAGE, ...(after && { after }) });
      all.push(...page);
      if (page.length < PAGE) return all;
      const { agentId, given } = page.at(-1)!;
      after = { agentId, capabilityId: given.capabilityId };
    }
  }

  return {
    agents: held.get,
    agent: async (workspaceId, agentId) =>
      (await held.get(workspaceId)).byId.get(agentId) ?? (await agents.get(workspaceId, agentId)),
    last: (workspaceId) => last.get(workspaceId)?.agents,
    onLimits: (listener) => void onLimits.add(listener),
    onGone: (listener) => void onGone.add(listener),
    changed: held.forget,
  };
}

function assemble(
  records: readonly AgentRecord[],
  givenNow: readonly CapabilityRecord[],
  defaultId: string | undefined,
  last: Loaded | undefined,
): Loaded {
  const byId = new Map(records.map((agent) => [agent.agentId, kept(agent, last?.agents.byId.get(agent.agentId))]));
  const given = groupGiven(givenNow, last?.given);
  let isNew = !last || byId.size !== last.agents.byId.size;
  const capabilities = new Map<string, readonly Capability[]>();
  for (const [agentId, agent] of byId) {
    const said = given.get(agentId);
    const isKept = agent === last?.agents.byId.get(agentId) && said === last.given.get(agentId);
    const offered = isKept ? last.agents.capabilities.get(agentId)! : offeredBy(agent, said ?? []);
    if (!isKept) isNew = true;
    capabilities.set(agentId, offered);
  }
  const lone = byId.size === 1 ? [...byId.values()][0] : undefined;
  const defaultAgent = (defaultId === undefined ? undefined : byId.get(defaultId)) ?? lone;
  const indexes = last?.indexes ?? createSearchIndexes();
  if (last && !isNew) {
    const agents = defaultAgent === last.agents.defaultAgent ? last.agents : { ...last.agents, defaultAgent };
    return { agents, given, indexes };
  }
  const search = indexes.over({ byId, capabilities });
  const byCapability = offersOf(byId, capabilities, given);
  const limits = limitsOf(byId, capabilities);
  return { agents: { byId, defaultAgent, capabilities, byCapability, search, limits }, given, indexes };
}

function limitsOf(
  byId: ReadonlyMap<string, AgentRecord>,
  capabilities: ReadonlyMap<string, readonly Capability[]>,
): Map<string, ConcurrencyLimits> {
  const limits = new Map<string, ConcurrencyLimits>();
  for (const [agentId, { maxConcurrency: agent }] of byId) {
    const ofCapabilities = new Map<string, number>();
    for (const { capabilityId, maxConcurrency } of capabilities.get(agentId)!)
      if (maxConcurrency !== undefined) ofCapabilities.set(capabilityId, maxConcurrency);
    if (agent !== undefined || ofCapabilities.size > 0) limits.set(agentId, { agent, capabilities: ofCapabilities });
  }
  return limits;
}

const offeredBy = ({ agentId, card }: AgentRecord, said: readonly CapabilityRecord[]): Capability[] =>
  capabilitiesOf(
    agentId,
    card,
    said.map(({ given }) => given),
  );

/** The agent as it was loaded before, if it has not changed. */
function kept(agent: AgentRecord, before: AgentRecord | undefined): AgentRecord {
  const isSame =
    before !== undefined &&
    before.revision === agent.revision &&
    before.createdAt.getTime() === agent.createdAt.getTime() &&
    before.updatedAt.getTime() === agent.updatedAt.getTime() &&
    before.cardFetchedAt.getTime() === agent.cardFetchedAt.getTime();
  return isSame ? before : agent;
}

/** What was given, by agent: the list, or at least its records, as they were loaded before where they have not changed. */
function groupGiven(
  records: readonly CapabilityRecord[],
  before: Loaded["given"] = new Map(),
): Map<string, readonly CapabilityRecord[]> {
  const grouped = Map.groupBy(records, ({ agentId }) => agentId);
  return new Map(
    [...grouped].map(([agentId, now]) => {
      const old = before.get(agentId) ?? [];
      if (old.length === now.length && now.every(({ version }, i) => version === old[i]!.version))
        return [agentId, old];
      const byVersion = new Map(old.map((record) => [record.version, record]));
      return [agentId, now.map((record) => byVersion.get(record.version) ?? record)];
    }),
  );
}

function offersOf(
  byId: ReadonlyMap<string, AgentRecord>,
  capabilities: ReadonlyMap<string, readonly Capability[]>,
  given: ReadonlyMap<string, readonly CapabilityRecord[]>,
): Map<string, readonly Offer[]> {
  const offers = new Map<string, Offer[]>();
  for (const [agentId, agent] of byId) {
    const versions = new Map(given.get(agentId)?.map(({ given: said, version }) => [said.capabilityId, version]));
    for (const capability of capabilities.get(agentId)!) {
      const offer = { agent, capability, version: versions.get(capability.capabilityId) ?? 0 };
      const others = offers.get(capability.capabilityId);
      if (others) others.push(offer);
      else offers.set(capability.capabilityId, [offer]);
    }
  }
  return new Map([...offers].sort(([a], [b]) => (a < b ? -1 : 1)));
}
