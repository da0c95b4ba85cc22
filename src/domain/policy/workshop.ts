/** What the closures of one policy share. */
import { getOrMake } from "../get-or-make.ts";
import { linearPattern } from "../linear-pattern.ts";
import { type ClockReading, clockOf } from "./clock.ts";

/** What a document's closures share: one clock a zone, one automaton a pattern. */
export interface Workshop {
  clock(timeZone: string): (nowMs: number) => ClockReading;
  pattern(pattern: string): (text: string) => boolean;
  /** A decision begins: all its patterns together may cost so much and no more. */
  begin(): void;
}

/**
 * What a pattern may cost on one text: characters times the pattern's size. Beyond it the condition cannot be decided, and throws.
 * Only an output is ever so long.
 */
const MAX_STEPS = 2 ** 24;
/** What all patterns of one decision may cost: at worst about a second. */
const MAX_ALL_STEPS = 2 ** 30;

export function createWorkshop(): Workshop {
  const clocks = new Map<string, (nowMs: number) => ClockReading>();
  const patterns = new Map<string, (text: string) => boolean>();
  let spent = 0;
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
          spent += steps;
          if (spent > MAX_ALL_STEPS) throw new RangeError("the text is too long for all the patterns");
          return pattern.test(text);
        };
      }),
  };
}
