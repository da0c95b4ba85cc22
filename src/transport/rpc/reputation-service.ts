/** signalbox.v1.ReputationService over the use cases. */
import type { ServiceImpl } from "@connectrpc/connect";
import type { ReputationService } from "../../../gen/signalbox/v1/reputation_pb.ts";
import type { Reputations } from "../../services/reputations.ts";
import { requestContextOf } from "./bind.ts";

export function createReputationService(reputations: Reputations): ServiceImpl<typeof ReputationService> {
  return {
    getReputation: (request, context) => reputations.get(requestContextOf(context), request),
    listReputations: (request, context) => reputations.list(requestContextOf(context), request),
    reportOutcome: (request, context) => reputations.report(requestContextOf(context), request),
    setTrust: (request, context) => reputations.setTrust(requestContextOf(context), request),
  };
}
