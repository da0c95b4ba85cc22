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
const CODES: Readonly<Record<string, number>> = { "<": LESS, "<=": AT_MOST, ">": MORE, ">=": AT_LEAST };

export interface RuleColumns {
  /** Adds the rules of a group that match to those that were found, which are undefined at first. */
  matching(group: number, facts: Facts, found: CompiledRule[] | undefined): CompiledRule[] | undefined;
}

/** Groups are numbered as they are given. */
export function columnsOf(groups: readonly (readonly Entry[])[]): RuleColumns {
  const size = groups.reduce((sum, { length }) => sum + length, 0);
  const begins = new Int32Array(groups.length + 1);
  const codes = new Uint8Array(size);
  const nameOf = new Uint8Array(size);
  const bounds = new Float64Array(size);
  const operands: Operand[] = new Array(size).fill(0);
  const names: string[] = [];
  const entries = groups.flat();
  const rules = entries.map(({ rule }) => rule);
  const tests = entries.map(({ test }) => test);
  for (const [group, { length }] of groups.entries()) begins[group + 1] = begins[group]! + length;
  for (const [i, { test, only }] of entries.entries()) {
    const comparison = only && comparisonOf(only);
    if (test === undefined) codes[i] = NOTHING;
    else if (!comparison) codes[i] = CLOSURE;
    else {
      codes[i] = comparison.code;
      if (typeof comparison.operand === "number") bounds[i] = comparison.operand;
      else operands[i] = comparison.operand;
      nameOf[i] = placeOf(names, comparison.name);
    }
  }

  /** Of an unknown value every comparison is false. */
  const holds = (i: number, facts: Facts): boolean => {
    switch (codes[i]) {
      case NOTHING:
        return true;
      case LESS:
        return (facts[names[nameOf[i]!]!] as number) < bounds[i]!;
      case AT_MOST:
        return (facts[names[nameOf[i]!]!] as number) <= bounds[i]!;
      case MORE:
        return (facts[names[nameOf[i]!]!] as number) > bounds[i]!;
      case AT_LEAST:
        return (facts[names[nameOf[i]!]!] as number) >= bounds[i]!;
      case EQUAL:
        return facts[names[nameOf[i]!]!] === operands[i];
      default:
        return tests[i]!(facts);
    }
  };
  return {
    matching(group, facts, found) {
      let all = found;
      const end = begins[group + 1]!;
      for (let i = begins[group]!; i < end; i++) {
        if (!holds(i, facts)) continue;
        const rule = rules[i]!;
        if (all === undefined) all = [rule];
        // A rule that names two roles is met twice by who has both.
        else if (!all.includes(rule)) all.push(rule);
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
  const code = info.isOrdered ? undefined : CODES[test.operator];
  return code === undefined ? undefined : { name, code, operand: (test as { value: number }).value };
}

function placeOf(names: string[], name: string): number {
  const at = names.indexOf(name);
  return at >= 0 ? at : names.push(name) - 1;
}
