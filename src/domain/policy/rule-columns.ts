/**
 * Rules side by side, as columns of plain numbers. Of a thousand rules the same few are asked again and again; of ten thousand,
 * each question comes to others, which lie in memory and not in the cache. So what most rules ask, one comparison of one fact, is not
 * a closure with all that it refers to, but a few bytes beside those of the rules that are asked with it.
 */

import type { CompiledRule } from "./compiled-rule.ts";
import type { Predicate } from "./condition.ts";
import type { Condition, Operand } from "./document.ts";
import { factOf, labelKey } from "./fact-table.ts";
import type { Facts } from "./facts.ts";

/** A rule, and what is to be asked before it matches. */
export interface Entry {
  readonly rule: CompiledRule;
  /** Undefined where nothing is. */
  readonly test: Predicate | undefined;
  /** Where the test is this condition and no other. */
  readonly only: Condition | undefined;
}

const [NOTHING, LESS, AT_MOST, MORE, AT_LEAST, EQUAL, CLOSURE] = [0, 1, 2, 3, 4, 5, 6] as const;
const ORDERS: Readonly<Record<string, number>> = { "<": LESS, "<=": AT_MOST, ">": MORE, ">=": AT_LEAST };
/** A code has three bits. Then comes one that is set at the last rule of a group, then the number of the fact's name. */
const CODE = 7;
const LAST = 8;
const NAME_SHIFT = 4;

export interface RuleColumns {
  /** Where each group begins, in the order in which they were given; -1 for an empty one. */
  readonly begins: readonly number[];
  /**
   * Adds the rules that match, of the group that begins there, to those that were found, which are undefined at first. `mayRepeat`:
   * some may be among those already.
   */
  matching(
    begin: number,
    facts: Facts,
    found: CompiledRule[] | undefined,
    mayRepeat?: boolean,
  ): CompiledRule[] | undefined;
}

/** In small steps, between which others may have their turn. */
export function* columnsOf(groups: readonly (readonly Entry[])[]): Generator<void, RuleColumns> {
  const entries = groups.flat();
  const codes = new Uint16Array(entries.length);
  const bounds = new Float64Array(entries.length);
  const operands: Operand[] = new Array(entries.length).fill(0);
  const rules = entries.map(({ rule }) => rule);
  const tests = entries.map(({ test }) => test);
  const names: string[] = [];
  for (const [i, { test, only }] of entries.entries()) {
    yield;
    const comparison = only && comparisonOf(only);
    if (test === undefined) codes[i] = NOTHING;
    else if (!comparison) codes[i] = CLOSURE;
    else {
      codes[i] = comparison.code | (placeOf(names, comparison.name) << NAME_SHIFT);
      if (typeof comparison.operand === "number") bounds[i] = comparison.operand;
      else operands[i] = comparison.operand;
    }
  }
  const begins: number[] = [];
  let end = 0;
  for (const { length } of groups) {
    begins.push(length === 0 ? -1 : end);
    end += length;
    if (length > 0) codes[end - 1]! |= LAST;
  }

  /** Of an unknown value every comparison is false. */
  const holds = (i: number, code: number, facts: Facts): boolean => {
    switch (code & CODE) {
      case NOTHING:
        return true;
      case LESS:
        return (facts[names[code >> NAME_SHIFT]!] as number) < bounds[i]!;
      case AT_MOST:
        return (facts[names[code >> NAME_SHIFT]!] as number) <= bounds[i]!;
      case MORE:
        return (facts[names[code >> NAME_SHIFT]!] as number) > bounds[i]!;
      case AT_LEAST:
        return (facts[names[code >> NAME_SHIFT]!] as number) >= bounds[i]!;
      case EQUAL:
        return facts[names[code >> NAME_SHIFT]!] === operands[i];
      default:
        return tests[i]!(facts);
    }
  };
  return {
    begins,
    matching(begin, facts, found, mayRepeat) {
      let all = found;
      let code = 0;
      for (let i = begin; i >= 0 && (code & LAST) === 0; i++) {
        code = codes[i]!;
        if (!holds(i, code, facts)) continue;
        const rule = rules[i]!;
        if (all === undefined) all = [rule];
        // A rule that names two roles is met twice by who has both.
        else if (!mayRepeat || !all.includes(rule)) all.push(rule);
      }
      return all;
    },
  };
}

/** The one value that a condition compares a fact with that is a plain property; undefined for any other condition. */
function comparisonOf({ fact, tests }: Condition): { name: string; code: number; operand: Operand } | undefined {
  const { name, info } = factOf(fact)!;
  const [test, another] = tests;
  if (!test || another || info.isOfClock || info.kind === "texts" || labelKey(name) !== undefined) return undefined;
  if (test.operator === "in") {
    const [operand, more] = test.values;
    return typeof operand === "string" && more === undefined ? { name, code: EQUAL, operand } : undefined;
  }
  const code = info.isOrdered ? undefined : ORDERS[test.operator];
  return code === undefined ? undefined : { name, code, operand: (test as { value: number }).value };
}

function placeOf(names: string[], name: string): number {
  const at = names.indexOf(name);
  return at >= 0 ? at : names.push(name) - 1;
}
