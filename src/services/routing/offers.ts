/** Which offers fit a message, and what cuts the others. */
import type { Message } from "../../../gen/lf/a2a/v1/a2a_pb.ts";
import type { Capability } from "../../domain/capability.ts";
import { type DataPart, dataParts, dataViolations } from "../../domain/data-parts.ts";
import { invalidArgument, SignalboxError } from "../../domain/errors.ts";
import { type CheckBudget, checkBudget } from "../../domain/json-schema.ts";
import { checkExtensions, checkInputModes, checkMediaTypes } from "../../domain/message-rules.ts";
import type { Verdict } from "../../domain/policy/verdict.ts";
import type { RoutingWishes } from "../../domain/routing-extension.ts";
import type { AgentRecord } from "../../store/agent-repository.ts";
import type { Judge } from "../search-policy.ts";
import type { Trouble, Troubles } from "./availability.ts";

/** An agent that may take a task, for what it offers; without a capability where an agent alone was named. */
export interface Possible {
  readonly agent: AgentRecord;
  readonly capability: Capability | undefined;
  /** All that it offers, where it alone was named: whatever of it the agent makes of the task. */
  readonly among?: readonly Capability[] | undefined;
}

/** What of a request decides whether an agent can take it. */
export interface Ask {
  readonly message: Message;
  /** Extension URIs that the client named. */
  readonly extensions: readonly string[];
  readonly wishes: RoutingWishes;
  /** Whether an agent is where the task may go; left out when it may go anywhere. */
  readonly isInPlace?: (agent: AgentRecord) => boolean;
  /** What keeps agents from new tasks; undefined where no agent is in trouble. */
  readonly troubles?: Troubles | undefined;
  /** What the policy says of agents; undefined where it says nothing. */
  readonly judge?: Judge | undefined;
  /** Why an agent is not trusted with it; undefined where it is. Left out, all are. */
  readonly distrust?: ((offer: Possible) => SignalboxError | undefined) | undefined;
}

/**
 * Why an agent is no candidate, as the record names it. HEDGED: it had the task already, and was slow. APPROVAL: it would need
 * an approval, and others need none.
 */
export type CutReason =
  | "ROUTE_MODE"
  | "LABELS"
  | "MAX_COST"
  | "EXTENSION_REQUIRED"
  | "MEDIA_TYPE"
  | "INPUT_SCHEMA"
  | "POLICY"
  | "APPROVAL"
  | "TRUST"
  | Trouble
  | "CANARY"
  | "FULL"
  | "FAILED"
  | "HEDGED";

export interface Cut {
  readonly reason: CutReason;
  readonly agentIds: string[];
  /** What the first of them would have answered; undefined where that says no more than that it does not fit. */
  readonly refusal: SignalboxError | undefined;
  /** When the first of them may be a candidate again, in milliseconds from now; undefined where time changes nothing. */
  retryInMs?: number | undefined;
}

export interface Sifted {
  readonly fit: readonly Possible[];
  readonly cuts: readonly Cut[];
}

/**
 * Parts the offers that fit from the others. Those that need an approval are passed over as long as there is one that needs
 * none, and those that were ejected as long as there is another at all: a poor agent is better than none.
 */
export function sift(offers: readonly Possible[], ask: Ask): Sifted {
  const cuts = new Map<CutReason, Cut>();
  const data = dataParts(ask.message.parts);
  // One message is one price, however many agents it is held against.
  const budget = checkBudget();
  const ejected: Possible[] = [];
  const unapproved: Possible[] = [];
  const cut = (offer: Possible, fault: Fault) => {
    const known = cuts.get(fault.reason);
    if (!known) cuts.set(fault.reason, { ...fault, agentIds: [offer.agent.agentId] });
    else {
      known.agentIds.push(offer.agent.agentId);
      if (fault.retryInMs !== undefined)
        known.retryInMs = Math.min(known.retryInMs ?? fault.retryInMs, fault.retryInMs);
    }
  };
  const fit = offers.filter((offer) => {
    const misfit = faultOf(offer, ask, data, budget) ?? distrustOf(offer, ask);
    const verdict = misfit ? undefined : ask.judge?.of(offer);
    const fault = misfit ?? refusalBy(verdict, offer, ask) ?? troubleOf(offer, ask);
    if (fault) {
      if (fault.reason === "EJECTED") ejected.push(offer);
      cut(offer, fault);
    } else if (verdict?.effect === "REQUIRE_APPROVAL") unapproved.push(offer);
    else return true;
    return false;
  });
  if (fit.length > 0) {
    for (const offer of unapproved) cut(offer, { reason: "APPROVAL", refusal: undefined });
    return { fit, cuts: [...cuts.values()] };
  }
  if (unapproved.length > 0 || ejected.length === 0) return { fit: unapproved, cuts: [...cuts.values()] };
  cuts.delete("EJECTED");
  return { fit: ejected, cuts: [...cuts.values()] };
}

type Fault = Pick<Cut, "reason" | "refusal" | "retryInMs">;

/** Whom the policy refuses; asked once it is known that it could take the message. */
const refusalBy = (verdict: Verdict | undefined, offer: Possible, { judge }: Ask): Fault | undefined =>
  verdict?.effect === "DENY" ? { reason: "POLICY", refusal: judge!.refusal(offer, verdict) } : undefined;
function distrustOf(offer: Possible, { distrust }: Ask): Fault | undefined {
  const refusal = distrust?.(offer);
  return refusal && { reason: "TRUST", refusal };
}

/** Asked last: who is cut for trouble could have taken the message. */
function troubleOf({ agent, capability }: Possible, { troubles }: Ask): Fault | undefined {
  const trouble = troubles?.of(agent.agentId, capability?.capabilityId);
  return trouble && { ...trouble, refusal: undefined };
}

/**
 * Whether somebody could have taken the message who just takes no task now. Of the cuts of a sift in which nothing fits, it
 * tells "all who could are unavailable" from "nobody could".
 */
export const isUnavailable = (cuts: readonly Cut[]): boolean => cuts.some(({ retryInMs }) => retryInMs !== undefined);

function faultOf(
  { agent, capability }: Possible,
  ask: Ask,
  data: readonly DataPart[],
  budget: CheckBudget,
): Fault | undefined {
  if (ask.isInPlace && !ask.isInPlace(agent)) return { reason: "ROUTE_MODE", refusal: undefined };
  const { labels, maxCostMicros } = ask.wishes;
  if (labels && !hasLabels(capability, labels)) return { reason: "LABELS", refusal: undefined };
  if (maxCostMicros !== undefined && (capability?.costMicros ?? 0) > maxCostMicros)
    return { reason: "MAX_COST", refusal: undefined };
  const extension = refusalOf(() => checkExtensions(ask.extensions, agent.card));
  if (extension) return { reason: "EXTENSION_REQUIRED", refusal: extension };
  const mediaType = refusalOf(() =>
    capability ? checkInputModes(ask.message, capability.inputModes) : checkMediaTypes(ask.message, agent.card),
  );
  if (mediaType) return { reason: "MEDIA_TYPE", refusal: mediaType };
  const violations =
    data.length > 0 && capability?.inputSchema ? dataViolations(capability.inputSchema, data, "message", budget) : [];
  if (violations.length > 0) return { reason: "INPUT_SCHEMA", refusal: invalidArgument(violations) };
  return undefined;
}

export type Labels = Readonly<Record<string, string>>;

export const hasLabels = (capability: Capability | undefined, labels: Labels): boolean =>
  Object.entries(labels).every(([key, value]) => capability?.labels[key] === value);

function refusalOf(check: () => void): SignalboxError | undefined {
  try {
    check();
    return undefined;
  } catch (error) {
    if (error instanceof SignalboxError) return error;
    throw error;
  }
}
