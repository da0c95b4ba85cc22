/** An agent that may take a task, with what is known of it at this moment. Plain data: whoever chooses among them is pure. */
export interface Candidate {
  readonly agentId: string;
  /** Tasks that it has at once, as this replica knows it. */
  readonly inFlight: number;
  /** Tasks that it takes at once; undefined when there is no limit. */
  readonly maxConcurrency: number | undefined;
  /** Tasks that wait until it takes them; they count where all candidates are full. Left out, none. */
  readonly waiting?: number;
  /** How long its tasks take, in milliseconds: a peak-sensitive average of what was measured, else what was declared. */
  readonly latencyMs: number | undefined;
  /** Share of its last tasks that failed, from 0 to 1. */
  readonly errorRate: number;
  /** What a task costs, in millionths of the workspace's currency. */
  readonly costMicros: number;
  /** From 0 to 1; undefined as long as nobody keeps one. */
  readonly reputation: number | undefined;
}
