/** Full-text search over what the agents of a workspace can do. */
import type { Capability } from "../domain/capability.ts";
import { createTextIndex, type Searchable, type TextIndex } from "../domain/routing/text-match.ts";
import type { AgentRecord } from "../store/agent-repository.ts";

/** A capability that a text fits. */
export interface CapabilityMatch {
  capabilityId: string;
  agentId: string;
  /** Above 0; more is better. Compares within one answer only. */
  score: number;
}

export interface CapabilitySearch {
  /**
   * The capabilities whose names, descriptions, tags and examples hold words of `text`, the best first, at most `most`. Only the
   * first 1024 characters are read.
   */
  matches(text: string, most: number): CapabilityMatch[];
  /** The same for the agents' own names and descriptions: a score above 0 for each agent that fits. */
  agents(text: string): Map<string, number>;
}

/** What is searched: an agent and its capabilities count as unchanged as long as they are the same objects. */
export interface SearchedAgents {
  readonly byId: ReadonlyMap<string, AgentRecord>;
  readonly capabilities: ReadonlyMap<string, readonly Capability[]>;
}

/**
 * The indexes of a workspace. They are made at the first search and outlive changes: of the agents that a search is for, only
 * those that are not as they were the last time are indexed anew.
 */
export interface SearchIndexes {
  over(agents: SearchedAgents): CapabilitySearch;
}

export function createSearchIndexes(): SearchIndexes {
  const ofCapabilities = createTextIndex();
  const ofAgents = createTextIndex();
  const indexed = new Map<string, { agent: AgentRecord; capabilities: readonly Capability[] }>();
  let current: SearchedAgents | undefined;

  function turnTo(agents: SearchedAgents): void {
    if (agents === current) return;
    for (const [agentId, { agent, capabilities }] of indexed) {
      if (agents.byId.get(agentId) === agent && agents.capabilities.get(agentId) === capabilities) continue;
      for (const { capabilityId } of capabilities) ofCapabilities.remove(keyOf(agentId, capabilityId));
      ofAgents.remove(agentId);
      indexed.delete(agentId);
    }
    for (const [agentId, agent] of agents.byId) {
      if (indexed.has(agentId)) continue;
      const capabilities = agents.capabilities.get(agentId) ?? [];
      for (const capability of capabilities) ofCapabilities.put(keyOf(agentId, capability.capabilityId), capability);
      ofAgents.put(agentId, ownWords(agent));
      indexed.set(agentId, { agent, capabilities });
    }
    current = agents;
  }

  const search = (index: TextIndex, agents: SearchedAgents, text: string, most: number) => {
    turnTo(agents);
    return index.matches(text, most);
  };

  return {
    over: (agents) => ({
      matches: (text, most) =>
        search(ofCapabilities, agents, text, most).map(({ id, score }) => {
          const [agentId = "", capabilityId = ""] = id.split("/");
          return { capabilityId, agentId, score };
        }),
      agents: (text) =>
        new Map(search(ofAgents, agents, text, Number.POSITIVE_INFINITY).map(({ id, score }) => [id, score])),
    }),
  };
}

/** Neither id holds a slash. */
const keyOf = (agentId: string, capabilityId: string): string => `${agentId}/${capabilityId}`;

const ownWords = ({ agentId, card }: AgentRecord): Searchable => ({
  name: `${card.name} ${agentId}`,
  description: card.description,
  tags: [],
  examples: [],
});
