/** The agents of each workspace, held for a moment: every message asks for them, and they seldom change. */
import { type Capability, capabilityOfSkill } from "../domain/capability.ts";
import type { AgentRecord, AgentRepository } from "../store/agent-repository.ts";
import type { Runtime } from "./runtime.ts";

/** How long another replica's change may go unseen, in milliseconds. */
const TTL_MS = 1000;
const PAGE = 500;

/** An agent that has a capability. */
export interface Offer {
  agent: AgentRecord;
  capability: Capability;
}

export interface WorkspaceAgents {
  readonly byId: ReadonlyMap<string, AgentRecord>;
  /** The default that was set, or the only agent there is. */
  readonly defaultAgent: AgentRecord | undefined;
  /** Who has each capability, in the order of the agents' ids; at least one. */
  readonly byCapability: ReadonlyMap<string, readonly Offer[]>;
}

export interface AgentDirectory {
  agents(workspaceId: string): Promise<WorkspaceAgents>;
  /** One agent. Undefined only if there is none now: one that is not held may have come by another replica. */
  agent(workspaceId: string, agentId: string): Promise<AgentRecord | undefined>;
  /** Forgets what is held, after a change. */
  changed(workspaceId: string): void;
}

export function createAgentDirectory(agents: AgentRepository, runtime: Runtime): AgentDirectory {
  const held = new Map<string, { until: number; loaded: Promise<WorkspaceAgents> }>();

  async function load(workspaceId: string): Promise<WorkspaceAgents> {
    const byId = new Map<string, AgentRecord>();
    for (let afterId: string | undefined; ; ) {
      const page = await agents.list(workspaceId, { limit: PAGE, ...(afterId !== undefined && { afterId }) });
      for (const agent of page) byId.set(agent.agentId, agent);
      if (page.length < PAGE) break;
      afterId = page.at(-1)?.agentId;
    }
    const defaultId = await agents.defaultAgentId(workspaceId);
    const lone = byId.size === 1 ? [...byId.values()][0] : undefined;
    return {
      byId,
      defaultAgent: (defaultId === undefined ? undefined : byId.get(defaultId)) ?? lone,
      byCapability: offersOf(byId.values()),
    };
  }

  function all(workspaceId: string): Promise<WorkspaceAgents> {
    const now = runtime.elapsedMs();
    const current = held.get(workspaceId);
    if (current && current.until > now) return current.loaded;
    const loaded = load(workspaceId);
    held.set(workspaceId, { until: now + TTL_MS, loaded });
    loaded.catch(() => {
      if (held.get(workspaceId)?.loaded === loaded) held.delete(workspaceId);
    });
    return loaded;
  }

  return {
    agents: all,
    agent: async (workspaceId, agentId) =>
      (await all(workspaceId)).byId.get(agentId) ?? (await agents.get(workspaceId, agentId)),
    changed: (workspaceId) => held.delete(workspaceId),
  };
}

/** Skills of one card that are the same capability are one offer: the first. */
function offersOf(agents: Iterable<AgentRecord>): Map<string, Offer[]> {
  const byCapability = new Map<string, Offer[]>();
  for (const agent of agents) {
    for (const skill of agent.card.skills) {
      const capability = capabilityOfSkill(agent.agentId, agent.card, skill);
      if (!capability) continue;
      const offers = byCapability.get(capability.capabilityId) ?? [];
      if (offers.at(-1)?.agent !== agent) offers.push({ agent, capability });
      byCapability.set(capability.capabilityId, offers);
    }
  }
  return byCapability;
}
