/** What the closures of one policy share. */
import { getOrMake } from "../get-or-make.ts";
import { linearPattern } from "../linear-pattern.ts";
import { type ClockReading, clockOf } from "./clock.ts";
import { type CompiledExpression, compileExpression } from "./expression.ts";

/** What is made once for all rules of a policy: one clock a zone, one automaton a pattern, one program an expression. */
export interface CompileContext {
  clock(timeZone: string): (nowMs: number) => ClockReading;
  /** Throws a RangeError for a text that is too long. */
  pattern(pattern: string): (text: string) => boolean;
  /** Throws a RangeError as well, for texts and lists that are too long. */
  expression(text: string): CompiledExpression;
  /** A decision begins: all its patterns and expressions together may cost so much and no more. */
  begin(): void;
}

/**
 * What a pattern may cost on one text: characters times the pattern's size. Beyond it the condition cannot be decided, and throws.
 * Only an output is ever so long.
 */
const MAX_STEPS = 2 ** 24;
/** What all patterns and expressions of one decision may cost: at worst about a second. */
const MAX_ALL_STEPS = 2 ** 30;

export function createCompileContext(): CompileContext {
  const clocks = new Map<string, (nowMs: number) => ClockReading>();
  const patterns = new Map<string, (text: string) => boolean>();
  const expressions = new Map<string, CompiledExpression>();
  let spent = 0;
  const spend = (steps: number) => {
    spent += steps;
    if (spent > MAX_ALL_STEPS) throw new RangeError("the texts are too long for all that looks through them");
  };
  return {
    begin() {
      spent = 0;
    },
    clock: (timeZone) => getOrMake(clocks, timeZone, () => clockOf(timeZone)),
    pattern: (source) =>
      getOrMake(patterns, source, () => {
        const pattern = linearPattern(source);
        return (text) => {
          const steps = text.length * pattern.size;
          if (steps > MAX_STEPS) throw new RangeError("the text is too long for the pattern");
          spend(steps);
          return pattern.test(text);
        };
      }),
    expression: (text) => getOrMake(expressions, text, () => compileExpression(text, spend)),
  };
}
