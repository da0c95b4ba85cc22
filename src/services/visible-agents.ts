/** The agents and capabilities that a caller may use: those of its workspace that the policy does not refuse it. */
import type { AgentSkill } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import type { Capability } from "../domain/capability.ts";
import { capabilityIdOf } from "../domain/capability.ts";
import type { AgentRecord } from "../store/agent-repository.ts";
import type { AgentDirectory, Offer, WorkspaceAgents } from "./agent-directory.ts";
import type { Policy } from "./policy.ts";
import type { RequestContext } from "./request-context.ts";
import type { Possible } from "./routing/offers.ts";

export type Caller = Pick<RequestContext, "principal" | "workspaceId">;

export interface VisibleAgent {
  readonly agent: AgentRecord;
  /** Those of its card's skills that the caller may use. */
  readonly skills: readonly AgentSkill[];
}

/** What one caller may use. Made for one look. */
export interface VisibleAgents {
  /** Whether it is so for every caller of the workspace at any time. */
  readonly isForAll: boolean;
  /** In the order of their ids. */
  agents(): VisibleAgent[];
  agent(agentId: string): VisibleAgent | undefined;
  /** In the order of their ids, each with the offers that may be used: at least one. */
  capabilities(): Iterable<readonly [capabilityId: string, offers: readonly Offer[]]>;
  /** Undefined where no offer of it may be used. */
  offers(capabilityId: string): readonly Offer[] | undefined;
}

export interface VisibleAgentsDeps {
  directory: Pick<AgentDirectory, "agents">;
  policy: Pick<Policy, "view">;
}

export async function visibleAgents({ directory, policy }: VisibleAgentsDeps, caller: Caller): Promise<VisibleAgents> {
  const agents = await directory.agents(caller.workspaceId);
  const view = await policy.view(caller);
  if (!view) return NOTHING;
  const { judge } = view;
  return among(agents, judge && ((offer) => judge.of(offer).effect !== "DENY"));
}

/** `mayUse` undefined: all. */
function among(
  { byId, byCapability, capabilities }: WorkspaceAgents,
  mayUse: ((offer: Possible) => boolean) | undefined,
): VisibleAgents {
  function visible(agent: AgentRecord): VisibleAgent | undefined {
    const { skills } = agent.card;
    if (!mayUse) return { agent, skills };
    const offered = capabilities.get(agent.agentId) ?? [];
    // Whoever names it alone asks for anything that it does.
    const isWhole = mayUse({ agent, capability: undefined, among: offered });
    if (isWhole) return { agent, skills };
    const usable = new Set(offered.filter((capability) => mayUse({ agent, capability })).map(idOf));
    if (usable.size === 0) return undefined;
    return { agent, skills: skills.filter((skill) => usable.has(capabilityIdOf(skill) ?? "")) };
  }

  const offersOf = (all: readonly Offer[] | undefined): readonly Offer[] | undefined => {
    const offers = mayUse ? all?.filter(mayUse) : all;
    return offers && offers.length > 0 ? offers : undefined;
  };

  return {
    isForAll: mayUse === undefined,
    agents: () => [...byId.values()].flatMap((agent) => visible(agent) ?? []),
    agent(agentId) {
      const agent = byId.get(agentId);
      return agent && visible(agent);
    },
    *capabilities() {
      for (const [capabilityId, all] of byCapability) {
        const offers = offersOf(all);
        if (offers) yield [capabilityId, offers];
      }
    },
    offers: (capabilityId) => offersOf(byCapability.get(capabilityId)),
  };
}

const idOf = ({ capabilityId }: Capability): string => capabilityId;

export const NOTHING: VisibleAgents = {
  isForAll: false,
  agents: () => [],
  agent: () => undefined,
  capabilities: () => [],
  offers: () => undefined,
};
