/** What a policy may ask about, by the names that its documents use. Plain data, made once for a request and once for each candidate. */

/** A fact; undefined where it is not known, which no condition but `exists: false` is met by. */
export type Fact = string | number | boolean | readonly string[] | undefined;

/** What is known when a policy is asked. Names are those of docs/policy.md; labels are asked for as `labels.<key>`. */
export interface Facts {
  readonly [name: string]: Fact | Readonly<Record<string, string>>;
  /** Of the capability in question. */
  readonly labels?: Readonly<Record<string, string>>;
}

/** When a policy is asked: of a caller, of an agent that may take the task, of an output that may leave. */
export type PolicyPhase = "ADMISSION" | "CANDIDATE" | "RESULT";
