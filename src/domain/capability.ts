/**
 * What agents can do: the skills of their cards, and what was said of them with AddCapability. Agents that can do the same
 * offer the same capability. Pure.
 */
import { create, type JsonObject } from "@bufbuild/protobuf";
import { type AgentCard, type AgentSkill, AgentSkillSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { Access as GivenAccess, type Capability as GivenCapability } from "../../gen/signalbox/v1/registry_pb.ts";
import { slug } from "./identifiers.ts";
import { costMicros } from "./money.ts";

/** Whether a capability changes something in the world. */
export type Access = "READ" | "WRITE";

/** One agent's offer of one capability. */
export interface Capability {
  /** A DNS label. */
  capabilityId: string;
  agentId: string;
  /** The id of the card's skill, as the card has it; undefined when the card has none. */
  skillId: string | undefined;
  name: string;
  description: string;
  tags: readonly string[];
  examples: readonly string[];
  inputModes: readonly string[];
  outputModes: readonly string[];
  /** JSON Schema of data parts. */
  inputSchema: JsonObject | undefined;
  outputSchema: JsonObject | undefined;
  /** What a task costs, in millionths of the workspace's currency: money is counted, not measured. */
  costMicros: number;
  /** Declared, in milliseconds; undefined when not known. */
  averageLatencyMs: number | undefined;
  /** Tasks at once; undefined when there is no limit. */
  maxConcurrency: number | undefined;
  /** Longest time of a task, in milliseconds. */
  maxLatencyMs: number;
  /** Share of tasks that do not fail, from 0 to 1. */
  availability: number;
  /** Whether anybody has said one of the two; else both are the defaults. */
  isSlaDeclared: boolean;
  access: Access;
  /** Whether anybody has said what its access is; else it is thought to be WRITE. */
  isAccessDeclared: boolean;
  safeToRepeat: boolean;
  labels: Readonly<Record<string, string>>;
  /** How long a result may be given again, in milliseconds; 0: never. */
  cacheTtlMs: number;
  /** Whether it may be given to other principals than the one that it was made for. */
  cacheShared: boolean;
}

export const DEFAULT_MAX_LATENCY_MS = 5_000;
export const DEFAULT_AVAILABILITY = 0.99;

/** The id of the capability that a skill is: the skill's own id where that is a DNS label, else what can be made of it. */
export const capabilityIdOf = ({ id, name }: Pick<AgentSkill, "id" | "name">): string | undefined =>
  slug(id) ?? slug(name);

/** What AddCapability said: the message as it came. What it leaves empty, it does not say. */
export type { GivenCapability };

/** The capability that a skill of a card is, as far as the card tells. Undefined where no id can be made of it. */
export function capabilityOfSkill(agentId: string, card: AgentCard, skill: AgentSkill): Capability | undefined {
  const capabilityId = capabilityIdOf(skill);
  if (capabilityId === undefined) return undefined;
  return {
    capabilityId,
    agentId,
    skillId: skill.id,
    name: skill.name,
    description: skill.description,
    tags: skill.tags,
    examples: skill.examples,
    inputModes: skill.inputModes.length > 0 ? skill.inputModes : card.defaultInputModes,
    outputModes: skill.outputModes.length > 0 ? skill.outputModes : card.defaultOutputModes,
    inputSchema: undefined,
    outputSchema: undefined,
    costMicros: 0,
    averageLatencyMs: undefined,
    maxConcurrency: undefined,
    maxLatencyMs: DEFAULT_MAX_LATENCY_MS,
    availability: DEFAULT_AVAILABILITY,
    isSlaDeclared: false,
    access: "WRITE",
    isAccessDeclared: false,
    safeToRepeat: false,
    labels: {},
    cacheTtlMs: 0,
    cacheShared: false,
  };
}

/**
 * Everything that an agent offers: the skills of its card in their order, then what was given beside them. What was given
 * wins field by field where it says something. Of two skills that make the same id, the first counts.
 */
export function capabilitiesOf(agentId: string, card: AgentCard, given: readonly GivenCapability[]): Capability[] {
  const offered = new Map<string, Capability>();
  for (const skill of card.skills) {
    const capability = capabilityOfSkill(agentId, card, skill);
    if (capability && !offered.has(capability.capabilityId)) offered.set(capability.capabilityId, capability);
  }
  for (const said of given) {
    const { capabilityId } = said;
    offered.set(
      capabilityId,
      merged(offered.get(capabilityId) ?? capabilityOfNothing(agentId, card, capabilityId), said),
    );
  }
  return [...offered.values()];
}

/** A capability of which nobody has said anything but its id. */
function capabilityOfNothing(agentId: string, card: AgentCard, capabilityId: string): Capability {
  const skill = create(AgentSkillSchema, { id: capabilityId, name: capabilityId });
  return { ...capabilityOfSkill(agentId, card, skill)!, skillId: undefined };
}

function merged(known: Capability, said: GivenCapability): Capability {
  const list = (given: readonly string[], other: readonly string[]) => (given.length > 0 ? given : other);
  const { serviceLevel, access } = said;
  return {
    ...known,
    name: said.name || known.name,
    description: said.description || known.description,
    tags: list(said.tags, known.tags),
    examples: list(said.examples, known.examples),
    inputModes: list(said.inputModes, known.inputModes),
    outputModes: list(said.outputModes, known.outputModes),
    inputSchema: said.inputSchema ?? known.inputSchema,
    outputSchema: said.outputSchema ?? known.outputSchema,
    // What is stored was checked when it was given.
    costMicros: costMicros(said.costPerTask) ?? known.costMicros,
    averageLatencyMs: Number(said.averageLatencyMs) || known.averageLatencyMs,
    maxConcurrency: said.maxConcurrency || known.maxConcurrency,
    maxLatencyMs: Number(serviceLevel?.maxLatencyMs ?? 0) || known.maxLatencyMs,
    availability: serviceLevel?.availability || known.availability,
    isSlaDeclared: Boolean(serviceLevel?.maxLatencyMs || serviceLevel?.availability),
    ...(access === GivenAccess.READ && { access: "READ", isAccessDeclared: true }),
    ...(access === GivenAccess.WRITE && { access: "WRITE", isAccessDeclared: true }),
    safeToRepeat: said.safeToRepeat || known.safeToRepeat,
    labels: { ...known.labels, ...said.labels },
    cacheTtlMs: Number(said.cacheTtlMs) || known.cacheTtlMs,
    cacheShared: said.cacheShared || known.cacheShared,
  };
}
