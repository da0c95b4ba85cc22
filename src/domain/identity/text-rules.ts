/** Texts for people that admins write. Pure. */
import type { FieldViolation } from "../errors.ts";

/** What is wrong with such a text: it is one that a terminal, a log and the database can hold. */
export function textViolations(field: string, text: string, max: number): FieldViolation[] {
  if (text.length > max) return [{ field, description: `at most ${max} characters` }];
  if (!text.isWellFormed()) return [{ field, description: "holds half of a character" }];
  return /[^\P{Cc}\n\t]/u.test(text) ? [{ field, description: "must not hold control characters" }] : [];
}
