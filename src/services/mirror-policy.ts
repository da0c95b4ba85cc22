/** Whether a mirror may have a copy of a task: what an agent may not be given, it may not see either. */
import { fromBinary } from "@bufbuild/protobuf";
import { RouteDecisionSchema, RouteSource } from "../../gen/signalbox/v1/routing_pb.ts";
import { givenCapabilityId } from "../domain/task-log.ts";
import type { AgentDirectory } from "./agent-directory.ts";
import type { MirrorPorts } from "./mirrors.ts";
import type { Policy } from "./policy.ts";
import { alone } from "./routing/searches.ts";

export interface MirrorPolicyDeps {
  policy: Pick<Policy, "readmit">;
  directory: Pick<AgentDirectory, "agents">;
  /** The bytes of the decision that was stored with a task. */
  readDecision: (workspaceId: string, taskId: string) => Promise<Uint8Array | undefined>;
}

/** Where nothing can be read of what the task was, it is judged by what is known. */
export function createMirrorPolicy({ policy, directory, readDecision }: MirrorPolicyDeps): MirrorPorts["isAllowed"] {
  return async (task, mirrorId) => {
    const { workspaceId, taskId } = task;
    const stored = await readDecision(workspaceId, taskId);
    const decision = stored && fromBinary(RouteDecisionSchema, stored);
    const admitted = await policy.readmit(task, decision);
    const { judge } = admitted.search(decision?.source ?? RouteSource.UNSPECIFIED);
    if (!judge) return true;
    const agents = await directory.agents(workspaceId);
    const agent = agents.byId.get(mirrorId);
    return agent !== undefined && judge.of(alone(agent, agents, givenCapabilityId(task))).effect === "ALLOW";
  };
}
