/** The cards that clients see: the router's own, and each agent's with addresses that lead through the router. */
import { create } from "@bufbuild/protobuf";
import {
  type AgentCapabilities,
  AgentCapabilitiesSchema,
  type AgentCard,
  AgentCardSchema,
  type AgentExtension,
  type AgentInterface,
  AgentInterfaceSchema,
  type AgentSkill,
} from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { ROUTING_EXTENSION, routingDeclaration } from "./routing-extension.ts";
import { agentTenant } from "./target.ts";
import { UPDATES_EXTENSION, updatesDeclaration } from "./updates-extension.ts";

/** The protocol version that our interfaces speak (specification, section 3.6). */
export const PROTOCOL_VERSION = "1.0";

/** Where clients reach this server. */
export interface PublicAddress {
  /** URL of the HTTP listener with its base path, without a slash at the end. */
  url: string;
  /** `host:port` of the gRPC listener, without a scheme. */
  grpc: string;
}

/** What the operator says of the router. */
export interface CardSettings {
  name: string;
  description: string;
  version: string;
  provider?: { organization: string; url: string };
  documentationUrl?: string;
  /** Fields that the extended card has instead of the public one's; its skills are added. */
  extended?: AgentCard;
}

export interface CardSubject {
  agentId: string;
  card: AgentCard;
}

/** The card of the router: one A2A agent with the skills of all agents. */
export function routerCard(settings: CardSettings, address: PublicAddress, agents: Iterable<CardSubject>): AgentCard {
  const cards = [...agents];
  const modes = (pick: (card: AgentCard) => string[]) => {
    const all = [...new Set(cards.flatMap(({ card }) => pick(card)))];
    return all.length > 0 ? all : ["text/plain"];
  };
  return create(AgentCardSchema, {
    name: settings.name,
    description: settings.description,
    version: settings.version,
    supportedInterfaces: interfaces(address.url, address.grpc, ""),
    ...(settings.provider && { provider: settings.provider }),
    ...(settings.documentationUrl !== undefined && { documentationUrl: settings.documentationUrl }),
    capabilities: capabilities(settings.extended !== undefined, []),
    defaultInputModes: modes((card) => card.defaultInputModes),
    defaultOutputModes: modes((card) => card.defaultOutputModes),
    skills: allSkills(cards),
  });
}

/** The router's card for those who are authenticated. */
export function extendedCard(card: AgentCard, extended: AgentCard): AgentCard {
  return create(AgentCardSchema, {
    ...card,
    name: extended.name || card.name,
    description: extended.description || card.description,
    version: extended.version || card.version,
    ...(extended.provider && { provider: extended.provider }),
    ...(extended.documentationUrl !== undefined && { documentationUrl: extended.documentationUrl }),
    ...(extended.iconUrl !== undefined && { iconUrl: extended.iconUrl }),
    skills: [...card.skills, ...extended.skills],
  });
}

/**
 * The card of an agent as clients of the router see it. Its addresses lead through the router, which streams and pushes
 * whatever the agent itself can do. The agent's signatures are of another card and are left out (section 8.4).
 */
export function servedAgentCard({ agentId, card }: CardSubject, address: PublicAddress): AgentCard {
  return create(AgentCardSchema, {
    ...card,
    supportedInterfaces: interfaces(`${address.url}/agents/${agentId}`, address.grpc, agentTenant(agentId)),
    capabilities: capabilities(false, card.capabilities?.extensions ?? []),
    // How the router is authenticated to, not how the agent is.
    securitySchemes: {},
    securityRequirements: [],
    skills: card.skills.map((skill) => ({ ...skill, securityRequirements: [] })),
    signatures: [],
  });
}

function interfaces(url: string, grpc: string, tenant: string): AgentInterface[] {
  const at = (protocolBinding: string, where: string, tenant: string) =>
    create(AgentInterfaceSchema, { url: where, protocolBinding, tenant, protocolVersion: PROTOCOL_VERSION });
  // The HTTP address of an agent names it already; gRPC has but one address for all.
  return [at("JSONRPC", url, ""), at("HTTP+JSON", url, ""), at("GRPC", grpc, tenant)];
}

function capabilities(extendedAgentCard: boolean, extensions: AgentExtension[]): AgentCapabilities {
  // Of an agent that is such a router itself, clients get our numbers and our queue, not its.
  const others = extensions.filter(({ uri }) => uri !== UPDATES_EXTENSION && uri !== ROUTING_EXTENSION);
  return create(AgentCapabilitiesSchema, {
    streaming: true,
    pushNotifications: true,
    extendedAgentCard,
    extensions: [...others, updatesDeclaration(), routingDeclaration()],
  });
}

/** Skill ids repeat over agents; in one card they must not. */
function allSkills(agents: readonly CardSubject[]): AgentSkill[] {
  const taken = new Set<string>();
  return agents.flatMap(({ agentId, card }) =>
    card.skills.map((skill) => {
      const id = taken.has(skill.id) ? `${agentId}.${skill.id}` : skill.id;
      taken.add(id);
      return { ...skill, id, securityRequirements: [] };
    }),
  );
}
