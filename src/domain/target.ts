/**
 * What a request is meant for. A2A's `tenant` field names a target in one path segment: `a.<agent>`, or `c.<capability>` for
 * whichever agent has it. The workspace comes from who calls, never from that field.
 */
import { clip, SignalboxError } from "./errors.ts";
import { isDnsLabel } from "./identifiers.ts";

export type Target = { kind: "agent"; agentId: string } | { kind: "capability"; capabilityId: string };

/** The `tenant` value by which gRPC clients reach one agent. */
export const agentTenant = (agentId: string): string => `a.${agentId}`;

/** The `tenant` value by which gRPC clients reach the agents that have a capability. */
export const capabilityTenant = (capabilityId: string): string => `c.${capabilityId}`;

export const targetNotFound = (target: string): SignalboxError =>
  new SignalboxError({
    code: "NOT_FOUND",
    reason: "TARGET_NOT_FOUND",
    message: `There is no target "${clip(target)}". Use the tenant that a card advertises, as a.<agent> or c.<capability>, or leave it out.`,
    metadata: { target: clip(target) },
  });

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
