/** What a workspace uses of its quotas, for GetQuotas. */
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { type QuotaUse, QuotaUseSchema } from "../../../gen/signalbox/v1/workspace_pb.ts";
import type { QuotaRepository } from "../../store/quota-repository.ts";

export interface QuotaUses {
  /**
   * Tasks are counted now; streams as servers told within the last seconds; bytes within the last minute, and only where there is a quota
   * of them: else they are 0, without a time.
   */
  of(workspaceId: string): Promise<QuotaUse>;
}

export function createQuotaUses(repository: Pick<QuotaRepository, "read" | "inFlight" | "openStreams">): QuotaUses {
  return {
    async of(workspaceId) {
      const [tasks, streams, [record]] = await Promise.all([
        repository.inFlight(workspaceId),
        repository.openStreams(workspaceId),
        repository.read([workspaceId]),
      ]);
      const { storedBytes, storedBytesAt } = record!;
      return create(QuotaUseSchema, {
        tasksInFlight: BigInt(tasks),
        streams: BigInt(streams),
        storedBytes: BigInt(storedBytes ?? 0),
        ...(storedBytesAt && { storedBytesTime: timestampFromDate(storedBytesAt) }),
      });
    },
  };
}
