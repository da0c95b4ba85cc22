/**
 * The agents of each workspace and what they offer, held for a moment: every message asks for them, and they seldom change.
 * What has not changed when they are loaded again is the same object as before, with all that was made of it.
 */
import { type Capability, capabilitiesOf } from "../domain/capability.ts";
import { getOrMake } from "../domain/get-or-make.ts";
import { type AgentHome, type AgentRecord, type AgentRepository, homeOf } from "../store/agent-repository.ts";
import type { CapabilityKey, CapabilityRecord, CapabilityRepository } from "../store/capability-repository.ts";
import type { Lending, LendingReads } from "../store/lending-reads.ts";
import { type CapabilitySearch, createSearchIndexes, type SearchIndexes } from "./capability-search.ts";
import { holdBriefly, latestStays } from "./held-briefly.ts";
import { createLentAgents, type HomeAgents, type LentAgent } from "./lent-agents.ts";
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
  /** The agent, where it is registered: its limits hold over all workspaces that use it. */
  readonly home: AgentHome;
  /** Undefined when there is no limit. */
  readonly agent: number | undefined;
  /** Of each of its capabilities that has a limit. */
  readonly capabilities: ReadonlyMap<string, number>;
}

export interface WorkspaceAgents {
  /** Its own and those that other workspaces lend it, in the order of their ids. */
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
  /** Where those are registered that other workspaces lend, by their ids here. */
  readonly lent: ReadonlyMap<string, AgentHome>;
}

export interface AgentDirectory {
  agents(workspaceId: string): Promise<WorkspaceAgents>;
  /** One agent. Undefined only if there is none now: one that is not held may have come by another replica. */
  agent(workspaceId: string, agentId: string): Promise<AgentRecord | undefined>;
  /**
   * The agent that a task of that moment was given to: one that a grant lent then, though it has ended since. Undefined where it
   * was none, or has left.
   */
  agentAt(workspaceId: string, agentId: string, moment: Date): Promise<AgentRecord | undefined>;
  /** Where an agent is registered, as was last heard of its workspace; undefined for a workspace's own. */
  homeOf(workspaceId: string, agentId: string): AgentHome | undefined;
  /** Who borrows an agent, as far as this replica has heard: their workspaces, and its ids there. */
  borrowersOf(home: AgentHome): AgentHome[];
  /** What `agents` resolved to last; undefined before the first time. */
  last(workspaceId: string): WorkspaceAgents | undefined;
  /** Calls the listener when limits, or what else is known of the agents of a workspace with limits, were loaded anew. */
  onLimits(listener: (workspaceId: string) => void): void;
  /** Calls the listener with each agent that has gone, is lent no longer, or has come anew, since the load before. */
  onGone(listener: (workspaceId: string, agentId: string) => void): void;
  /** Forgets what is held, after a change. */
  changed(workspaceId: string): void;
}

/** What a workspace has of its own. */
interface Own extends HomeAgents {
  readonly defaultId: string | undefined;
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

/** Where nobody lends anything. */
const NO_LENDINGS: LendingReads = {
  of: async () => [],
  find: async () => undefined,
  at: async () => undefined,
};

export function createAgentDirectory(
  agents: AgentRepository,
  capabilities: CapabilityRepository,
  runtime: Runtime,
  { onLoad = async () => {}, onChange = () => {} }: DirectoryEvents = {},
  lendings: LendingReads = NO_LENDINGS,
): AgentDirectory {
  const held = holdBriefly(runtime, load);
  // Beside the whole: two workspaces may lend each other something, and must not wait for each other.
  const heldOwn = holdBriefly(runtime, loadOwn);
  const lastOwn = new Map<string, Own>();
  const lentAgents = createLentAgents();
  /** By workspace, those that it has ever lent something to, as far as was heard. */
  const borrowers = new Map<string, Set<string>>();
  const last = new Map<string, Loaded>();
  const onLimits = new Set<(workspaceId: string) => void>();
  const onGone = new Set<(workspaceId: string, agentId: string) => void>();
  const [begin, beginOwn] = [latestStays(), latestStays()];

  async function load(workspaceId: string): Promise<WorkspaceAgents> {
    const stays = begin(workspaceId);
    // What it has itself is as new as the whole; what others have may be a moment older.
    heldOwn.forget(workspaceId);
    const own = await heldOwn.get(workspaceId);
    const lent = await allLent(workspaceId);
    const before = last.get(workspaceId);
    if (!stays()) return before!.agents;
    const loaded = assemble(own, lent, before);
    last.set(workspaceId, loaded);
    if (before && loaded.agents.byId !== before.agents.byId) {
      for (const agentId of before.agents.lent.keys()) {
        const old = before.agents.byId.get(agentId)!;
        if (!isSameAgent(old, loaded.agents.byId.get(agentId))) tellGone(workspaceId, agentId);
      }
    }
    const { limits } = loaded.agents;
    if (limits.size > 0 && limits !== before?.agents.limits) for (const listener of onLimits) listener(workspaceId);
    return loaded.agents;
  }

  async function loadOwn(workspaceId: string): Promise<Own> {
    const stays = beginOwn(workspaceId);
    const [records, given, defaultId] = await Promise.all([
      allAgents(workspaceId),
      allGiven(workspaceId),
      agents.defaultAgentId(workspaceId),
      onLoad(workspaceId),
    ]);
    const before = lastOwn.get(workspaceId);
    if (!stays()) return before!;
    const own: Own = {
      byId: new Map(records.map((agent) => [agent.agentId, kept(agent, before?.byId.get(agent.agentId))])),
      given: groupGiven(given, before?.given),
      defaultId,
    };
    lastOwn.set(workspaceId, own);
    for (const [agentId, old] of before?.byId ?? []) {
      const agent = own.byId.get(agentId);
      if (agent === old) continue;
      if (agent && isSameAgent(old, agent)) onChange(old, agent);
      else tellGone(workspaceId, agentId);
    }
    return own;
  }

  function tellGone(workspaceId: string, agentId: string): void {
    for (const listener of onGone) listener(workspaceId, agentId);
  }

  /** What a workspace borrows, by its ids there. */
  async function allLent(workspaceId: string): Promise<Map<string, LentAgent>> {
    const all = new Map<string, LentAgent>();
    for (const lending of await lendings.of(workspaceId)) {
      const lent = await lentBy(workspaceId, lending);
      if (lent) all.set(lending.aliasId, lent);
    }
    return all;
  }

  async function lentBy(workspaceId: string, lending: Lending): Promise<LentAgent | undefined> {
    getOrMake(borrowers, lending.providerId, () => new Set<string>()).add(workspaceId);
    return lentAgents.lent(workspaceId, lending, await heldOwn.get(lending.providerId));
  }

  /** One that was lent a moment ago. */
  async function findLent(workspaceId: string, agentId: string): Promise<AgentRecord | undefined> {
    const lending = await lendings.find(workspaceId, agentId);
    return lending && (await lentBy(workspaceId, lending))?.agent;
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
      (await held.get(workspaceId)).byId.get(agentId) ??
      (await agents.get(workspaceId, agentId)) ??
      (await findLent(workspaceId, agentId)),
    async agentAt(workspaceId, agentId, moment) {
      const lending = await lendings.at(workspaceId, agentId, moment);
      return lending && (await lentBy(workspaceId, lending))?.agent;
    },
    homeOf: (workspaceId, agentId) => last.get(workspaceId)?.agents.lent.get(agentId),
    borrowersOf: ({ workspaceId, agentId }) =>
      [...(borrowers.get(workspaceId) ?? [])].flatMap((borrower) =>
        [...(last.get(borrower)?.agents.lent ?? [])]
          .filter(([, home]) => home.workspaceId === workspaceId && home.agentId === agentId)
          .map(([alias]) => ({ workspaceId: borrower, agentId: alias })),
      ),
    last: (workspaceId) => last.get(workspaceId)?.agents,
    onLimits: (listener) => void onLimits.add(listener),
    onGone: (listener) => void onGone.add(listener),
    changed(workspaceId) {
      heldOwn.forget(workspaceId);
      held.forget(workspaceId);
      for (const borrower of borrowers.get(workspaceId) ?? []) held.forget(borrower);
    },
  };
}

/** An agent of the workspace's own goes before one that is lent under the same id. */
function assemble(own: Own, lentNow: ReadonlyMap<string, LentAgent>, last: Loaded | undefined): Loaded {
  const { byId, given } = lentNow.size === 0 ? own : together(own, lentNow);
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
  const defaultAgent = (own.defaultId === undefined ? undefined : byId.get(own.defaultId)) ?? lone;
  const indexes = last?.indexes ?? createSearchIndexes();
  if (last && !isNew) {
    const agents = defaultAgent === last.agents.defaultAgent ? last.agents : { ...last.agents, defaultAgent };
    return { agents, given, indexes };
  }
  const search = indexes.over({ byId, capabilities });
  const byCapability = offersOf(byId, capabilities, given);
  const limits = limitsOf(byId, capabilities);
  const lent = new Map([...byId].flatMap(([agentId, { home }]) => (home ? [[agentId, home]] : [])));
  return { agents: { byId, defaultAgent, capabilities, byCapability, search, limits, lent }, given, indexes };
}

/** What a workspace has and what it borrows, in the order of the agents' ids. */
function together(own: Own, lentNow: ReadonlyMap<string, LentAgent>): HomeAgents {
  const borrowed = [...lentNow].filter(([agentId]) => !own.byId.has(agentId));
  const agents = [...own.byId, ...borrowed.map(([agentId, { agent }]): [string, AgentRecord] => [agentId, agent])];
  const given = new Map(own.given);
  for (const [agentId, lent] of borrowed) if (lent.given) given.set(agentId, lent.given);
  return { byId: new Map(agents.sort(([a], [b]) => (a < b ? -1 : 1))), given };
}

function limitsOf(
  byId: ReadonlyMap<string, AgentRecord>,
  capabilities: ReadonlyMap<string, readonly Capability[]>,
): Map<string, ConcurrencyLimits> {
  const limits = new Map<string, ConcurrencyLimits>();
  for (const [agentId, record] of byId) {
    const agent = record.maxConcurrency;
    const ofCapabilities = new Map<string, number>();
    for (const { capabilityId, maxConcurrency } of capabilities.get(agentId)!)
      if (maxConcurrency !== undefined) ofCapabilities.set(capabilityId, maxConcurrency);
    if (agent !== undefined || ofCapabilities.size > 0) {
      limits.set(agentId, { home: homeOf(record), agent, capabilities: ofCapabilities });
    }
  }
  return limits;
}

const offeredBy = ({ agentId, card }: AgentRecord, said: readonly CapabilityRecord[]): Capability[] =>
  capabilitiesOf(
    agentId,
    card,
    said.map(({ given }) => given),
  );

/** Whether it is still that agent, and no other that has come under its id. */
const isSameAgent = (before: AgentRecord, now: AgentRecord | undefined): boolean =>
  now?.createdAt.getTime() === before.createdAt.getTime() &&
  now.home?.workspaceId === before.home?.workspaceId &&
  now.home?.agentId === before.home?.agentId;

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
