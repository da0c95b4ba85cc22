/** signalbox.v1.ApprovalService over the use cases. */
import type { ServiceImpl } from "@connectrpc/connect";
import type { ApprovalService } from "../../../gen/signalbox/v1/approval_pb.ts";
import type { Approvals } from "../../services/approvals/approvals.ts";
import { requestContextOf } from "./bind.ts";

export function createApprovalService(approvals: Approvals): ServiceImpl<typeof ApprovalService> {
  return {
    listApprovals: (request, context) => approvals.list(requestContextOf(context), request),
    getApproval: ({ approvalId }, context) => approvals.get(requestContextOf(context), approvalId),
    decideApproval: (request, context) => approvals.decide(requestContextOf(context), request),
  };
}
