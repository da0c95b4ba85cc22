import { clip, type FieldViolation, invalidArgument } from "./errors.ts";

/** What a refusal says at most, in characters: transports send it in headers, whose size is limited. */
const MAX_REFUSAL = 2048;

/** Throws INVALID_ARGUMENT when there is anything to refuse. Names as much of it as an answer can carry. */
export function refuse(violations: readonly FieldViolation[]): void {
  if (violations.length === 0) return;
  let left = MAX_REFUSAL;
  const told = violations
    .map(({ field, description }) => ({ field: clip(field, 256), description: clip(description, 1024) }))
    .filter(({ field, description }) => {
      left -= field.length + description.length;
      return left >= 0;
    });
  throw invalidArgument(told);
}
