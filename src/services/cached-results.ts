/** What a workspace's result cache holds, and how it is emptied. */
import type {
  CacheStats,
  ClearCacheRequest,
  ClearCacheResponse,
  GetCacheStatsRequest,
} from "../../gen/signalbox/v1/cache_pb.ts";
import { invalidArgument } from "../domain/errors.ts";
import { isDnsLabel } from "../domain/identifiers.ts";
import type { ResultCacheRepository } from "../store/result-cache-repository.ts";
import type { Audit } from "./audit.ts";
import type { LookupCounter, LookupCounts } from "./lookup-counts.ts";
import type { RequestContext } from "./request-context.ts";

export interface CachedResults {
  /** Entries are counted in the database; lookups are those of this replica, since it was started. */
  stats(context: RequestContext, request: GetCacheStatsRequest): Promise<CacheStats>;
  /** Forgets results, of one capability or of all. */
  clear(context: RequestContext, request: ClearCacheRequest): Promise<ClearCacheResponse>;
}

const NONE: LookupCounts = { hit: 0, miss: 0, follow: 0 };

export function createCachedResults(deps: {
  repository: Pick<ResultCacheRepository, "count" | "clear">;
  counter: LookupCounter;
  audit: Audit;
}): CachedResults {
  const { repository, counter, audit } = deps;
  return {
    async stats({ workspaceId }, { capabilityId }) {
      const only = capabilityIn(capabilityId);
      const entries = await repository.count(workspaceId, only);
      const counts = counter.of(workspaceId);
      const ids = only === undefined ? [...new Set([...entries.keys(), ...counts.keys()])].sort() : [only];
      const capabilities = ids.map((id) => ({
        $typeName: "signalbox.v1.CapabilityCacheStats" as const,
        capabilityId: id,
        entries: BigInt(entries.get(id) ?? 0),
        lookups: lookupsOf([counts.get(id) ?? NONE]),
      }));
      return {
        $typeName: "signalbox.v1.CacheStats",
        entries: capabilities.reduce((sum, one) => sum + one.entries, 0n),
        lookups: lookupsOf(ids.map((id) => counts.get(id) ?? NONE)),
        capabilities,
      };
    },

    async clear(context, { capabilityId }) {
      const only = capabilityIn(capabilityId);
      // Of all: the cache as a whole has no id.
      const deed = { action: "cache.clear", targetType: "cache", targetId: capabilityId };
      const cleared = await repository.clear(context.workspaceId, only, audit.recording(context, deed));
      return { $typeName: "signalbox.v1.ClearCacheResponse", cleared: BigInt(cleared) };
    },
  };
}

function capabilityIn(capabilityId: string): string | undefined {
  if (capabilityId === "") return undefined;
  if (isDnsLabel(capabilityId)) return capabilityId;
  throw invalidArgument([
    { field: "capabilityId", description: "must be the id of a capability; leave it out for all of them" },
  ]);
}

function lookupsOf(counts: readonly LookupCounts[]) {
  const sum = (of: keyof LookupCounts) => BigInt(counts.reduce((total, count) => total + count[of], 0));
  return {
    $typeName: "signalbox.v1.CacheLookups" as const,
    hits: sum("hit"),
    misses: sum("miss"),
    followed: sum("follow"),
  };
}
