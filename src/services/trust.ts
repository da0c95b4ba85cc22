/** How far agents are trusted, as this replica knows it now. */
import type { Access, Capability } from "../domain/capability.ts";
import type { SignalboxError } from "../domain/errors.ts";
import type { TrustRule } from "../domain/reputation/trust-rule.ts";

export interface Trust {
  /** Has what is known of a workspace's agents loaded; undefined where that is done. */
  load(workspaceId: string): Promise<void> | undefined;
  /** Share of its tasks that an agent ends well, from 0 to 1, for a capability or as a whole; undefined where nothing is known. */
  score(workspaceId: string, agentId: string, capabilityId: string | undefined): number | undefined;
  /** Why an agent is not trusted enough: AGENT_NOT_TRUSTED, with its trust, the threshold and what helps; undefined where it is. */
  refusal(asked: AskedOfTrust): SignalboxError | undefined;
}

/** An agent that is to have a task, or sends one on behalf of a task that it has. */
export interface AskedOfTrust {
  readonly workspaceId: string;
  readonly agentId: string;
  /** Left out: as a whole. */
  readonly capabilityId?: string | undefined;
  readonly access: Access;
  readonly as: "candidate" | "caller";
}

/** The rules by which workspaces trust, as this replica knows them now. */
export interface TrustRules {
  /** Has the rule of a workspace loaded; undefined where that is done. */
  load(workspaceId: string): Promise<void> | undefined;
  of(workspaceId: string): TrustRule;
}

/** Everybody is trusted, and nothing is known of anybody. */
export const trustAll: Trust = {
  load: () => undefined,
  score: () => undefined,
  refusal: () => undefined,
};

/** What must be trusted of who is given a capability. One of which nobody has said what it does is held to the lower threshold. */
export const accessNeeded = (capability: Capability | undefined): Access =>
  capability?.isAccessDeclared ? capability.access : "READ";
