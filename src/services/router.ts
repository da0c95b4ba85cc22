/** What a request is for: the target it names, or the workspace's default agent. */
import { clip, SignalboxError } from "../domain/errors.ts";
import { parseTarget, targetNotFound } from "../domain/target.ts";
import type { AgentRecord } from "../store/agent-repository.ts";
import type { AgentDirectory, Offer, WorkspaceAgents } from "./agent-directory.ts";
import type { RequestContext } from "./request-context.ts";

/** A target that is there: an agent, or a capability with the agents that have it, in the order of their ids. */
export type ResolvedTarget =
  | { kind: "agent"; agent: AgentRecord }
  | { kind: "capability"; capabilityId: string; offers: readonly Offer[] };

export interface Router {
  /**
   * What a request names by its address or its `tenant`; undefined when it names nothing. Throws TARGET_NOT_FOUND for what is
   * not there, and for a `tenant` that contradicts the address.
   */
  target(context: RequestContext, tenant: string): Promise<ResolvedTarget | undefined>;
  /** The agent that takes a new task. Throws NO_ROUTE when nothing says which. */
  route(context: RequestContext, target: ResolvedTarget | undefined): Promise<AgentRecord>;
  /** The agent of a task that exists; undefined when it has left. */
  agent(context: RequestContext, agentId: string): Promise<AgentRecord | undefined>;
}

export function createRouter(directory: AgentDirectory): Router {
  return {
    async target(context, tenant) {
      const { addressTarget } = context;
      if (addressTarget !== undefined && tenant !== "" && tenant !== addressTarget) throw targetNotFound(tenant);
      const named = addressTarget ?? tenant;
      const target = parseTarget(named);
      if (!target) return undefined;
      if (target.kind === "capability") {
        const { capabilityId } = target;
        const offers = (await directory.agents(context.workspaceId)).byCapability.get(capabilityId);
        if (!offers) throw targetNotFound(named);
        return { kind: "capability", capabilityId, offers };
      }
      const agent = await directory.agent(context.workspaceId, target.agentId);
      if (!agent) throw targetNotFound(named);
      return { kind: "agent", agent };
    },
    async route(context, target) {
      if (target?.kind === "agent") return target.agent;
      if (target) return target.offers[0]!.agent;
      const agents = await directory.agents(context.workspaceId);
      if (agents.defaultAgent) return agents.defaultAgent;
      throw noRoute(agents);
    },
    agent: (context, agentId) => directory.agent(context.workspaceId, agentId),
  };
}

/** Skills that a refusal names at most, and how long their list and one name may be. */
const NAMED_SKILLS = 20;
const MAX_LIST_LENGTH = 1024;
const MAX_NAME_LENGTH = 64;

function noRoute({ byId }: WorkspaceAgents): SignalboxError {
  const skills = [...byId.values()].flatMap(({ agentId, card }) =>
    card.skills.map(({ name }) => `${clip(name, MAX_NAME_LENGTH)} (a.${agentId})`),
  );
  const named = clip(skills.slice(0, NAMED_SKILLS).join(", "), MAX_LIST_LENGTH);
  const more = skills.length > NAMED_SKILLS ? `, and ${skills.length - NAMED_SKILLS} more` : "";
  return new SignalboxError({
    code: "FAILED_PRECONDITION",
    reason: "NO_ROUTE",
    message:
      byId.size === 0
        ? "No agent is registered. Register one: signalbox agents register URL."
        : `Several agents are registered and none is the default. Name one in tenant, or set one: signalbox agents default ID. Skills: ${named}${more}.`,
    metadata: { agents: [...byId.keys()].slice(0, NAMED_SKILLS).join(",") },
  });
}
