/** How far agents are trusted, as this replica knows it now. */
import type { Access } from "../domain/capability.ts";

export interface Trust {
  /** Has what is known of a workspace's agents loaded; undefined where that is done. */
  load(workspaceId: string): Promise<void> | undefined;
  /** Share of its tasks that an agent ends well, from 0 to 1, for a capability or as a whole; undefined where nothing is known. */
  score(workspaceId: string, agentId: string, capabilityId: string | undefined): number | undefined;
  /** Whether an agent is trusted enough for capabilities of such access. */
  isTrusted(workspaceId: string, agentId: string, capabilityId: string | undefined, access: Access): boolean;
}

/** Everybody is trusted, and nothing is known of anybody. */
export const trustAll: Trust = { load: () => undefined, score: () => undefined, isTrusted: () => true };
