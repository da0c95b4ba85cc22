/** signalbox.v1.AuditService over the use cases. */
import type { ServiceImpl } from "@connectrpc/connect";
import type { AuditService } from "../../../gen/signalbox/v1/audit_pb.ts";
import type { AuditLogService } from "../../services/audit/audit-log.ts";
import { requestContextOf } from "./bind.ts";

export function createAuditService(log: AuditLogService): ServiceImpl<typeof AuditService> {
  return {
    listEntries: (request, context) => log.list(requestContextOf(context), request),
    getCheckpoint: ({ size }, context) => log.checkpoint(requestContextOf(context), size),
    proveInclusion: (request, context) => log.proveInclusion(requestContextOf(context), request),
    proveConsistency: (request, context) => log.proveConsistency(requestContextOf(context), request),
    verifyChain: ({ startIndex }, context) => log.verify(requestContextOf(context), startIndex),
    exportEntries: (request, context) => log.export(requestContextOf(context), request),
    listAuditKeys: async (_, context) => ({ keys: await log.keys(requestContextOf(context)) }),
  };
}
