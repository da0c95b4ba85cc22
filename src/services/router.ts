/**
 * Which agent takes a task. The first that says something decides where to look: the address, the tenant, the routing
 * extension, the text of the message, the workspace's default; what is found there and fits the message is chosen among by a
 * strategy.
 */
import type { Message, SendMessageRequest } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { type RouteDecision, RouteSource } from "../../gen/signalbox/v1/routing_pb.ts";
import type { Capability } from "../domain/capability.ts";
import { invalidArgument } from "../domain/errors.ts";
import type { StrategyName } from "../domain/routing/strategy.ts";
import { type RoutingWishes, routingWishes } from "../domain/routing-extension.ts";
import { agentTenant, capabilityTenant, parseTarget, targetNotFound } from "../domain/target.ts";
import type { TaskHeader } from "../domain/task-log.ts";
import type { AgentRecord } from "../store/agent-repository.ts";
import type { AgentDirectory, Offer, WorkspaceAgents } from "./agent-directory.ts";
import type { AgentEndpoint } from "./agent-port.ts";
import type { RequestContext } from "./request-context.ts";
import type { AgentAvailability } from "./routing/availability.ts";
import { type DecideDeps, decide } from "./routing/decide.ts";
import { contradiction, noRoute, nothingFits } from "./routing/no-route.ts";
import { type Ask, type Cut, hasLabels, type Labels, type Possible, sift } from "./routing/offers.ts";
import { matchedCapabilities, textOf } from "./routing/text.ts";

/** What a request names by its address or its `tenant`. */
export type ResolvedTarget =
  | { kind: "agent"; agent: AgentRecord }
  | { kind: "capability"; capabilityId: string; offers: readonly Offer[] };

/** Where a new task goes. */
export interface Route extends Possible {
  readonly wishes: RoutingWishes;
  /** Without the task's id. */
  readonly decision: RouteDecision;
}

export interface Router {
  /** What a request names by its address or its `tenant`; undefined when it names nothing. Throws TARGET_NOT_FOUND. */
  target(context: RequestContext, tenant: string): Promise<ResolvedTarget | undefined>;
  /**
   * The agent that takes a new task. `key` is what should stay with one agent: the task's context. A preview takes nobody's
   * turn.
   *
   * @throws SignalboxError INVALID_ARGUMENT (the extension's values, or what contradicts the target), TARGET_NOT_FOUND,
   * NO_ROUTE, AGENT_UNAVAILABLE, or what the only agent in question answers to such a message.
   */
  route(
    context: RequestContext,
    request: SendMessageRequest,
    message: Message,
    key: string,
    isPreview?: boolean,
  ): Promise<Route>;
  /** The agent of a task that exists; undefined when it has left. */
  agent(context: RequestContext, agentId: string): Promise<AgentRecord | undefined>;
  /** The same, for whoever carries the task on. */
  endpoint(task: TaskHeader): Promise<AgentEndpoint | undefined>;
}

export interface RouterDeps extends DecideDeps {
  directory: AgentDirectory;
  /** What chooses where a message does not say. */
  strategy: StrategyName;
  /** Which agents take no new tasks; left out, all do. */
  availability?: Pick<AgentAvailability, "troubles" | "chosen">;
}

/** Where to look for an agent. */
interface Search {
  source: RouteSource;
  capabilityId?: string;
  offers: readonly Possible[];
  matches?: readonly { capabilityId: string; score: number }[];
}

export function createRouter(deps: RouterDeps): Router {
  const { directory } = deps;
  /** How many decisions were made of each capability: for strategies that take turns. */
  const turns = new Map<string, number>();

  async function target(context: RequestContext, tenant: string): Promise<ResolvedTarget | undefined> {
    const { addressTarget, workspaceId } = context;
    if (addressTarget !== undefined && tenant !== "" && tenant !== addressTarget) throw targetNotFound(tenant);
    const named = addressTarget ?? tenant;
    const parsed = parseTarget(named);
    if (!parsed) return undefined;
    if (parsed.kind === "agent") {
      const agent = await directory.agent(workspaceId, parsed.agentId);
      if (!agent) throw targetNotFound(named);
      return { kind: "agent", agent };
    }
    const { capabilityId } = parsed;
    const offers = (await directory.agents(workspaceId)).byCapability.get(capabilityId);
    if (!offers) throw targetNotFound(named);
    return { kind: "capability", capabilityId, offers };
  }

  async function route(
    context: RequestContext,
    request: SendMessageRequest,
    message: Message,
    key: string,
    isPreview = false,
  ): Promise<Route> {
    const wishes = routingWishes(request.metadata);
    if (Array.isArray(wishes)) throw invalidArgument(wishes);
    const { workspaceId, extensions } = context;
    const named = await target(context, request.tenant);
    const agents = await directory.agents(workspaceId);
    const ask: Ask = { message, extensions, wishes, troubles: deps.availability?.troubles(workspaceId) };
    const searches = named ? [atTarget(context, named, wishes)] : await elsewhere(context, agents, wishes, message);
    // Where nothing fits anywhere, what was looked for first is what the client hears of.
    let nothing: readonly Cut[] | undefined;
    for (const search of searches) {
      const { fit, cuts } = sift(search.offers, ask);
      if (fit.length === 0) {
        nothing ??= cuts;
        continue;
      }
      const { chosen, decision } = decide(deps, {
        workspaceId,
        source: search.source,
        capabilityId: search.capabilityId,
        strategy: wishes.strategy ?? deps.strategy,
        key,
        turn: turnOf(`${workspaceId} ${search.capabilityId ?? ""}`, !isPreview),
        fit,
        cuts,
        matches: search.matches ?? [],
      });
      if (!isPreview) deps.availability?.chosen(workspaceId, chosen.agent.agentId);
      return { ...chosen, wishes, decision };
    }
    throw nothing ? nothingFits(nothing) : noRoute(agents);
  }

  function turnOf(name: string, isTaken: boolean): number {
    const turn = turns.get(name) ?? 0;
    if (isTaken) turns.set(name, turn + 1);
    return turn;
  }

  /** Where neither the address nor the tenant says it. */
  async function elsewhere(
    { workspaceId }: RequestContext,
    agents: WorkspaceAgents,
    wishes: RoutingWishes,
    message: Message,
  ): Promise<Search[]> {
    const { agent: agentId, capability: capabilityId } = wishes;
    const source = RouteSource.EXTENSION;
    if (agentId !== undefined) {
      const agent = await directory.agent(workspaceId, agentId);
      if (!agent) throw targetNotFound(agentTenant(agentId));
      return [ofAgent(source, agent, agents, capabilityId)];
    }
    if (capabilityId !== undefined) {
      const offers = agents.byCapability.get(capabilityId);
      if (!offers) throw targetNotFound(capabilityTenant(capabilityId));
      return [{ source, capabilityId, offers }];
    }
    // A lone agent takes what comes, whatever its skills are called.
    const matches = agents.byId.size > 1 ? matchedCapabilities(agents.search, textOf(message)) : [];
    const searches: Search[] = matches.map((match) => ({
      source: RouteSource.TEXT,
      capabilityId: match.capabilityId,
      offers: agents.byCapability.get(match.capabilityId) ?? [],
      matches,
    }));
    if (wishes.labels) searches.push({ source, offers: oneOfEach(agents, wishes.labels) });
    else if (agents.defaultAgent)
      searches.push({
        source: RouteSource.DEFAULT,
        offers: [{ agent: agents.defaultAgent, capability: undefined }],
        matches,
      });
    return searches;
  }

  function atTarget(context: RequestContext, named: ResolvedTarget, wishes: RoutingWishes): Search {
    const source = context.addressTarget === undefined ? RouteSource.TENANT : RouteSource.ADDRESS;
    if (named.kind === "agent") {
      if (wishes.agent !== undefined && wishes.agent !== named.agent.agentId) throw contradiction("agent");
      return { source, offers: [{ agent: named.agent, capability: undefined }] };
    }
    const { capabilityId, offers } = named;
    if (wishes.capability !== undefined && wishes.capability !== capabilityId) throw contradiction("capability");
    if (wishes.agent === undefined) return { source, capabilityId, offers };
    const own = offers.filter(({ agent }) => agent.agentId === wishes.agent);
    if (own.length === 0) throw targetNotFound(agentTenant(wishes.agent));
    return { source, capabilityId, offers: own };
  }

  return {
    target,
    route,
    agent: (context, agentId) => directory.agent(context.workspaceId, agentId),
    async endpoint({ workspaceId, agentId, capabilityId }) {
      const agent = await directory.agent(workspaceId, agentId);
      if (!agent || capabilityId === undefined) return agent;
      const offers = (await directory.agents(workspaceId)).byCapability.get(capabilityId);
      return endpointFor(agent, offers?.find((offer) => offer.agent.agentId === agentId)?.capability);
    },
  };
}

function ofAgent(
  source: RouteSource,
  agent: AgentRecord,
  { byCapability }: WorkspaceAgents,
  capabilityId: string | undefined,
): Search {
  if (capabilityId === undefined) return { source, offers: [{ agent, capability: undefined }] };
  const offers = byCapability.get(capabilityId)?.filter((offer) => offer.agent.agentId === agent.agentId) ?? [];
  if (offers.length === 0) throw targetNotFound(capabilityTenant(capabilityId));
  return { source, capabilityId, offers };
}

/** Each agent once, with the first of its capabilities that has the labels; one that has none is cut for it. */
function oneOfEach({ byId, capabilities }: WorkspaceAgents, labels: Labels): Possible[] {
  return [...byId.values()].flatMap((agent) => {
    const offered = capabilities.get(agent.agentId) ?? [];
    const capability = offered.find((each) => hasLabels(each, labels)) ?? offered[0];
    return capability ? [{ agent, capability }] : [];
  });
}

/** An agent as a task of a capability is given to it: what may be repeated is said of either. */
export const endpointFor = (agent: AgentRecord, capability: Capability | undefined): AgentEndpoint =>
  capability?.safeToRepeat && !agent.safeToRepeat ? { ...agent, safeToRepeat: true } : agent;
