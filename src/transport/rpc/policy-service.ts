/** signalbox.v1.PolicyService over the use cases. */
import type { ServiceImpl } from "@connectrpc/connect";
import type { PolicyService } from "../../../gen/signalbox/v1/policy_pb.ts";
import type { PolicyTrials } from "../../services/policy-trials.ts";
import type { PolicyVersions } from "../../services/policy-versions.ts";
import { requestContextOf } from "./bind.ts";

export function createPolicyService(versions: PolicyVersions, trials: PolicyTrials): ServiceImpl<typeof PolicyService> {
  return {
    getPolicy: (request, context) => versions.get(requestContextOf(context), request),
    putPolicy: (request, context) => versions.put(requestContextOf(context), request),
    validatePolicy: (request, context) => versions.validate(requestContextOf(context), request),
    evaluatePolicy: (request, context) => trials.evaluate(requestContextOf(context), request),
    replayPolicy: (request, context) => trials.replay(requestContextOf(context), request),
    listPolicyVersions: (request, context) => versions.list(requestContextOf(context), request),
    rollbackPolicy: (request, context) => versions.rollback(requestContextOf(context), request),
  };
}
