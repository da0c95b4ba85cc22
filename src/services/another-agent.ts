/** The ports through which a task that was dispatched finds another agent than the one that has it, and what its rollout says. */

import type { Message } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { type RouteDecision, RouteDecisionSchema } from "../../gen/signalbox/v1/routing_pb.ts";
import type { Capability } from "../domain/capability.ts";
import { encode } from "../domain/encode.ts";
import { ownerAsViewer } from "../domain/identity/visibility.ts";
import type { Rollout } from "../domain/rollout.ts";
import { givenCapabilityId, type TaskHeader } from "../domain/task-log.ts";
import type { Reroute } from "../store/append-batch.ts";
import type { TaskStore } from "../store/task-store.ts";
import type { AgentEndpoint } from "./agent-port.ts";

/** What is said of the traffic of a workspace, or of one of its capabilities. What is known is given without a promise. */
export interface RolloutSource {
  of(workspaceId: string, capabilityId: string | undefined): Rollout | Promise<Rollout>;
}

/** What of a capability counts when a task is given to an agent for it. */
type Offered = Pick<Capability, "capabilityId" | "safeToRepeat" | "outputSchema">;

/** An agent that a task may go to. */
export interface AnotherAgent {
  readonly agent: AgentEndpoint;
  /** The capability for which it would have the task; undefined where it is asked by its name alone. */
  readonly capability: Offered | undefined;
  /** How it was chosen, with those that had the task among the cuts; without the task's id. */
  readonly decision: RouteDecision;
}

/**
 * Finds another agent for a task, by its first message; undefined when there is none. `task.capabilityId` is the capability
 * that its client gave it to, whoever has it by now.
 */
export type FindAnotherAgent = (
  task: TaskHeader,
  message: Message,
  exclude: readonly string[],
) => Promise<AnotherAgent | undefined>;

/** The task as its client gave it: what its rollout and its other agents follow from. */
export const asGiven = (header: TaskHeader): TaskHeader =>
  header.origin ? { ...header, capabilityId: givenCapabilityId(header) } : header;

/** An agent as a task is given to it for what it offers: what may be repeated is said of either. */
export function endpointOf({ agent, capability }: Pick<AnotherAgent, "agent" | "capability">): AgentEndpoint {
  const { safeToRepeat = false, outputSchema } = capability ?? {};
  if ((!safeToRepeat || agent.safeToRepeat) && !outputSchema) return agent;
  return { ...agent, safeToRepeat: agent.safeToRepeat || safeToRepeat, ...(outputSchema && { outputSchema }) };
}

/** What is stored when a task goes to another agent. */
export async function rerouteTo(
  { agent, capability, decision }: AnotherAgent,
  header: TaskHeader,
  store: Pick<TaskStore, "findUpstreamContext">,
): Promise<Reroute> {
  const { workspaceId, contextId } = header;
  const { agentId } = agent;
  return {
    agentId,
    capabilityId: capability?.capabilityId,
    decision: encode(RouteDecisionSchema, decision),
    upstreamContextId: await store.findUpstreamContext(workspaceId, {
      contextId,
      agentId,
      viewer: ownerAsViewer(header),
    }),
  };
}
