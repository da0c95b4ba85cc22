/** What a policy document says, once it was read: plain data, which threads can hand to each other. */
import type { BudgetRule } from "../budget/budget-rule.ts";
import type { TrustRule } from "../reputation/trust-rule.ts";
import type { PolicyPhase } from "./facts.ts";
import type { RuleRef } from "./verdict.ts";

export type DefaultEffect = "ALLOW" | "DENY";

/** One document: a policy file of the server, or the policy of a workspace. */
export interface PolicyDocument {
  /** The name of the file; empty for the workspace's own document. */
  readonly file: string;
  /** What holds where no rule decides; undefined where the document does not say. */
  readonly default: DefaultEffect | undefined;
  readonly rules: readonly PolicyRule[];
  readonly budgets: readonly BudgetRule[];
  /** Undefined where the document has no such section: then the defaults hold. */
  readonly reputation: TrustRule | undefined;
}

/** A rule, or one that is nested in another's `then`. */
export interface PolicyRule {
  readonly ref: RuleRef;
  /** From then on all facts are known that it asks about, or when it said that it wants to be asked. */
  readonly phase: PolicyPhase;
  /** IANA name of the zone whose clock it means. */
  readonly timeZone: string;
  /** All must hold. Empty: it holds always. */
  readonly when: readonly Condition[];
  /** A CEL expression that must hold as well. */
  readonly expr: string | undefined;
  /** What a REQUIRE requires: at least one thing. Undefined for others. */
  readonly then: Requirement | undefined;
}

/** What a matching REQUIRE wants. */
export interface Requirement {
  /** Met unless a DENY among them matches, a REQUIRE among them is unmet, or ALLOWs are among them and none matches. */
  readonly rules: readonly PolicyRule[];
  readonly minimumReputation: number | undefined;
  readonly approval: Approval | undefined;
}

export interface Approval {
  readonly expiresMs: number;
  readonly approvers: readonly string[];
  readonly self: boolean;
}

/** What must be true of one fact. All the tests must hold. */
export interface Condition {
  /** As `agent_id` or `labels.tier`. */
  readonly fact: string;
  readonly tests: readonly Test[];
}

/** What a value is compared with: a text, or a number. Money is in millionths, a time of day in minutes after midnight. */
export type Operand = string | number;

/** Equality, `==` and lists are `in`; `!=` is `not_in`. */
export type Test =
  | { readonly operator: "in" | "not_in"; readonly values: readonly Operand[] }
  | { readonly operator: "<" | "<=" | ">" | ">="; readonly value: number }
  | { readonly operator: "matches"; readonly pattern: string }
  | { readonly operator: "exists"; readonly exists: boolean };

/** Something wrong in a document, where, and what would be right. */
export interface PolicyProblem {
  /** The name of the file; empty for the workspace's own document. */
  readonly file: string;
  /** From 1 on. */
  readonly line: number;
  readonly column: number;
  /** As `rules[3].when.reputation_score`; empty where it is of the whole document. */
  readonly path: string;
  /** A sentence for a person. */
  readonly description: string;
}

/** A problem in a line, as `policy.yaml:3:9: rules[0].when: must be a mapping`. */
export function problemText({ file, line, column, path, description }: PolicyProblem): string {
  const place = line === 0 ? file : `${file}:${line}:${column}`;
  return [place, path, description].filter((part) => part !== "").join(": ");
}
