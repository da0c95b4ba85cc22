/** The cards that this server serves (A2A specification, section 8). */
import type { AgentCard } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { type CardSettings, extendedCard, type PublicAddress, routerCard, servedAgentCard } from "../domain/card.ts";
import { unsupportedOperation } from "../domain/errors.ts";
import type { AgentDirectory } from "./agent-directory.ts";
import type { RequestContext } from "./request-context.ts";
import type { Router } from "./router.ts";

/** A card, and when anything in it last changed. */
export interface ServedCard {
  card: AgentCard;
  changedAt: Date;
}

export interface Cards {
  /** The router's card for one workspace. */
  router(workspaceId: string): Promise<ServedCard>;
  /** The card of an agent, or undefined when there is none of that id. */
  agent(workspaceId: string, agentId: string): Promise<ServedCard | undefined>;
  /** GetExtendedAgentCard (section 3.1.11). */
  extended(context: RequestContext, tenant: string): Promise<AgentCard>;
}

export interface CardsDeps {
  directory: AgentDirectory;
  router: Router;
  settings: CardSettings;
  /** Known once the listeners are open. */
  address: () => PublicAddress;
  startedAt: Date;
}

export function createCards({ directory, router, settings, address, startedAt }: CardsDeps): Cards {
  async function ofRouter(workspaceId: string): Promise<ServedCard> {
    const { byId } = await directory.agents(workspaceId);
    const times = [...byId.values()].map((agent) => agent.updatedAt.getTime());
    return {
      card: routerCard(settings, address(), byId.values()),
      changedAt: new Date(Math.max(startedAt.getTime(), ...times)),
    };
  }
  return {
    router: ofRouter,
    async agent(workspaceId, agentId) {
      const agent = (await directory.agents(workspaceId)).byId.get(agentId);
      if (!agent) return undefined;
      const changedAt = new Date(Math.max(startedAt.getTime(), agent.updatedAt.getTime()));
      return { card: servedAgentCard(agent, address()), changedAt };
    },
    async extended(context, tenant) {
      const target = await router.target(context, tenant);
      if (target || !settings.extended) {
        throw unsupportedOperation("There is no extended agent card here: the public card does not declare one.");
      }
      return extendedCard((await ofRouter(context.workspaceId)).card, settings.extended);
    },
  };
}
