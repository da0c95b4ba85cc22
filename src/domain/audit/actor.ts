/** How entries name who acts, beside principals, who are named as they are. */
import type { JsonObject } from "@bufbuild/protobuf";

/** Prefixes keep agents and replicas apart from principals: no principal's id holds a colon. */
export const agentActor = (agentId: string): string => `agent:${agentId}`;

export const routerActor = (replicaId: string): string => `router:${replicaId}`;

/** What the detail of an entry says of those who act for its actor, the one that has called first. Nothing where it has called itself. */
export const actingDetail = (actors: readonly string[] | undefined): JsonObject | undefined =>
  actors === undefined || actors.length === 0 ? undefined : { actors: [...actors] };
