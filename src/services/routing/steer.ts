/** How a rollout narrows who may take a task: where agents may be, and on which side of a canary. */
import type { AgentCard } from "../../../gen/lf/a2a/v1/a2a_pb.ts";
import { type FallbackCondition, RouteMode as GivenRouteMode } from "../../../gen/signalbox/v1/rollout_pb.ts";
import type { RolloutTrace } from "../../../gen/signalbox/v1/routing_pb.ts";
import type { Canary, FallbackStep, Rollout, RouteMode } from "../../domain/rollout.ts";
import { givenStep } from "../../domain/rollout-rules.ts";
import { isInCanary } from "../../domain/routing/canary.ts";
import type { AgentRecord } from "../../store/agent-repository.ts";
import type { AgentConnector } from "../agent-port.ts";
import { type Ask, type Cut, type Possible, sift } from "./offers.ts";

/** What is asked, of whom, and what should stay with one agent: the task's context. */
export interface Steering {
  readonly ask: Ask;
  readonly rollout: Rollout;
  readonly key: string;
  readonly capabilityId: string | undefined;
  readonly isLocal: (agent: AgentRecord) => boolean;
}

/** Who can take a task, what cut the others, and how that was steered. */
export interface Steered {
  readonly fit: readonly Possible[];
  readonly cuts: readonly Cut[];
  readonly mode: RouteMode;
  /** Whether those who fit are the canary; undefined without one. */
  readonly canary: boolean | undefined;
}

/** Parts the offers that fit, and are where the rollout wants them, from the others. */
export function steer(offers: readonly Possible[], steering: Steering): Steered {
  const { ask, rollout, isLocal } = steering;
  const mode = modeOf(rollout, ask.wishes.routeMode);
  const { fit, cuts } = sift(
    offers,
    mode === "AUTO" ? ask : { ...ask, isInPlace: (agent) => isLocal(agent) === (mode === "LOCAL") },
  );
  if (!rollout.canary) return { fit, cuts, mode, canary: undefined };
  const { taken, left, isCanary } = canarySides(fit, rollout.canary, steering);
  return { fit: taken, cuts: withCut(cuts, "CANARY", left), mode, canary: isCanary };
}

/** A rollback wins over what a message says, and that over the default. */
const modeOf = (rollout: Rollout, wish: RouteMode | undefined): RouteMode =>
  rollout.rollbackToLocal ? "LOCAL" : (wish ?? rollout.routeModeDefault);

/** The side of the context, unless nobody of it fits. */
function canarySides(fit: readonly Possible[], { percent, target }: Canary, { key, capabilityId }: Steering) {
  const isTarget = ({ agent, capability }: Possible) =>
    "agentId" in target ? agent.agentId === target.agentId : capability?.labels.version === target.version;
  const canary: Possible[] = [];
  const others: Possible[] = [];
  for (const offer of fit) (isTarget(offer) ? canary : others).push(offer);
  const wanted = isInCanary(key, capabilityId ?? "", percent);
  const isCanary = canary.length > 0 && (wanted || others.length === 0);
  return isCanary ? { taken: canary, left: others, isCanary } : { taken: others, left: canary, isCanary };
}

/** The cuts, and those who were cut for one more reason. */
export function withCut(cuts: readonly Cut[], reason: Cut["reason"], offers: readonly Possible[]): readonly Cut[] {
  if (offers.length === 0) return cuts;
  return [...cuts, { reason, agentIds: offers.map(({ agent }) => agent.agentId), refusal: undefined }];
}

const GIVEN_MODE: Readonly<Record<RouteMode, GivenRouteMode>> = {
  AUTO: GivenRouteMode.AUTO,
  LOCAL: GivenRouteMode.LOCAL,
  REMOTE: GivenRouteMode.REMOTE,
};

/** What the record says of it; nothing when nothing was steered. */
export function traceOf(
  { mode, canary }: Steered,
  step?: { readonly step: FallbackStep; readonly condition: FallbackCondition },
): RolloutTrace | undefined {
  if (mode === "AUTO" && canary === undefined && !step) return undefined;
  return {
    $typeName: "signalbox.v1.RolloutTrace",
    routeMode: GIVEN_MODE[mode],
    ...(canary !== undefined && { canary }),
    ...(step && { fallbackStep: givenStep(step.step) }),
    fallbackCondition: step?.condition ?? 0,
  };
}

/** Whether an agent is in this process: by the interface of its card that would be called. */
export function createLocality(pick: AgentConnector["pick"]): (agent: AgentRecord) => boolean {
  const known = new WeakMap<AgentCard, boolean>();
  return ({ card }) => {
    const before = known.get(card);
    if (before !== undefined) return before;
    const isLocal = pick(card)?.protocolBinding.toUpperCase() === "IN-PROCESS";
    known.set(card, isLocal);
    return isLocal;
  };
}
