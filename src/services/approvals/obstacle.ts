/** What stands in the way of a task between the day that it was sent and the one that it was approved. */
import { fromBinary } from "@bufbuild/protobuf";
import { RouteDecisionSchema, RouteSource } from "../../../gen/signalbox/v1/routing_pb.ts";
import type { TaskHeader } from "../../domain/task-log.ts";
import type { Policy } from "../policy.ts";
import type { Router } from "../router.ts";
import { distrustIn } from "../routing/distrust.ts";
import type { Trust } from "../trust.ts";

interface ObstacleDeps {
  router: Pick<Router, "offer">;
  policy: Pick<Policy, "readmit">;
  trust: Pick<Trust, "load" | "refusal">;
  /** The bytes of the decision that was stored with a task. */
  readDecision: (workspaceId: string, taskId: string) => Promise<Uint8Array | undefined>;
}

/** Why an approved task cannot go to its agent all the same, as a sentence; undefined: it can. */
export type FindObstacle = (task: TaskHeader) => Promise<string | undefined>;

export const createFindObstacle =
  ({ router, policy, trust, readDecision }: ObstacleDeps): FindObstacle =>
  async (task) => {
    const offer = await router.offer(task);
    if (!offer) return `Agent "${task.agentId}", which was to take it, has left.`;
    if (task.capabilityId !== undefined && !offer.capability) {
      return `Agent "${task.agentId}", which was to take it, no longer offers capability "${task.capabilityId}".`;
    }
    await trust.load(task.workspaceId);
    const distrust = distrustIn(trust, task.workspaceId)(offer);
    if (distrust) return distrust.message;
    const stored = await readDecision(task.workspaceId, task.taskId);
    const decision = stored && fromBinary(RouteDecisionSchema, stored);
    const admitted = await policy.readmit(task, decision);
    const { judge } = admitted.search(decision?.source ?? RouteSource.UNSPECIFIED);
    const verdict = judge?.of(offer);
    // What wants an approval has it by now, be it by another rule than the one that asked.
    const isDenied = verdict?.effect === "DENY" && !verdict.approval;
    return isDenied ? judge!.refusal(offer, verdict).message : undefined;
  };
