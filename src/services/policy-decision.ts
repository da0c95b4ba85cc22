/** What a policy came to, as the record, clients and callers see it. */
import {
  PolicyPhase as GivenPhase,
  type PolicyDecision,
  PolicyEffect,
  type PolicyRule,
} from "../../gen/signalbox/v1/policy_pb.ts";
import { clip, SignalboxError } from "../domain/errors.ts";
import type { PolicyPhase } from "../domain/policy/facts.ts";
import { MAX_DESCRIPTION_LENGTH, type RuleRef, ruleName, ruleText, type Verdict } from "../domain/policy/verdict.ts";
import type { ActivePolicy } from "./policies.ts";

/** Rules that a sentence names. */
const MOST_NAMED = 3;

/** By which policy it was decided. */
export type PolicyVersionInForce = Pick<ActivePolicy, "version" | "fileDigests">;

export const decisionOf = (
  { version, fileDigests }: PolicyVersionInForce,
  phase: PolicyPhase,
  verdict: Verdict,
): PolicyDecision => ({
  $typeName: "signalbox.v1.PolicyDecision",
  effect: PolicyEffect[verdict.effect],
  rules: verdict.rules.map(ruleView),
  policyVersion: version,
  fileDigests: [...fileDigests],
  reason: reasonOf(verdict),
  phase: GivenPhase[phase],
});

const ruleView = ({ path, effect, scope, description, file, line }: RuleRef): PolicyRule => ({
  $typeName: "signalbox.v1.PolicyRule",
  path,
  effect,
  scope,
  description,
  file,
  line,
});

/** In a sentence, as `Refused by rules[0] (Block specific agent).` */
function reasonOf({ effect, rules }: Verdict): string {
  const by = rules.length === 0 ? "default: no rule decides" : namesOf(rules);
  if (effect === "ALLOW") return `Allowed by ${by}.`;
  return effect === "DENY" ? `Refused by ${by}.` : `To be approved, by ${by}.`;
}

function namesOf(rules: readonly RuleRef[]): string {
  const named = rules.slice(0, MOST_NAMED).map(ruleText);
  const more = rules.length - named.length;
  return more > 0 ? `${named.join(", ")} and ${more} more` : named.join(", ");
}

/**
 * PERMISSION_DENIED with reason POLICY_DENIED, naming the rules. `what` begins the sentence: it is what is refused, as
 * `Policy allows no such task`.
 */
export function policyDenied({ version }: PolicyVersionInForce, verdict: Verdict, what: string): SignalboxError {
  const [rule] = verdict.rules;
  const remedy = "Ask for something that it allows, or have whoever keeps the policy change it.";
  return new SignalboxError({
    code: "PERMISSION_DENIED",
    reason: "POLICY_DENIED",
    message: `${what}. ${reasonOf(verdict)} ${remedy}`,
    metadata: {
      ...(rule && { rule: rule.path, description: clip(rule.description, MAX_DESCRIPTION_LENGTH) }),
      ...(rule && rule.file !== "" && { file: rule.file }),
      policyVersion: String(version),
    },
  });
}

/** The rule by which somebody was refused, as `policyDenied` names it; empty where it was the default. */
export const deniedBy = ({ metadata: { rule = "", file = "" } }: SignalboxError): string =>
  ruleName({ path: rule, file });
