/** The cards that clients see: the router's own, each agent's and each capability's, with addresses that lead through the router. */
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
  AgentSkillSchema,
} from "../../gen/lf/a2a/v1/a2a_pb.ts";
import type { Capability } from "./capability.ts";
import { DELEGATION_EXTENSION, delegationDeclaration } from "./delegation-extension.ts";
import { exchangeDeclaration } from "./exchange-extension.ts";
import type { CardSecurity } from "./identity/security-schemes.ts";
import { ROUTING_EXTENSION, routingDeclaration } from "./routing-extension.ts";
import { agentTenant, capabilityTenant } from "./target.ts";
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
  /** How callers say who they are; left out, cards say nothing of it. */
  security?: CardSecurity;
  /** Fields that the extended card has instead of the public one's; its skills are added. */
  extended?: AgentCard;
}

export interface CardSubject {
  agentId: string;
  card: AgentCard;
  /** Those of its skills that the card shows; left out, all. */
  skills?: readonly AgentSkill[];
}

/** A capability, and the agents that have it, in the order of their ids: at least one. */
export interface CapabilitySubject {
  capabilityId: string;
  offers: readonly { agent: { card: AgentCard }; capability: Capability }[];
  /** Whether its updates are streamed; left out, they are. */
  streaming?: boolean;
}

/** The card of the router: one A2A agent with the skills of all agents. */
export function routerCard(settings: CardSettings, address: PublicAddress, agents: Iterable<CardSubject>): AgentCard {
  const cards = [...agents];
  return create(AgentCardSchema, {
    name: settings.name,
    description: settings.description,
    version: settings.version,
    supportedInterfaces: interfaces(address.url, address.grpc, ""),
    ...(settings.provider && { provider: settings.provider }),
    ...(settings.documentationUrl !== undefined && { documentationUrl: settings.documentationUrl }),
    capabilities: capabilities(true, [exchangeDeclaration()]),
    ...declared(settings),
    defaultInputModes: union(cards.map(({ card }) => card.defaultInputModes)),
    defaultOutputModes: union(cards.map(({ card }) => card.defaultOutputModes)),
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
export function servedAgentCard(
  { agentId, card, skills = card.skills }: CardSubject,
  address: PublicAddress,
  settings: Pick<CardSettings, "security"> = {},
): AgentCard {
  return create(AgentCardSchema, {
    ...card,
    supportedInterfaces: interfaces(`${address.url}/agents/${agentId}`, address.grpc, agentTenant(agentId)),
    capabilities: capabilities(false, card.capabilities?.extensions ?? []),
    // How the router is authenticated to, not how the agent is.
    ...declared(settings),
    skills: skills.map((skill) => ({ ...skill, securityRequirements: [] })),
    signatures: [],
  });
}

/**
 * The card of a capability: one A2A agent with one skill, whichever agent takes its tasks. What people read is what the first
 * of the agents says of it. The version and the provider are the router's, because it is the router that chooses.
 */
export function capabilityCard(
  settings: Pick<CardSettings, "version" | "provider" | "security">,
  address: PublicAddress,
  { capabilityId, offers, streaming }: CapabilitySubject,
): AgentCard {
  const first = offers[0]?.capability;
  const name = first?.name || capabilityId;
  const description = first?.description || `The capability ${capabilityId}.`;
  return create(AgentCardSchema, {
    name,
    description,
    version: settings.version,
    supportedInterfaces: interfaces(
      `${address.url}/capabilities/${capabilityId}`,
      address.grpc,
      capabilityTenant(capabilityId),
    ),
    ...(settings.provider && { provider: settings.provider }),
    capabilities: capabilities(false, sharedExtensions(offers.map(({ agent }) => agent.card)), streaming),
    ...declared(settings),
    defaultInputModes: union(offers.map(({ capability }) => capability.inputModes)),
    defaultOutputModes: union(offers.map(({ capability }) => capability.outputModes)),
    skills: [
      create(AgentSkillSchema, {
        id: capabilityId,
        name,
        description,
        tags: [...(first?.tags ?? [])],
        examples: [...(first?.examples ?? [])],
      }),
    ],
  });
}

const declared = ({ security }: Pick<CardSettings, "security">) => ({
  securitySchemes: { ...security?.schemes },
  securityRequirements: [...(security?.requirements ?? [])],
});

/** Each media type once. What says none takes text. */
function union(modes: readonly (readonly string[])[]): string[] {
  const all = [...new Set(modes.flat())];
  return all.length > 0 ? all : ["text/plain"];
}

/** What clients can count on, whichever of the agents takes the task: what all declare, and required where all require it. */
function sharedExtensions(cards: readonly AgentCard[]): AgentExtension[] {
  const [first, ...others] = cards.map(
    (card) => new Map((card.capabilities?.extensions ?? []).map((extension) => [extension.uri, extension])),
  );
  return [...(first?.values() ?? [])]
    .filter(({ uri }) => others.every((declared) => declared.has(uri)))
    .map((extension) => ({
      ...extension,
      required: extension.required && others.every((declared) => declared.get(extension.uri)?.required),
    }));
}

function interfaces(url: string, grpc: string, tenant: string): AgentInterface[] {
  const at = (protocolBinding: string, where: string, tenant: string) =>
    create(AgentInterfaceSchema, { url: where, protocolBinding, tenant, protocolVersion: PROTOCOL_VERSION });
  // The HTTP address of a target names it already; gRPC has but one address for all.
  return [at("JSONRPC", url, ""), at("HTTP+JSON", url, ""), at("GRPC", grpc, tenant)];
}

/** Extensions that are between clients and us. */
const OURS = [UPDATES_EXTENSION, ROUTING_EXTENSION, DELEGATION_EXTENSION];

function capabilities(extendedAgentCard: boolean, extensions: AgentExtension[], streaming = true): AgentCapabilities {
  // Of an agent that is such a router itself, clients get our numbers and our queue, not its.
  const others = extensions.filter(({ uri }) => !OURS.includes(uri));
  return create(AgentCapabilitiesSchema, {
    streaming,
    pushNotifications: true,
    extendedAgentCard,
    extensions: [...others, updatesDeclaration(), routingDeclaration(), delegationDeclaration()],
  });
}

/** Skill ids repeat over agents; in one card they must not. */
function allSkills(agents: readonly CardSubject[]): AgentSkill[] {
  const taken = new Set<string>();
  return agents.flatMap(({ agentId, card, skills = card.skills }) =>
    skills.map((skill) => {
      const id = taken.has(skill.id) ? `${agentId}.${skill.id}` : skill.id;
      taken.add(id);
      return { ...skill, id, securityRequirements: [] };
    }),
  );
}
