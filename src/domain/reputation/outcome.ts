/**
 * What the end of a task says of the agent that had it. The log knows who ended a task and why: what its agent said, how the agent
 * failed, or what the router decided by itself. Only the first two say anything of the agent. Pure.
 */
import { isAgentsFault, isGivenAgain, movedFrom, timeLimitCause } from "../cause.ts";
import { EngineState } from "../task-state.ts";

/** A row of a log that ended a task, or took it from an agent; and what is known of the attempt that it ended. */
export interface Ending {
  readonly state: EngineState | undefined;
  /** The first line of the row's cause. */
  readonly cause: string | undefined;
  readonly at: Date;
  /** When the task was brought to the agent for this attempt; undefined where it never was. */
  readonly beganAt: Date | undefined;
  /** Whether it waited for its client on the way: then nobody knows how much of the time was the agent's. */
  readonly waitedForClient: boolean;
  /** Whether it came to the agent when another was slow: then its time is not that of the attempt. */
  readonly wasHedged: boolean;
  /** Who has the task, for which capability. */
  readonly agentId: string;
  readonly capabilityId: string | undefined;
  /** Who had it before, the first one first, and what its client gave it to. */
  readonly earlierAgentIds: readonly string[];
  readonly givenCapabilityId: string | undefined;
}

/** How one agent ended, or failed, one task. */
export interface Outcome {
  readonly agentId: string;
  readonly capabilityId: string | undefined;
  readonly isGood: boolean;
  readonly atMs: number;
  /** From being brought to the agent to its end; undefined where nobody knows, and for what failed. */
  readonly latencyMs: number | undefined;
  /** Whether it ended well within the latency of the capability's SLA; undefined where that is not known, or there is none. */
  readonly isInSla: boolean | undefined;
}

/** The longest that a task may take by the SLA of what an agent offers, in milliseconds; undefined where there is none. */
export type SlaOf = (agentId: string, capabilityId: string) => number | undefined;

/** Undefined where it says nothing of an agent. */
export function outcomeOf(ending: Ending, slaOf: SlaOf): Outcome | undefined {
  const { state, cause = "" } = ending;
  const loser = state === EngineState.SCHEDULED ? movedFrom(cause) : undefined;
  const agentId = loser ?? ending.agentId;
  const capabilityId = loser === undefined ? ending.capabilityId : capabilityOfEarlier(ending, loser);
  const slaMs = capabilityId === undefined ? undefined : slaOf(agentId, capabilityId);
  const common = { agentId, capabilityId, atMs: ending.at.getTime() };
  if (state === EngineState.COMPLETED) {
    if (isGivenAgain(cause)) return undefined;
    const isTimed = !ending.waitedForClient && !ending.wasHedged;
    const latencyMs = isTimed ? elapsedMs(ending) : undefined;
    const isInSla = latencyMs === undefined || slaMs === undefined ? undefined : latencyMs <= slaMs;
    return { ...common, isGood: true, latencyMs, isInSla };
  }
  const isBad = loser !== undefined || (state === EngineState.FAILED && isByAgent(ending, slaMs));
  if (!isBad) return undefined;
  return { ...common, isGood: false, latencyMs: undefined, isInSla: slaMs === undefined ? undefined : false };
}

const DEADLINE = timeLimitCause("deadline");

/** The client's deadline counts against an agent that had had the task for longer than its SLA allows. */
function isByAgent(ending: Ending, slaMs: number | undefined): boolean {
  const { cause = "", waitedForClient } = ending;
  if (isAgentsFault(cause)) return true;
  const tookMs = elapsedMs(ending);
  return cause === DEADLINE && !waitedForClient && tookMs !== undefined && slaMs !== undefined && tookMs > slaMs;
}

/** Of an agent between the first and the last it is known only where it never changed. */
function capabilityOfEarlier(ending: Ending, agentId: string): string | undefined {
  const { earlierAgentIds, capabilityId, givenCapabilityId } = ending;
  return capabilityId === givenCapabilityId || earlierAgentIds[0] === agentId ? givenCapabilityId : undefined;
}

/** A clock that went back counts as one that stood. */
const elapsedMs = ({ at, beganAt }: Ending): number | undefined =>
  beganAt && Math.max(0, at.getTime() - beganAt.getTime());
