/** What a client is told when no agent can take its task. */
import { clip, invalidArgument, SignalboxError } from "../../domain/errors.ts";
import { ROUTING_EXTENSION } from "../../domain/routing-extension.ts";
import type { WorkspaceAgents } from "../agent-directory.ts";
import { type Cut, type CutReason, isUnavailable } from "./offers.ts";

/** Skills that a refusal names at most, and how long their list and one name may be. */
const NAMED_SKILLS = 20;
const MAX_LIST_LENGTH = 1024;
const MAX_NAME_LENGTH = 64;

const IN_WORDS: Record<CutReason, string> = {
  LABELS: "do not have the labels",
  MAX_COST: "cost more",
  EXTENSION_REQUIRED: "require an extension that the client did not name",
  MEDIA_TYPE: "do not take a media type of the message",
  INPUT_SCHEMA: "do not take its data",
  UNHEALTHY: "fail their health checks or owe a heartbeat",
  CIRCUIT_OPEN: "could not be reached of late",
  EJECTED: "fail too many tasks",
};

/** Nothing says where the task should go: NO_ROUTE, naming the skills that there are. */
export function noRoute({ byId }: WorkspaceAgents): SignalboxError {
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
        : `Several agents are registered, none is the default, and the message fits the skills of none. Name one in tenant, or set one: signalbox agents default ID. Skills: ${named}${more}.`,
    metadata: { agents: [...byId.keys()].slice(0, NAMED_SKILLS).join(",") },
  });
}

/**
 * Agents were found, and none can take it. Where all say the same, that is the answer, as the agent itself would give it;
 * else NO_ROUTE with how many were cut by what. Where some could, and are just not available, it is worth another try:
 * AGENT_UNAVAILABLE, with the time after which the first of them may be.
 */
export function nothingFits(cuts: readonly Cut[]): SignalboxError {
  if (isUnavailable(cuts)) return nobodyAvailable(cuts.filter(({ retryInMs }) => retryInMs !== undefined));
  const [only] = cuts;
  if (cuts.length === 1 && only?.refusal) return only.refusal;
  const count = cuts.reduce((sum, { agentIds }) => sum + agentIds.length, 0);
  const why = cuts.map(({ reason, agentIds }) => `${agentIds.length} ${IN_WORDS[reason]}`).join(", ");
  return new SignalboxError({
    code: "FAILED_PRECONDITION",
    reason: "NO_ROUTE",
    message: `None of the ${count} agents in question can take the task: ${why}. Change the message or what it asks for; signalbox route preview shows what fits.`,
    metadata: Object.fromEntries(cuts.map(({ reason, agentIds }) => [reason, String(agentIds.length)])),
  });
}

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
