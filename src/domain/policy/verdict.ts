/** What a policy comes to. */
import { clip } from "../errors.ts";
import type { Facts, PolicyPhase } from "./facts.ts";

/** A rule, as a decision names it. */
export interface RuleRef {
  /** As `rules[3]`, or `rules[3].then[0]`. */
  readonly path: string;
  readonly effect: "ALLOW" | "DENY" | "REQUIRE";
  readonly scope: "GLOBAL" | "TENANT" | "AGENT" | "CAPABILITY";
  readonly description: string;
  /** The file that it is in; empty for the workspace's own document. */
  readonly file: string;
  /** From 1 on. */
  readonly line: number;
}

/** A rule in a sentence: its path, after the file that it is in, if it is in one. */
export const ruleName = ({ path, file }: Pick<RuleRef, "path" | "file">): string =>
  file === "" ? path : `${file} ${path}`;

/** Longest description of a rule that a sentence repeats, in characters. */
export const MAX_DESCRIPTION_LENGTH = 256;

/** A rule as whoever must live with it reads it: its name, and what it says of itself, as `rules[0] (No secrets)`. */
export const ruleText = (rule: Pick<RuleRef, "path" | "file" | "description">): string =>
  rule.description === "" ? ruleName(rule) : `${ruleName(rule)} (${clip(rule.description, MAX_DESCRIPTION_LENGTH)})`;

/** On what terms a task is to be approved. */
export interface ApprovalTerms {
  readonly rule: RuleRef;
  /** After so long without a decision the task is REJECTED, in milliseconds. */
  readonly expiresMs: number;
  /** Principals and roles that may decide; empty: whoever may decide at all. */
  readonly approvers: readonly string[];
  /** Whether who asked for the task may decide as well. */
  readonly self: boolean;
  /** Where several rules want approval: further lists like `approvers`, none empty. Who decides must be on each of them. */
  readonly also?: readonly (readonly string[])[];
}

/** So many rules does a verdict name at most. */
export const MAX_REPORTED_RULES = 16;

export interface Verdict {
  readonly effect: "ALLOW" | "DENY" | "REQUIRE_APPROVAL";
  /** The rules that decided, the most specific first, MAX_REPORTED_RULES at most; empty where the default did. */
  readonly rules: readonly RuleRef[];
  /** Set where the effect is REQUIRE_APPROVAL, or DENY because nobody can be asked any more: on what terms. */
  readonly approval?: ApprovalTerms;
}

/** A policy that can be asked. Compiled once; asking it changes nothing. */
export interface CompiledPolicy {
  /** Whether any rule could matter then: where none could, the verdict is ALLOW without asking. */
  matters(phase: PolicyPhase): boolean;
  decide(phase: PolicyPhase, facts: Facts): Verdict;
  /** Whether some rule about results could match what that capability gives: its output is held back until the verdict. */
  guards(facts: Facts): boolean;
}
