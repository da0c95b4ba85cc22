/** The engines that decide by the same rules, each prepared as well as it can be. */
import { preparsePolicySet, statefulIsAuthorized } from "@cedar-policy/cedar-wasm/nodejs";
import { newEnforcer, newModelFromString } from "casbin";
import { compilePolicy } from "../../src/domain/policy/compile.ts";
import { readPolicy } from "../../src/domain/policy/read.ts";
import { CASBIN_MODEL, casbinPolicy, cedarPolicy, type Request, signalboxPolicy, type Terms } from "./rule-set.ts";

/** Whether a request is allowed. */
export type Decide = (request: Request) => boolean;

/** Facts are made for each request, as a router does it. */
export function signalbox(terms: readonly Terms[]): Decide {
  const read = readPolicy(signalboxPolicy(terms));
  if ("problems" in read) throw new Error(JSON.stringify(read.problems[0]));
  const policy = compilePolicy([read.document]);
  return ({ principalId, capabilityId, costMicros, bytes, reputation, depth }) =>
    policy.decide("CANDIDATE", {
      principal_id: principalId,
      workspace_id: "default",
      agent_id: "agent",
      capability_id: capabilityId,
      cost: costMicros,
      message_bytes: bytes,
      reputation_score: reputation / 1_000,
      delegation_depth: depth,
    }).effect === "ALLOW";
}

/** The policies are parsed once and kept by Cedar; what crosses to WebAssembly is the request. */
export function cedar(terms: readonly Terms[]): Decide {
  const id = `rules-${terms.length}`;
  const parsed = preparsePolicySet(id, { staticPolicies: cedarPolicy(terms) });
  if (parsed.type === "failure") throw new Error(JSON.stringify(parsed.errors[0]));
  const action = { type: "Action", id: "send" };
  return ({ principalId, capabilityId, costMicros, bytes, reputation, depth }) => {
    const answer = statefulIsAuthorized({
      principal: { type: "Client", id: principalId },
      action,
      resource: { type: "Capability", id: capabilityId },
      context: { cost: costMicros, bytes, reputation, depth },
      preparsedPolicySetId: id,
      entities: [],
    });
    if (answer.type === "failure") throw new Error(JSON.stringify(answer.errors[0]));
    return answer.response.decision === "allow";
  };
}

/** The synchronous call: it does without the promises of the usual one. */
export async function casbin(terms: readonly Terms[]): Promise<Decide> {
  const enforcer = await newEnforcer(newModelFromString(CASBIN_MODEL));
  // Put into the model as a loader of files would put them, but as numbers: comparisons need not convert texts.
  enforcer.getModel().addPolicies("p", "p", casbinPolicy(terms) as string[][]);
  return ({ principalId, capabilityId, costMicros, bytes, reputation, depth }) =>
    enforcer.enforceSync(principalId, capabilityId, costMicros, bytes, reputation, depth);
}
