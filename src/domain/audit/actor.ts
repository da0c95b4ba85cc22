/** How entries name who acts, beside principals, who are named as they are. */

/** Prefixes keep agents and replicas apart from principals: no principal's id holds a colon. */
export const agentActor = (agentId: string): string => `agent:${agentId}`;

export const routerActor = (replicaId: string): string => `router:${replicaId}`;
