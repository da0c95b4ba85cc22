/** The place of policy in the way of a request. Decides before anything is stored; throws to refuse. */
import type { AgentAddress } from "./agent-port.ts";
import type { RequestContext } from "./request-context.ts";

export interface Policy {
  /** May this caller send this to that agent? */
  admit(context: RequestContext, agent: AgentAddress): Promise<void> | void;
}

/** Everything that is not refused elsewhere is allowed. */
export const allowAll: Policy = { admit() {} };
