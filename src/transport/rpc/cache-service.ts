/** signalbox.v1.CacheService over the use cases. */
import type { ServiceImpl } from "@connectrpc/connect";
import type { CacheService } from "../../../gen/signalbox/v1/cache_pb.ts";
import type { CachedResults } from "../../services/cached-results.ts";
import { requestContextOf } from "./bind.ts";

export function createCacheService(results: CachedResults): ServiceImpl<typeof CacheService> {
  return {
    getCacheStats: (request, context) => results.stats(requestContextOf(context), request),
    clearCache: (request, context) => results.clear(requestContextOf(context), request),
  };
}
