/** Where the agent of a new task is looked for: what the request names, and the searches that follow from it. */
import type { Message } from "../../../gen/lf/a2a/v1/a2a_pb.ts";
import { RouteSource } from "../../../gen/signalbox/v1/routing_pb.ts";
import type { RoutingWishes } from "../../domain/routing-extension.ts";
import { nobodyOffers, noSuchAgent, parseTarget, targetNotFound } from "../../domain/target.ts";
import type { AgentDirectory, WorkspaceAgents } from "../agent-directory.ts";
import type { RequestContext } from "../request-context.ts";
import type { Rollouts } from "../rollouts.ts";
import { atAgent, atTarget, elsewhere, type ResolvedTarget, type Search } from "./searches.ts";

/** What is asked for, and of whom. */
interface Asked {
  readonly agents: WorkspaceAgents;
  readonly wishes: RoutingWishes;
  readonly message: Message;
}

export interface WhereToLook {
  /** What a request names by its address or its `tenant`: see Router. */
  target(context: RequestContext, tenant: string): Promise<ResolvedTarget | undefined>;
  /** Where to look, in this order, until something fits. The rollouts of the workspace are loaded. Throws TARGET_NOT_FOUND. */
  searchesFor(context: RequestContext, named: ResolvedTarget | undefined, asked: Asked): Promise<Search[]>;
}

export interface WhereToLookDeps {
  readonly directory: Pick<AgentDirectory, "agent" | "agents">;
  readonly rollouts: Pick<Rollouts, "load" | "owns">;
}

export function createWhereToLook({ directory, rollouts }: WhereToLookDeps): WhereToLook {
  async function target(context: RequestContext, tenant: string): Promise<ResolvedTarget | undefined> {
    const { addressTarget, workspaceId } = context;
    if (addressTarget !== undefined && tenant !== "" && tenant !== addressTarget) throw targetNotFound(tenant);
    const named = addressTarget ?? tenant;
    const parsed = parseTarget(named);
    if (!parsed) return undefined;
    if (parsed.kind === "agent") {
      const agent = await directory.agent(workspaceId, parsed.agentId);
      if (!agent) throw noSuchAgent(parsed.agentId, (await directory.agents(workspaceId)).byId.keys());
      return { kind: "agent", agent };
    }
    const { capabilityId } = parsed;
    const { byCapability } = await directory.agents(workspaceId);
    const offers = byCapability.get(capabilityId);
    if (offers) return { kind: "capability", capabilityId, offers };
    await rollouts.load(workspaceId);
    if (!rollouts.owns(workspaceId, capabilityId)) throw nobodyOffers(capabilityId, byCapability.keys());
    return { kind: "capability", capabilityId, offers: [] };
  }

  async function searchesFor(
    { workspaceId, addressTarget }: RequestContext,
    named: ResolvedTarget | undefined,
    { agents, wishes, message }: Asked,
  ): Promise<Search[]> {
    if (named) {
      return [atTarget(addressTarget === undefined ? RouteSource.TENANT : RouteSource.ADDRESS, named, wishes, agents)];
    }
    const { agent: agentId, capability: capabilityId } = wishes;
    if (agentId !== undefined) {
      const agent = await directory.agent(workspaceId, agentId);
      if (!agent) throw noSuchAgent(agentId, agents.byId.keys());
      return [atAgent(agent, agents, capabilityId)];
    }
    if (capabilityId === undefined) return elsewhere(agents, wishes, message);
    const offers = agents.byCapability.get(capabilityId);
    if (!offers && !rollouts.owns(workspaceId, capabilityId)) {
      throw nobodyOffers(capabilityId, agents.byCapability.keys());
    }
    return [{ source: RouteSource.EXTENSION, capabilityId, offers: offers ?? [] }];
  }

  return { target, searchesFor };
}
