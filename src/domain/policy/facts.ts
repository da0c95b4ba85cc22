/** What a policy may ask about, by the names that its documents use. Plain data, made once for a request and once for each candidate. */

/**
 * A fact; undefined where it is not known. Types are those of `FACTS` (fact-table.ts); money is whole millionths. An empty
 * list says as much as an unknown one.
 */
export type Fact = string | number | boolean | readonly string[] | undefined;

/**
 * What is known when a policy is asked. Names are those of docs/policy.md; labels are asked for as `labels.<key>`. The facts
 * of a clock (`date`, `time_of_day`, `hour`, `weekday`) follow from `now`, each in the time zone of its rule. Where they are
 * given they are taken as they are.
 */
export interface Facts {
  readonly [name: string]: Fact | Readonly<Record<string, string>>;
  /** Of the capability in question. */
  readonly labels?: Readonly<Record<string, string>>;
  /** Milliseconds since 1970. */
  readonly now?: number;
}

/** When a policy is asked: of a caller, of an agent that may take the task, of an output that may leave. In this order. */
export const PHASES = ["ADMISSION", "CANDIDATE", "RESULT"] as const;

export type PolicyPhase = (typeof PHASES)[number];
