/** Who is asked as well when the agent of a task is slow: another one of its capability, chosen as the first was. */
import { fromBinary } from "@bufbuild/protobuf";
import { RouteDecisionSchema, RouteSource } from "../../../gen/signalbox/v1/routing_pb.ts";
import type { StrategyName } from "../../domain/routing/strategy.ts";
import { routingWishes } from "../../domain/routing-extension.ts";
import type { AgentDirectory } from "../agent-directory.ts";
import { endpointOf, type FindAnotherAgent } from "../another-agent.ts";
import type { Policy } from "../policy.ts";
import type { AgentAvailability } from "./availability.ts";
import { type DecideDeps, decide } from "./decide.ts";
import { distrustIn } from "./distrust.ts";
import type { FallbackDeps } from "./fallback.ts";
import { steer, traceOf } from "./steer.ts";
import type { WorkspaceSettings } from "./workspace-settings.ts";

export interface SecondAgentDeps extends DecideDeps, Pick<FallbackDeps, "rollouts" | "isLocal"> {
  directory: AgentDirectory;
  policy: Pick<Policy, "readmit">;
  /** Which agents take no new tasks; left out, all do. */
  availability?: Pick<AgentAvailability, "troubles" | "chosen">;
  settings: Pick<WorkspaceSettings, "of">;
  /** What chooses where neither a message nor its workspace says. */
  strategy: StrategyName;
  /** The bytes of the decision that was stored with a task. */
  readDecision: (workspaceId: string, taskId: string) => Promise<Uint8Array | undefined>;
}

/** A task that was given to an agent by its name has no second one. */
export function createSecondAgent(deps: SecondAgentDeps): FindAnotherAgent {
  return async (task, message, exclude) => {
    const { workspaceId, taskId, capabilityId, contextId, delivery } = task;
    const wishes = routingWishes(delivery.metadata);
    if (capabilityId === undefined || Array.isArray(wishes) || wishes.agent !== undefined) return undefined;
    const offers = (await deps.directory.agents(workspaceId)).byCapability.get(capabilityId) ?? [];
    const others = offers.filter((each) => !exclude.includes(each.agent.agentId) && endpointOf(each).safeToRepeat);
    if (others.length === 0) return undefined;
    await deps.rollouts.load(workspaceId);
    const stored = await deps.readDecision(workspaceId, taskId);
    const first = stored && fromBinary(RouteDecisionSchema, stored);
    const { source = RouteSource.UNSPECIFIED, matches = [] } = first ?? {};
    const policy = (await deps.policy.readmit(task, first)).search(source);
    await deps.trust.load(workspaceId);
    const steered = steer(others, {
      ask: {
        message,
        extensions: delivery.extensions ?? [],
        wishes,
        troubles: deps.availability?.troubles(workspaceId),
        judge: policy.judge,
        distrust: distrustIn(deps.trust, workspaceId),
      },
      rollout: deps.rollouts.of(workspaceId, capabilityId),
      key: contextId,
      capabilityId,
      isLocal: deps.isLocal,
    });
    const { fit, cuts } = steered;
    if (fit.length === 0) return undefined;
    const settings = await deps.settings.of(workspaceId);
    const { chosen, decision } = decide(deps, {
      workspaceId,
      source,
      capabilityId,
      strategy: wishes.strategy ?? settings.strategy ?? deps.strategy,
      settings,
      key: contextId,
      turn: 0,
      fit,
      cuts: [...cuts, { reason: "HEDGED", agentIds: [...exclude], refusal: undefined }],
      matches,
      rollout: traceOf(steered),
    });
    deps.availability?.chosen(workspaceId, chosen.agent.agentId);
    policy.note(decision, chosen);
    return { ...chosen, decision };
  };
}
