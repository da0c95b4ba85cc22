/** How lookups in the result cache ended at this replica, by capability. In memory alone. */

/** `hit`: a result was there. `miss`: none was, and the agent is asked. `follow`: an equal task is under way. */
export type LookupOutcome = "hit" | "miss" | "follow";

export type LookupCounts = Readonly<Record<LookupOutcome, number>>;

/** Capabilities that are remembered at most, over all workspaces. The one first counted is forgotten first. */
const MOST_CAPABILITIES = 10_000;

export interface LookupCounter {
  count(workspaceId: string, capabilityId: string, outcome: LookupOutcome): void;
  /** Those of a workspace, by capability. */
  of(workspaceId: string): Map<string, LookupCounts>;
}

export function createLookupCounter(): LookupCounter {
  const counts = new Map<string, Record<LookupOutcome, number>>();
  return {
    count(workspaceId, capabilityId, outcome) {
      // Neither id holds a space.
      const key = `${workspaceId} ${capabilityId}`;
      let known = counts.get(key);
      if (!known) {
        known = { hit: 0, miss: 0, follow: 0 };
        counts.set(key, known);
        if (counts.size > MOST_CAPABILITIES) counts.delete(counts.keys().next().value!);
      }
      known[outcome] += 1;
    },
    of: (workspaceId) =>
      new Map(
        [...counts].flatMap(([key, count]) => {
          const [workspace, capabilityId] = key.split(" ");
          return workspace === workspaceId ? [[capabilityId!, count]] : [];
        }),
      ),
  };
}
