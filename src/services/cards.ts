/** The cards that this server serves (A2A specification, section 8). */
import type { AgentCard } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import {
  type CardSettings,
  capabilityCard,
  extendedCard,
  type PublicAddress,
  routerCard,
  servedAgentCard,
} from "../domain/card.ts";
import { unsupportedOperation } from "../domain/errors.ts";
import type { AgentDirectory } from "./agent-directory.ts";
import type { RequestContext } from "./request-context.ts";
import type { IsGuarded } from "./result-policy.ts";
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
  /** The card of a capability, or undefined when no agent has it. */
  capability(workspaceId: string, capabilityId: string): Promise<ServedCard | undefined>;
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
  isGuarded: IsGuarded;
}

export function createCards({ directory, router, settings, address, startedAt, isGuarded }: CardsDeps): Cards {
  const latest = (agents: readonly { updatedAt: Date }[]): Date =>
    new Date(Math.max(startedAt.getTime(), ...agents.map(({ updatedAt }) => updatedAt.getTime())));

  async function ofRouter(workspaceId: string): Promise<ServedCard> {
    const { byId } = await directory.agents(workspaceId);
    return { card: routerCard(settings, address(), byId.values()), changedAt: latest([...byId.values()]) };
  }
  return {
    router: ofRouter,
    async agent(workspaceId, agentId) {
      const agent = (await directory.agents(workspaceId)).byId.get(agentId);
      if (!agent) return undefined;
      return { card: servedAgentCard(agent, address()), changedAt: latest([agent]) };
    },
    async capability(workspaceId, capabilityId) {
      const offers = (await directory.agents(workspaceId)).byCapability.get(capabilityId);
      if (!offers) return undefined;
      const card = capabilityCard(settings, address(), {
        capabilityId,
        offers,
        streaming: !(await isGuarded(workspaceId, capabilityId)),
      });
      return { card, changedAt: latest(offers.map(({ agent }) => agent)) };
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
