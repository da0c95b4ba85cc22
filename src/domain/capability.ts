/**
 * What agents can do: the skills of their cards, and what was said of them with AddCapability. Agents that can do the same
 * offer the same capability. Pure.
 */
import type { JsonObject } from "@bufbuild/protobuf";
import type { AgentCard, AgentSkill } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { slug } from "./identifiers.ts";

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
  maxLatencyMs: number;
  availability: number;
  access: Access;
  safeToRepeat: boolean;
  labels: Readonly<Record<string, string>>;
}

export const DEFAULT_MAX_LATENCY_MS = 5_000;
export const DEFAULT_AVAILABILITY = 0.99;

/** The id of the capability that a skill is: the skill's own id where that is a DNS label, else what can be made of it. */
export const capabilityIdOf = ({ id, name }: Pick<AgentSkill, "id" | "name">): string | undefined =>
  slug(id) ?? slug(name);

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
    access: "WRITE",
    safeToRepeat: false,
    labels: {},
  };
}
