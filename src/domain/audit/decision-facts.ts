/** What the audit log says of how an agent was chosen, beside the digest of the whole decision. Pure. */
import type { JsonObject } from "@bufbuild/protobuf";
import { PolicyEffect } from "../../../gen/signalbox/v1/policy_pb.ts";
import type { RouteDecision } from "../../../gen/signalbox/v1/routing_pb.ts";

/** Rules that an entry names, the most specific first. */
const MOST_RULES = 16;

/** 2 KiB at most. */
export function decisionFacts({ strategy, policy }: RouteDecision): JsonObject {
  return {
    ...(strategy !== "" && { strategy }),
    ...(policy && {
      policy: {
        // A task that is accepted is allowed, or waits for somebody's approval.
        ...(policy.effect === PolicyEffect.REQUIRE_APPROVAL && { effect: "REQUIRE_APPROVAL" }),
        version: policy.policyVersion,
        rules: policy.rules.slice(0, MOST_RULES).map(({ path }) => path.slice(0, 64)),
        ...(policy.fileDigests.length > 0 && { files: policy.fileDigests.slice(0, 4) }),
      },
    }),
  };
}
