/** What the policies of workspaces say of results: which are held back, and what of them may leave. */
import { fromBinary } from "@bufbuild/protobuf";
import { RouteDecisionSchema } from "../../gen/signalbox/v1/routing_pb.ts";
import type { PolicyPhase } from "../domain/policy/facts.ts";
import type { Verdict } from "../domain/policy/verdict.ts";
import { heldForCapabilityId } from "../domain/task-log.ts";
import type { ResultPolicy } from "./guarded-writer.ts";
import type { Policies } from "./policies.ts";
import { keptCandidateFacts } from "./policy-facts.ts";

interface ResultPolicyDeps {
  policies: Pick<Policies, "load" | "of">;
  /** The bytes of the decision that was stored with a task. */
  readDecision: (workspaceId: string, taskId: string) => Promise<Uint8Array | undefined>;
  onVerdict: (phase: PolicyPhase, effect: Verdict["effect"]) => void;
}

export const createResultPolicy = ({ policies, readDecision, onVerdict }: ResultPolicyDeps): ResultPolicy => ({
  load: policies.load,
  guards(task) {
    const { workspaceId, agentId } = task;
    const capabilityId = heldForCapabilityId(task);
    return policies
      .of(workspaceId)
      .compiled.guards({ workspace_id: workspaceId, agent_id: agentId, capability_id: capabilityId });
  },
  async factsOf(task) {
    const { workspaceId, taskId, agentId, priority, parent } = task;
    const stored = await readDecision(workspaceId, taskId);
    return {
      workspace_id: workspaceId,
      task_priority: priority,
      delegation_depth: parent?.depth ?? 0,
      ...(stored && keptCandidateFacts(workspaceId, fromBinary(RouteDecisionSchema, stored))),
      agent_id: agentId,
      capability_id: heldForCapabilityId(task),
    };
  },
  decide(workspaceId, facts) {
    const verdict = policies.of(workspaceId).compiled.decide("RESULT", facts);
    onVerdict("RESULT", verdict.effect);
    return verdict;
  },
});

/** Whether some result of a capability may be held back: its updates do not stream. */
export type IsGuarded = (workspaceId: string, capabilityId: string) => Promise<boolean>;

export const createIsGuarded =
  (policies: Pick<Policies, "load" | "of">): IsGuarded =>
  async (workspaceId, capabilityId) => {
    const loading = policies.load(workspaceId);
    if (loading) await loading;
    return policies.of(workspaceId).compiled.guards({ workspace_id: workspaceId, capability_id: capabilityId });
  };
