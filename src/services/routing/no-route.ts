/** What a client is told when no agent can take its task. */
import type { RouteDecision } from "../../../gen/signalbox/v1/routing_pb.ts";
import { clip, invalidArgument, SignalboxError } from "../../domain/errors.ts";
import { ROUTING_EXTENSION } from "../../domain/routing-extension.ts";
import type { WorkspaceAgents } from "../agent-directory.ts";
import { type Cut, type CutReason, isUnavailable } from "./offers.ts";
import { matchedCapabilities } from "./text.ts";

/** Skills that a refusal names at most, and how long their list and one name may be. */
const NAMED_SKILLS = 20;
const MAX_LIST_LENGTH = 1024;
const MAX_NAME_LENGTH = 64;

const IN_WORDS: Record<CutReason, string> = {
  ROUTE_MODE: "are not where the task may go (route mode)",
  LABELS: "do not have the labels",
  MAX_COST: "cost more",
  EXTENSION_REQUIRED: "require an extension that the client did not name",
  MEDIA_TYPE: "do not take a media type of the message",
  INPUT_SCHEMA: "do not take its data",
  POLICY: "are refused by policy",
  APPROVAL: "need an approval that others do not need",
  CANARY: "are on the other side of a canary",
  FULL: "have as many tasks as they may have",
  FAILED: "have failed it",
  HEDGED: "have it already",
  UNHEALTHY: "fail their health checks or owe a heartbeat",
  CIRCUIT_OPEN: "could not be reached of late",
  EJECTED: "fail too many tasks",
};

/** No agent can take a message: FAILED_PRECONDITION, reason NO_ROUTE. */
export class NoRouteError extends SignalboxError {
  /** Set where the workspace wants a task that is REJECTED instead: what is kept of where an agent was looked for. */
  rejection: RouteDecision | undefined;
}

/** Nothing says where the task should go: NO_ROUTE, naming the skills that are nearest to the text. */
export function noRoute(agents: WorkspaceAgents, text: string): NoRouteError {
  const { byId } = agents;
  if (byId.size === 0) return refusal("No agent is registered. Register one: signalbox agents register URL.", {});
  return refusal(
    `Several agents are registered, none is the default, and the message fits the skills of none. Name one in tenant, or set a default: signalbox agents default ID. ${nearestSkills(agents, text)}`,
    { agents: [...byId.keys()].slice(0, NAMED_SKILLS).join(",") },
  );
}

/**
 * Agents were found, and none can take it. Where all say the same, that is the answer, as the agent itself would give it;
 * else NO_ROUTE with how many were cut by what, and the skills that are nearest to the text. Where some could, and are just not
 * available, it is worth another try: AGENT_UNAVAILABLE, with the time after which the first of them may be. Where the policy
 * refuses all who could, it is POLICY_DENIED, as the first of them was refused.
 */
export function nothingFits(cuts: readonly Cut[], agents: WorkspaceAgents, text: string): SignalboxError {
  if (isUnavailable(cuts)) return nobodyAvailable(cuts.filter(({ retryInMs }) => retryInMs !== undefined));
  const refused = cuts.find(({ reason }) => reason === "POLICY");
  if (refused?.refusal) return refused.refusal;
  const [only] = cuts;
  if (!only) return nobodyOffers();
  if (cuts.length === 1 && only.refusal) return only.refusal;
  const count = cuts.reduce((sum, { agentIds }) => sum + agentIds.length, 0);
  const why = cuts.map(({ reason, agentIds }) => `${agentIds.length} ${IN_WORDS[reason]}`).join(", ");
  return refusal(
    `None of the ${count} agents in question can take the task: ${why}. Change the message or what it asks for; signalbox route preview shows what fits. ${nearestSkills(agents, text)}`,
    Object.fromEntries(cuts.map(({ reason, agentIds }) => [reason, String(agentIds.length)])),
  );
}

const refusal = (message: string, metadata: Record<string, string>): NoRouteError =>
  new NoRouteError({ code: "FAILED_PRECONDITION", reason: "NO_ROUTE", message: message.trimEnd(), metadata });

/** The skills that fit the text best, each with the tenant that asks for it; then the others, by their ids. */
function nearestSkills({ byCapability, search }: WorkspaceAgents, text: string): string {
  const near = matchedCapabilities(search, text).map(({ capabilityId }) => capabilityId);
  const named: string[] = [];
  for (const capabilityId of new Set([...near, ...byCapability.keys()])) {
    const name = byCapability.get(capabilityId)?.[0]?.capability.name;
    if (name !== undefined) named.push(`${clip(name, MAX_NAME_LENGTH)} (c.${capabilityId})`);
    if (named.length === NAMED_SKILLS) break;
  }
  if (named.length === 0) return "";
  const more = byCapability.size - named.length;
  const list = clip(named.join(", "), MAX_LIST_LENGTH);
  return `${near.length > 0 ? "Nearest skills" : "Skills"}: ${list}${more > 0 ? `, and ${more} more` : ""}.`;
}

/** The capability is known, because traffic to it is steered, but nobody offers it. */
const nobodyOffers = (): SignalboxError =>
  new SignalboxError({
    code: "FAILED_PRECONDITION",
    reason: "NO_ROUTE",
    message: "No agent offers the capability now, nor did its fallback chain lead to one that can take the task.",
  });

function nobodyAvailable(cuts: readonly Cut[]): SignalboxError {
  const agentIds = cuts.flatMap((cut) => cut.agentIds);
  const why = cuts.map(({ reason, agentIds: { length } }) => `${length} ${IN_WORDS[reason]}`).join(", ");
  return new SignalboxError({
    code: "UNAVAILABLE",
    reason: "AGENT_UNAVAILABLE",
    message: `No agent that could take the task takes any now: of ${agentIds.length}, ${why}. Nothing was stored; try again later. signalbox agents list shows how they do.`,
    metadata: {
      agents: agentIds.slice(0, NAMED_SKILLS).join(","),
      ...Object.fromEntries(cuts.map(({ reason, agentIds: { length } }) => [reason, String(length)])),
    },
    retryAfterMs: Math.min(...cuts.map(({ retryInMs = 0 }) => retryInMs)),
  });
}

/** The extension of a message says something else than its target. */
export const contradiction = (key: "agent" | "capability"): SignalboxError =>
  invalidArgument([
    {
      field: `metadata["${ROUTING_EXTENSION}"].${key}`,
      description: "is not the one that the address or the tenant names; leave one of them out",
    },
  ]);
