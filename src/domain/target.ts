/**
 * What a request is meant for. A2A's `tenant` field names a target in one path segment: `a.<agent>`. The workspace comes
 * from who calls, never from that field.
 */
import { clip, SignalboxError } from "./errors.ts";
import { isDnsLabel } from "./identifiers.ts";

export interface AgentTarget {
  kind: "agent";
  agentId: string;
}

/** The `tenant` value by which gRPC clients reach one agent. */
export const agentTenant = (agentId: string): string => `a.${agentId}`;

export const targetNotFound = (target: string): SignalboxError =>
  new SignalboxError({
    code: "NOT_FOUND",
    reason: "TARGET_NOT_FOUND",
    message: `There is no target "${clip(target)}". Use the tenant that the agent's card advertises, as a.<agent>, or leave it out.`,
    metadata: { target: clip(target) },
  });

/** Reads a `tenant` value; undefined when it is empty. Throws TARGET_NOT_FOUND for what can be no target. */
export function parseTarget(tenant: string): AgentTarget | undefined {
  if (tenant === "") return undefined;
  if (tenant.startsWith("a.") && isDnsLabel(tenant.slice(2))) return { kind: "agent", agentId: tenant.slice(2) };
  throw targetNotFound(tenant);
}
