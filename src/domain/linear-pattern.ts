/**
 * Regular expressions that others wrote. JavaScript's own engine backtracks: a short pattern such as `(a+)+$` keeps it busy for
 * years over a short text, and nothing else is done meanwhile. So they run on RE2JS, a port of RE2 without dependencies, whose
 * time is at most the text's length times the pattern's size. What needs backtracking, look-around and back-references, is
 * refused when the pattern is given. Refusing patterns that look dangerous would be simpler, but nobody knows all of them.
 */
import { RE2JS, RE2JSException } from "re2js";

/** Longest pattern, in characters, and its largest size once repetitions such as `{1,100}` are written out. */
export const MAX_PATTERN_LENGTH = 256;
export const MAX_PATTERN_SIZE = 512;

/** A compiled pattern. */
export interface LinearPattern {
  /** Whether any part of the text matches. */
  test(text: string): boolean;
  /** Its instructions, 1 to MAX_PATTERN_SIZE: what a character of the text costs at worst. */
  readonly size: number;
}

/** Compiles a pattern of ECMA-262. Throws an Error that says what is wrong with one that is not taken. */
export function linearPattern(pattern: string): LinearPattern {
  if (pattern.length > MAX_PATTERN_LENGTH) throw new Error(`is longer than ${MAX_PATTERN_LENGTH} characters`);
  let compiled: RE2JS;
  try {
    compiled = RE2JS.compile(RE2JS.translateRegExp(pattern));
  } catch (error) {
    if (!(error instanceof RE2JSException)) throw error;
    throw new Error(
      `is no pattern of RE2's syntax, which has no look-around and no back-references (${error.message})`,
    );
  }
  const size = compiled.programSize();
  if (size > MAX_PATTERN_SIZE) throw new Error("repeats too much; make its repetitions shorter");
  return { size, test: (text) => compiled.test(text) };
}
