/**
 * What a request is meant for. A2A's `tenant` field names a target in one path segment: `a.<agent>`, or `c.<capability>` for
 * whichever agent has it. The workspace comes from who calls, never from that field.
 */
import { clip, SignalboxError } from "./errors.ts";
import { isDnsLabel } from "./identifiers.ts";
import { nearest } from "./nearest.ts";

export type Target = { kind: "agent"; agentId: string } | { kind: "capability"; capabilityId: string };

/** The `tenant` value by which gRPC clients reach one agent. */
export const agentTenant = (agentId: string): string => `a.${agentId}`;

/** The `tenant` value by which gRPC clients reach the agents that have a capability. */
export const capabilityTenant = (capabilityId: string): string => `c.${capabilityId}`;

const refusal = (target: string, message: string): SignalboxError =>
  new SignalboxError({ code: "NOT_FOUND", reason: "TARGET_NOT_FOUND", message, metadata: { target: clip(target) } });

/** TARGET_NOT_FOUND for a `tenant` value that can be no target, or not here. */
export const targetNotFound = (target: string): SignalboxError =>
  refusal(
    target,
    `There is no target "${clip(target)}". Use the tenant that a card advertises, as a.<agent> or c.<capability>, or leave it out.`,
  );

/** TARGET_NOT_FOUND for an agent that there is not; `known` are the ids of those there are. */
export const noSuchAgent = (agentId: string, known: Iterable<string>): SignalboxError =>
  refusal(
    agentTenant(agentId),
    `There is no agent "${clip(agentId)}". ${guess(agentId, known, "signalbox agents list")}`,
  );

/** TARGET_NOT_FOUND for a capability that nobody has; `known` are the ids of those that somebody has. */
export const nobodyOffers = (capabilityId: string, known: Iterable<string>): SignalboxError =>
  refusal(
    capabilityTenant(capabilityId),
    `No agent offers capability "${clip(capabilityId)}". ${guess(capabilityId, known, "signalbox capabilities list")}`,
  );

/** TARGET_NOT_FOUND for an agent and a capability that both exist, but apart; `target` is the tenant of what is narrower. */
export const notOfferedBy = (agentId: string, capabilityId: string, target: string): SignalboxError =>
  refusal(target, `Agent "${clip(agentId)}" does not offer capability "${clip(capabilityId)}".`);

/** Among how many names the nearest is looked for. */
const MOST_CANDIDATES = 1000;

function guess(id: string, known: Iterable<string>, command: string): string {
  const candidates = Iterator.from(known).take(MOST_CANDIDATES);
  const near = nearest(clip(id), candidates, Math.max(2, Math.floor(id.length / 3)));
  return near ? `Did you mean ${near}?` : `${command} shows which there are.`;
}

/** Reads a `tenant` value; undefined when it is empty. Throws TARGET_NOT_FOUND for what can be no target. */
export function parseTarget(tenant: string): Target | undefined {
  if (tenant === "") return undefined;
  const id = tenant.slice(2);
  if (isDnsLabel(id)) {
    if (tenant.startsWith("a.")) return { kind: "agent", agentId: id };
    if (tenant.startsWith("c.")) return { kind: "capability", capabilityId: id };
  }
  throw targetNotFound(tenant);
}
