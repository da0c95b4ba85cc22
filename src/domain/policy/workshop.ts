/** What the closures of one policy share. */
import { linearPattern } from "../linear-pattern.ts";
import { type ClockReading, clockOf } from "./clock.ts";

/** What a document's closures share: one clock a zone, one automaton a pattern. */
export interface Workshop {
  clock(timeZone: string): (nowMs: number) => ClockReading;
  pattern(pattern: string): (text: string) => boolean;
}

/**
 * What a pattern may cost on one text: characters times the pattern's size. Beyond it the condition cannot be decided, and throws.
 * Only an output is ever so long.
 */
const MAX_STEPS = 2 ** 24;

export function createWorkshop(): Workshop {
  const clocks = new Map<string, (nowMs: number) => ClockReading>();
  const patterns = new Map<string, (text: string) => boolean>();
  return {
    clock: (timeZone) => getOrMake(clocks, timeZone, () => clockOf(timeZone)),
    pattern: (source) =>
      getOrMake(patterns, source, () => {
        const pattern = linearPattern(source);
        return (text) => {
          if (text.length * pattern.size > MAX_STEPS) throw new RangeError("the text is too long for the pattern");
          return pattern.test(text);
        };
      }),
  };
}

/** The value of a key, made where there is none yet. */
export function getOrMake<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  let value = map.get(key);
  if (value === undefined) {
    value = make();
    map.set(key, value);
  }
  return value;
}
