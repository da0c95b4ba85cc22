/**
 * Outlier ejection: of the agents that offer one capability, those that fail far more tasks than their peers are passed over
 * for a while (after Envoy's outlier detection, success rate and maximum ejection percent). It catches what no circuit breaker
 * sees: an agent that answers at once, and fails whatever it is given.
 *
 * Whether an agent is worse than its peers is asked of the lower end of what its failures prove: the Wilson score interval
 * (E. B. Wilson, 1927). So five failures of five are proof, one of one is not. It is compared with the lower median of the
 * peers: one bad peer does not hide another, and where most are bad, none is an outlier.
 *
 * The time grows with each ejection and is forgotten slowly, as long without one as the last one lasted. Pure: the time is
 * given, in milliseconds of any one clock.
 */

export interface EjectionRules {
  /** Share of a capability's agents that may be ejected at once, from 0 to 100. Never the last one. */
  readonly maxEjectedPercent: number;
  /** How long the first time lasts, and the longest, in milliseconds. */
  readonly ejectionMs: number;
  readonly ejectionMaxMs: number;
}

/** Tasks of an agent without which nothing is proven. */
const LEAST_TASKS = 5;
/** By how much its failed share must exceed that of its peers. */
const MARGIN = 0.2;
/** Standard deviations of doubt: 95 %. */
const DOUBT = 1.96;

/** What is known of an agent: tasks of late, and how many of them failed. Both may be fractions, as old ones count less. */
export interface TrackRecord {
  readonly agentId: string;
  readonly tasks: number;
  readonly failed: number;
}

/** An agent that was ejected, and is remembered. */
export interface Ejection {
  untilMs: number;
  /** How often, as far as that is not forgotten. */
  times: number;
}

/**
 * The agents to be ejected now, the worst first. `agents` are all that offer the capability, `ejected` how many of them are
 * already: those are not among the agents to be ejected, though what is known of them counts.
 */
export function outliers(
  agents: readonly TrackRecord[],
  isEjected: (agentId: string) => boolean,
  { maxEjectedPercent }: Pick<EjectionRules, "maxEjectedPercent">,
): string[] {
  const most = Math.min(agents.length - 1, Math.floor((agents.length * maxEjectedPercent) / 100));
  let room = most;
  for (const { agentId } of agents) if (isEjected(agentId)) room -= 1;
  if (room <= 0) return [];
  const rates = agents.map(rateOf).sort((a, b) => a - b);
  return agents
    .filter(({ agentId, tasks }) => tasks >= LEAST_TASKS && !isEjected(agentId))
    .map((agent) => ({ agent, proven: provenRate(agent) }))
    .filter(({ agent, proven }) => proven > medianOfPeers(rates, rateOf(agent)) + MARGIN)
    .sort((a, b) => b.proven - a.proven || (a.agent.agentId < b.agent.agentId ? -1 : 1))
    .slice(0, room)
    .map(({ agent }) => agent.agentId);
}

/** The next ejection of an agent, after the last one that is remembered. */
export function ejected(before: Ejection | undefined, rules: EjectionRules, nowMs: number): Ejection {
  const times = before ? timesLeft(before, rules, nowMs) : 0;
  return { untilMs: nowMs + lengthOf(times, rules), times: times + 1 };
}

/** Whether an ejection is long enough past to be forgotten. */
export const isPast = (ejection: Ejection, rules: EjectionRules, nowMs: number): boolean =>
  nowMs >= ejection.untilMs && timesLeft(ejection, rules, nowMs) === 0;

/** One time is forgotten for each time as long as the last ejection in which there was none. */
function timesLeft({ untilMs, times }: Ejection, rules: EjectionRules, nowMs: number): number {
  const lastMs = lengthOf(times - 1, rules);
  return Math.max(0, times - Math.floor(Math.max(0, nowMs - untilMs) / Math.max(1, lastMs)));
}

const lengthOf = (times: number, { ejectionMs, ejectionMaxMs }: EjectionRules): number =>
  Math.min(ejectionMaxMs, ejectionMs * (times + 1));

/** Of those of whom nothing is known, nothing bad. */
const rateOf = ({ tasks, failed }: TrackRecord): number => (tasks > 0 ? failed / tasks : 0);

/** The lower end of the Wilson score interval of the failed share. */
function provenRate({ tasks, failed }: TrackRecord): number {
  const share = failed / tasks;
  const doubt = (DOUBT * DOUBT) / tasks;
  return (share + doubt / 2 - Math.sqrt(doubt * (share * (1 - share) + doubt / 4))) / (1 + doubt);
}

/** The lower median of all sorted rates but one that is `own`. */
function medianOfPeers(sorted: readonly number[], own: number): number {
  const middle = Math.floor((sorted.length - 2) / 2);
  return sorted[sorted.indexOf(own) <= middle ? middle + 1 : middle]!;
}
