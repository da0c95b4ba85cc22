/** The cards that this server serves (A2A specification, section 8), to each caller those of what it may use. */
import type { JsonObject } from "@bufbuild/protobuf";
import type { AgentCard, AgentSkill } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import {
  type CardSettings,
  capabilityCard,
  extendedCard,
  type PublicAddress,
  routerCard,
  servedAgentCard,
} from "../domain/card.ts";
import { unsupportedOperation } from "../domain/errors.ts";
import type { Principal } from "../domain/identity/principal.ts";
import type { AgentDirectory } from "./agent-directory.ts";
import type { CardSigner } from "./card-signer.ts";
import { type Catalog, catalogOf } from "./catalog.ts";
import type { Policy } from "./policy.ts";
import type { RequestContext } from "./request-context.ts";
import type { IsGuarded } from "./result-policy.ts";
import type { Router } from "./router.ts";
import { type Caller, NOTHING, type VisibleAgent, type VisibleAgents, visibleAgents } from "./visible-agents.ts";

/** A card, and when anything in it last changed. */
export interface ServedCard {
  /** Signed, where there is a key. */
  card: AgentCard;
  /**
   * Undefined where more than one agent decides what is in it: policies do, and so do agents that have left, of which nothing tells
   * when.
   */
  changedAt: Date | undefined;
}

/** Whom a card is for; undefined is somebody who has not said who it is, where everybody must. */
export type CardCaller = Caller | undefined;

export interface Cards {
  /** The router's card. One without a caller says how to authenticate, and of no agent. */
  router(caller: CardCaller): Promise<ServedCard>;
  /** The card of an agent, or undefined when there is none of that id that the caller may use. */
  agent(caller: Caller, agentId: string): Promise<ServedCard | undefined>;
  /** The card of a capability, or undefined when there is none of that id that the caller may use. */
  capability(caller: Caller, capabilityId: string): Promise<ServedCard | undefined>;
  /** GetExtendedAgentCard (section 3.1.11). */
  extended(context: RequestContext, tenant: string): Promise<AgentCard>;
  /** Undefined where there is no such part; the parts are counted from 1, and the catalog that tells of all is no part. */
  catalog(caller: CardCaller, part?: number): Promise<Catalog | undefined>;
  /** The public keys of the cards' signatures: a JWK Set. */
  keySet(): JsonObject;
}

export interface CardsDeps {
  directory: AgentDirectory;
  policy: Pick<Policy, "view">;
  router: Router;
  signer: CardSigner;
  settings: CardSettings;
  /** Known once the listeners are open. */
  address: () => PublicAddress;
  startedAt: Date;
  isGuarded: IsGuarded;
  /** Whose agents are shown to those who have not said who they are, where everybody must; undefined: nobody's. */
  shownToNobody: Caller | undefined;
}

export function createCards(deps: CardsDeps): Cards {
  const { router, signer, settings, address, startedAt, isGuarded } = deps;

  const seenBy = (caller: Caller) => visibleAgents(deps, caller);

  function seenByAnybody(caller: CardCaller): Promise<VisibleAgents> | VisibleAgents {
    const shown = caller ?? deps.shownToNobody;
    return shown ? seenBy(shown) : NOTHING;
  }

  const served = async (card: AgentCard, changedAt?: Date): Promise<ServedCard> => ({
    card: await signer.sign(card),
    changedAt,
  });

  return {
    async router(caller) {
      const agents = (await seenByAnybody(caller)).agents();
      return served(routerCard(settings, address(), agents.map(subjectOf)));
    },
    async agent(caller, agentId) {
      const visible = await seenBy(caller);
      const found = visible.agent(agentId);
      if (!found) return undefined;
      const card = servedAgentCard(subjectOf(found), address(), settings);
      // What a policy shows to some may change without the agent.
      if (!visible.isForAll) return served(card);
      return served(card, new Date(Math.max(startedAt.getTime(), found.agent.updatedAt.getTime())));
    },
    async capability(caller, capabilityId) {
      const visible = await seenBy(caller);
      const offers = visible.offers(capabilityId);
      if (!offers) return undefined;
      const streaming = !(await isGuarded(caller.workspaceId, capabilityId));
      return served(capabilityCard(settings, address(), { capabilityId, offers, streaming }));
    },
    async extended(context, tenant) {
      const target = await router.target(context, tenant);
      if (target) {
        throw unsupportedOperation("There is no extended agent card here: the public card does not declare one.");
      }
      const agents = (await seenBy(context)).agents();
      const card = routerCard(settings, address(), agents.map(subjectOf));
      const { extended } = settings;
      return signer.sign(extended && isTrusted(context.principal) ? extendedCard(card, extended) : card);
    },
    async catalog(caller, part) {
      return catalogOf(settings, address(), await seenByAnybody(caller), part);
    },
    keySet: () => ({ keys: signer.keySet.keys.map((key) => ({ ...key }) as JsonObject) }),
  };
}

const subjectOf = ({ agent, skills }: VisibleAgent) => ({
  agentId: agent.agentId,
  card: agent.card,
  skills: skills as AgentSkill[],
});

/** Whoever has said who they are; and everybody, where everybody is an admin. */
const isTrusted = ({ authentication, roles }: Principal): boolean =>
  authentication !== "anonymous" || roles.has("admin");
