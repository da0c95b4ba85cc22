/** What the parts of the reader share: where problems go, and what is counted over a whole document. */
import { clip } from "../errors.ts";
import { getOrMake } from "../get-or-make.ts";
import { linearPattern } from "../linear-pattern.ts";
import { suggestion } from "../nearest.ts";
import type { PolicyProblem } from "./document.ts";
import { readExpression } from "./expression.ts";
import type { YamlMap, YamlReading, YamlTree } from "./yaml-tree.ts";

/** So many problems are told; the others are counted. */
export const MAX_PROBLEMS = 100;
/** Of one document: rules with those nested in others, patterns and CEL expressions. Each of the latter is compiled. */
export const MAX_RULES = 20_000;
export const MAX_PATTERNS = 2_000;
export const MAX_EXPRESSIONS = 1_000;

export interface Reading {
  readonly file: string;
  /** What is wrong with what stands there, and what would be right. */
  problem(offset: number, path: string, description: string): void;
  lineOf(offset: number): number;
  /** Counts one more; false, with one problem, when there are too many. */
  counts(what: keyof typeof LIMITS, offset: number, path: string): boolean;
  isZone(name: string): boolean;
  /** What is wrong with a pattern; undefined where nothing is. What stands there many times is looked at once. */
  patternProblem(source: string): string | undefined;
  /** What an expression asks about. What stands there many times is looked at once. */
  expression(text: string): ReturnType<typeof readExpression>;
  /** In the order of the text. */
  readonly problems: readonly PolicyProblem[];
  readonly count: number;
}

const LIMITS = { rules: MAX_RULES, patterns: MAX_PATTERNS, expressions: MAX_EXPRESSIONS };

export function createReading(file: string, place: YamlReading["place"]): Reading {
  const found: PolicyProblem[] = [];
  const counted = { rules: 0, patterns: 0, expressions: 0 };
  const zones = new Map<string, boolean>();
  const patterns = new Map<string, { problem: string | undefined }>();
  const expressions = new Map<string, ReturnType<typeof readExpression>>();
  let count = 0;
  const problem = (offset: number, path: string, description: string) => {
    if (++count <= MAX_PROBLEMS) found.push({ file, ...place(offset), path, description });
  };
  return {
    file,
    problem,
    lineOf: (offset) => place(offset).line,
    counts(what, offset, path) {
      if (++counted[what] === LIMITS[what] + 1) {
        problem(offset, path, `is one too many: a document has at most ${LIMITS[what]} ${what}. Split it into several`);
      }
      return counted[what] <= LIMITS[what];
    },
    isZone: (name) => getOrMake(zones, name, () => isTimeZone(name)),
    patternProblem: (source) => getOrMake(patterns, source, () => ({ problem: problemOf(source) })).problem,
    expression: (text) => getOrMake(expressions, text, () => readExpression(text)),
    get problems() {
      return found.toSorted((a, b) => a.line - b.line || a.column - b.column);
    },
    get count() {
      return count;
    },
  };
}

/** The map that a tree is; undefined, with a problem, for what is none. */
export function mapAt(reading: Reading, tree: YamlTree, path: string, what: string): YamlMap | undefined {
  if (tree.kind === "map") return tree;
  return void reading.problem(tree.offset, path, `must be ${what}, but is ${told(tree)}`);
}

/** A problem for each name that is none of `names`. `what` is what has them, as `a rule`. */
export function refuseUnknown(
  reading: Reading,
  map: YamlMap,
  path: string,
  what: string,
  names: readonly string[],
): void {
  for (const [name, { keyOffset }] of map.entries) {
    if (names.includes(name)) continue;
    reading.problem(keyOffset, below(path, name), `is no key of ${what}. ${suggestion(clip(name, 64), names)}`);
  }
}

/** A text of at most so many characters; undefined, with a problem, for anything else. */
export function textAt(reading: Reading, tree: YamlTree, path: string, most: number): string | undefined {
  if (tree.kind !== "scalar" || tree.value === null) {
    return void reading.problem(tree.offset, path, `must be a text, but is ${told(tree)}`);
  }
  if (tree.source.length <= most) return tree.source;
  return void reading.problem(tree.offset, path, `must have at most ${most} characters, but has ${tree.source.length}`);
}

/** One of a few words; undefined, with a problem, for anything else. */
export function wordAt<W extends string>(
  reading: Reading,
  tree: YamlTree,
  path: string,
  words: readonly W[],
): W | undefined {
  const word = tree.kind === "scalar" ? tree.source : undefined;
  if (word !== undefined && (words as readonly string[]).includes(word)) return word as W;
  const hint = word === undefined ? "" : ` ${suggestion(clip(word, 64), words)}`;
  return void reading.problem(tree.offset, path, `must be one of ${words.join(", ")}, but is ${told(tree)}.${hint}`);
}

/** A part of a path. A name that is long is cut: it is for people. */
export const below = (path: string, name: string): string =>
  path === "" ? clip(name, 64) : `${path}.${clip(name, 64)}`;

/** What stands there, in a few words. */
export function told(tree: YamlTree): string {
  if (tree.kind === "map") return "a mapping";
  if (tree.kind === "list") return "a list";
  return tree.value === null ? "empty" : JSON.stringify(clip(tree.source, 64));
}

function problemOf(pattern: string): string | undefined {
  try {
    linearPattern(pattern);
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

function isTimeZone(name: string): boolean {
  // An offset, as +01:00, is none: it has no name, and no summer.
  if (!/^[A-Za-z]/.test(name)) return false;
  try {
    new Intl.DateTimeFormat("en", { timeZone: name });
    return true;
  } catch {
    return false;
  }
}
