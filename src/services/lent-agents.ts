/**
 * Agents that other workspaces lend: what of an agent the workspace sees that borrows it. What is made of the same agent by the
 * same grant is the same object.
 */
import { clone } from "@bufbuild/protobuf";
import { type AgentCard, AgentCardSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { capabilityIdOf } from "../domain/capability.ts";
import { getOrMake } from "../domain/get-or-make.ts";
import type { AgentRecord } from "../store/agent-repository.ts";
import type { CapabilityRecord } from "../store/capability-repository.ts";
import type { Lending } from "../store/lending-reads.ts";

/** An agent as it is lent, and what was said of it beside its card. */
export interface LentAgent {
  readonly agent: AgentRecord;
  readonly given: readonly CapabilityRecord[] | undefined;
}

/** The agents of one workspace, as far as a lending needs them. */
export interface HomeAgents {
  readonly byId: ReadonlyMap<string, AgentRecord>;
  /** What was given to each agent beside its card. */
  readonly given: ReadonlyMap<string, readonly CapabilityRecord[]>;
}

export interface LentAgents {
  /** Undefined where the agent has gone, or does not offer the capability that is lent. */
  lent(workspaceId: string, lending: Lending, home: HomeAgents): LentAgent | undefined;
}

export function createLentAgents(): LentAgents {
  const agents = new WeakMap<AgentRecord, Map<string, AgentRecord>>();
  const givens = new WeakMap<readonly CapabilityRecord[], Map<string, readonly CapabilityRecord[]>>();

  function agentOf(workspaceId: string, lending: Lending, agent: AgentRecord): AgentRecord {
    const known = getOrMake(agents, agent, () => new Map<string, AgentRecord>());
    // Of a grant all stays as it is while it holds, and its id is never used twice.
    return getOrMake(known, lending.grantId, () => borrowed(workspaceId, lending, agent));
  }

  function givenOf({ capabilityId }: Lending, given: readonly CapabilityRecord[] | undefined) {
    if (capabilityId === undefined || given === undefined) return given;
    const known = getOrMake(givens, given, () => new Map<string, readonly CapabilityRecord[]>());
    return getOrMake(known, capabilityId, () => given.filter((each) => each.given.capabilityId === capabilityId));
  }

  return {
    lent(workspaceId, lending, { byId, given }) {
      const home = byId.get(lending.agentId);
      if (!home) return undefined;
      const agent = agentOf(workspaceId, lending, home);
      const said = givenOf(lending, given.get(lending.agentId));
      const isOffered = lending.capabilityId === undefined || agent.card.skills.length > 0 || (said?.length ?? 0) > 0;
      return isOffered ? { agent, given: said } : undefined;
    },
  };
}

function borrowed(workspaceId: string, lending: Lending, agent: AgentRecord): AgentRecord {
  const { aliasId, acceptedAt, capabilityId } = lending;
  const latest = (at: Date) => new Date(Math.max(at.getTime(), acceptedAt.getTime()));
  return {
    ...agent,
    workspaceId,
    agentId: aliasId,
    card: capabilityId === undefined ? agent.card : restricted(agent.card, capabilityId),
    cardUrl: undefined,
    cardEtag: undefined,
    cardModified: undefined,
    createdAt: latest(agent.createdAt),
    updatedAt: latest(agent.updatedAt),
    home: { workspaceId: agent.workspaceId, agentId: agent.agentId },
  };
}

/** The card with what it says of one capability. Its signatures were made for the whole. */
function restricted(card: AgentCard, capabilityId: string): AgentCard {
  const part = clone(AgentCardSchema, card);
  part.skills = part.skills.filter((skill) => capabilityIdOf(skill) === capabilityId);
  part.signatures = [];
  return part;
}
