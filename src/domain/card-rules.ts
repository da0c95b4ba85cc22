/** Limits of an agent's card that the contract does not state. Cards are kept in memory, and requests are matched to them. */
import type { AgentCard } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import type { FieldViolation } from "./errors.ts";
import { lengthViolations } from "./message-rules.ts";

/** Most skills and interfaces of a card. */
export const MAX_SKILLS = 500;
export const MAX_INTERFACES = 100;
/** Longest name and description, of an agent or a skill, in characters. */
export const MAX_NAME_LENGTH = 256;
export const MAX_DESCRIPTION_LENGTH = 4096;

/** What of a card is too large, with paths as `skills[0].name`. */
export function cardViolations(card: AgentCard): FieldViolation[] {
  const violations = textViolations("", card);
  if (card.supportedInterfaces.length > MAX_INTERFACES) {
    violations.push({ field: "supportedInterfaces", description: `at most ${MAX_INTERFACES}` });
  }
  if (card.skills.length > MAX_SKILLS) {
    violations.push({ field: "skills", description: `at most ${MAX_SKILLS}` });
  } else {
    violations.push(...card.skills.flatMap((skill, i) => textViolations(`skills[${i}].`, skill)));
  }
  return violations;
}

function textViolations(at: string, { name, description }: { name: string; description: string }): FieldViolation[] {
  return [
    ...lengthViolations(`${at}name`, name, MAX_NAME_LENGTH),
    ...lengthViolations(`${at}description`, description, MAX_DESCRIPTION_LENGTH),
  ];
}
