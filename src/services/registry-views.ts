/** How the registry shows what it has, and says that it does not have something. */
import { create } from "@bufbuild/protobuf";
import { timestampDate, timestampFromDate } from "@bufbuild/protobuf/wkt";
import { type AgentCard, AgentCardSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import {
  Access,
  type Agent,
  type AgentHealth,
  AgentSchema,
  CapabilitySchema,
} from "../../gen/signalbox/v1/registry_pb.ts";
import type { Capability } from "../domain/capability.ts";
import { SignalboxError } from "../domain/errors.ts";
import { isDnsLabel } from "../domain/identifiers.ts";
import { decimalOf } from "../domain/money.ts";
import type { StandingNow } from "../domain/reputation/agent-standings.ts";
import type { AgentRecord } from "../store/agent-repository.ts";
import type { AgentDirectory } from "./agent-directory.ts";
import type { AgentConnector } from "./agent-port.ts";
import type { KnownStandings } from "./known-standings.ts";

/** How agents stand, for whoever shows them. */
export type Standings = Pick<KnownStandings, "load" | "standing">;

/** An agent as clients see it. `defaultId` is the workspace's default agent; `health` is left out of one that has just gone. */
export function agentView(
  agent: AgentRecord,
  defaultId: string | undefined,
  connector: AgentConnector,
  health: AgentHealth | undefined,
  standing: StandingNow | undefined,
): Agent {
  const used = connector.pick(agent.card);
  const { home } = agent;
  return create(AgentSchema, {
    agentId: agent.agentId,
    card: home ? borrowersCard(agent.card) : agent.card,
    cardUrl: agent.cardUrl ?? "",
    ...(used && !home && { interface: used }),
    lentByWorkspaceId: home?.workspaceId ?? "",
    isDefault: agent.agentId === defaultId,
    etag: `"${agent.revision}"`,
    createTime: timestampFromDate(agent.createdAt),
    updateTime: timestampFromDate(agent.updatedAt),
    cardFetchTime: timestampFromDate(cardFetchedAt(agent, health)),
    safeToRepeat: agent.safeToRepeat,
    protocolVersion: used?.protocolVersion ?? "",
    ...(health && { health }),
    ...(standing && { standing: { ...standing } }),
    maxConcurrency: agent.maxConcurrency ?? 0,
    // What is wrong with it may say where the agent is.
    ...(agent.cardSignature && { cardSignature: { ...agent.cardSignature, ...(home && { problem: "" }) } }),
  });
}

/**
 * The card without where the agent is and how to get in there: it is had through this router alone. Its signatures were made for the
 * whole.
 */
function borrowersCard(card: AgentCard): AgentCard {
  return create(AgentCardSchema, {
    ...card,
    supportedInterfaces: [],
    securitySchemes: {},
    securityRequirements: [],
    signatures: [],
  });
}

/** A check that passed, and found nothing odd, has found the card as it is stored. */
function cardFetchedAt({ cardUrl, cardFetchedAt: storedAt }: AgentRecord, health: AgentHealth | undefined): Date {
  const { lastSuccessTime, reason = "" } = health ?? {};
  if (cardUrl === undefined || !lastSuccessTime || reason !== "") return storedAt;
  return new Date(Math.max(storedAt.getTime(), timestampDate(lastSuccessTime).getTime()));
}

/** A capability as clients see it: with all that is known of it, wherever it was said. */
export function capabilityView(capability: Capability, standing?: StandingNow) {
  const { costMicros, averageLatencyMs = 0, maxConcurrency = 0, maxLatencyMs, availability } = capability;
  const {
    capabilityId,
    agentId,
    skillId = "",
    name,
    description,
    safeToRepeat,
    inputSchema,
    outputSchema,
  } = capability;
  return create(CapabilitySchema, {
    capabilityId,
    agentId,
    skillId,
    name,
    description,
    tags: [...capability.tags],
    examples: [...capability.examples],
    inputModes: [...capability.inputModes],
    outputModes: [...capability.outputModes],
    ...(inputSchema && { inputSchema }),
    ...(outputSchema && { outputSchema }),
    costPerTask: costMicros === 0 ? "" : decimalOf(costMicros),
    averageLatencyMs: BigInt(averageLatencyMs),
    maxConcurrency,
    serviceLevel: { maxLatencyMs: BigInt(maxLatencyMs), availability },
    serviceLevelDeclared: capability.isSlaDeclared,
    access: Access[capability.access],
    accessDeclared: capability.isAccessDeclared,
    safeToRepeat,
    labels: { ...capability.labels },
    cacheTtlMs: BigInt(capability.cacheTtlMs),
    cacheShared: capability.cacheShared,
    ...(standing && { standing: { ...standing } }),
  });
}

/** Why an agent cannot be changed that is none of the workspace's own: there is none, or another workspace lends it. */
export async function notOwn(
  directory: Pick<AgentDirectory, "agents">,
  workspaceId: string,
  agentId: string,
): Promise<SignalboxError> {
  const lent = isDnsLabel(agentId) ? (await directory.agents(workspaceId)).lent.get(agentId) : undefined;
  if (!lent) return agentNotFound(agentId);
  return new SignalboxError({
    code: "FAILED_PRECONDITION",
    reason: "AGENT_IS_LENT",
    message: `Agent "${agentId}" is lent by workspace "${lent.workspaceId}", which alone can change it. To be without it, end its grant (signalbox grants revoke).`,
    metadata: { agentId, lentByWorkspaceId: lent.workspaceId },
  });
}

export const agentNotFound = (agentId: string) =>
  new SignalboxError({
    code: "NOT_FOUND",
    reason: "AGENT_NOT_FOUND",
    message: `There is no agent "${agentId.slice(0, 128)}".`,
    metadata: { agentId: agentId.slice(0, 128) },
  });
