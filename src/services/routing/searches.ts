/** Where to look for the agent of a new task: the first that says something decides. */
import type { Message } from "../../../gen/lf/a2a/v1/a2a_pb.ts";
import { RouteSource } from "../../../gen/signalbox/v1/routing_pb.ts";
import type { RoutingWishes } from "../../domain/routing-extension.ts";
import { agentTenant, capabilityTenant, notOfferedBy } from "../../domain/target.ts";
import type { AgentRecord } from "../../store/agent-repository.ts";
import type { Offer, WorkspaceAgents } from "../agent-directory.ts";
import { contradiction } from "./no-route.ts";
import { hasLabels, type Labels, type Possible } from "./offers.ts";
import { matchedCapabilities, textOf } from "./text.ts";

/** What a request names by its address or its `tenant`. */
export type ResolvedTarget =
  | { kind: "agent"; agent: AgentRecord }
  | { kind: "capability"; capabilityId: string; offers: readonly Offer[] };

/** Where to look for an agent. */
export interface Search {
  readonly source: RouteSource;
  readonly capabilityId?: string;
  readonly offers: readonly Possible[];
  readonly matches?: readonly { capabilityId: string; score: number }[];
  /** Whether the client has named the agent: nobody else will do. */
  readonly isNamed?: true;
}

/** In what an address or a tenant names. The message may narrow it. */
export function atTarget(
  source: RouteSource,
  named: ResolvedTarget,
  wishes: RoutingWishes,
  agents: WorkspaceAgents,
): Search {
  if (named.kind === "agent") {
    if (wishes.agent !== undefined && wishes.agent !== named.agent.agentId) throw contradiction("agent");
    return { source, offers: [alone(named.agent, agents)], isNamed: true };
  }
  const { capabilityId, offers } = named;
  if (wishes.capability !== undefined && wishes.capability !== capabilityId) throw contradiction("capability");
  if (wishes.agent === undefined) return { source, capabilityId, offers };
  const own = offers.filter(({ agent }) => agent.agentId === wishes.agent);
  if (own.length === 0) throw notOfferedBy(wishes.agent, capabilityId, agentTenant(wishes.agent));
  return { source, capabilityId, offers: own, isNamed: true };
}

/** At an agent that the message names. */
export function atAgent(agent: AgentRecord, agents: WorkspaceAgents, capabilityId: string | undefined): Search {
  const source = RouteSource.EXTENSION;
  if (capabilityId === undefined) return { source, offers: [alone(agent, agents)], isNamed: true };
  const offers = agents.byCapability.get(capabilityId)?.filter((offer) => offer.agent.agentId === agent.agentId) ?? [];
  if (offers.length === 0) throw notOfferedBy(agent.agentId, capabilityId, capabilityTenant(capabilityId));
  return { source, capabilityId, offers, isNamed: true };
}

/** Where nothing is named: in what the text fits, then at those with the labels, or else at the default. */
export function elsewhere(agents: WorkspaceAgents, wishes: RoutingWishes, message: Message): Search[] {
  // A lone agent takes what comes, whatever its skills are called.
  const matches = agents.byId.size > 1 ? matchedCapabilities(agents.search, textOf(message)) : [];
  const searches: Search[] = matches.map((match) => ({
    source: RouteSource.TEXT,
    capabilityId: match.capabilityId,
    offers: agents.byCapability.get(match.capabilityId) ?? [],
    matches,
  }));
  if (wishes.labels) searches.push({ source: RouteSource.EXTENSION, offers: oneOfEach(agents, wishes.labels) });
  else if (agents.defaultAgent)
    searches.push({
      source: RouteSource.DEFAULT,
      offers: [alone(agents.defaultAgent, agents)],
      matches,
    });
  return searches;
}

/** An agent that is named by itself: for what was asked for, whether or not it offers that, or for whatever it makes of the task. */
export function alone(agent: AgentRecord, { capabilities }: WorkspaceAgents, asked?: string): Possible {
  const among = capabilities.get(agent.agentId);
  if (asked === undefined) return { agent, capability: undefined, among };
  return { agent, capability: among?.find(({ capabilityId }) => capabilityId === asked) };
}

/** Each agent once, with the first of its capabilities that has the labels; one that has none is cut for it. */
function oneOfEach({ byId, capabilities }: WorkspaceAgents, labels: Labels): Possible[] {
  return [...byId.values()].flatMap((agent) => {
    const offered = capabilities.get(agent.agentId) ?? [];
    const capability = offered.find((each) => hasLabels(each, labels)) ?? offered[0];
    return capability ? [{ agent, capability }] : [];
  });
}
