/**
 * Finds the rules that could match. Most rules name an agent, a capability or somebody: each is kept under the value of one such
 * condition, the one that fewest rules share, and is looked at only when the fact has that value. The others are always looked at.
 */

import type { CompiledRule } from "./compiled-rule.ts";
import { type Predicate, type Reader, readerOf } from "./condition.ts";
import type { Condition, Operand } from "./document.ts";
import { factOf, labelKey } from "./fact-table.ts";
import type { Facts } from "./facts.ts";
import { getOrMake, type Workshop } from "./workshop.ts";

export interface RuleIndex {
  readonly size: number;
  /** The rules that match, each once, in no order. */
  matching(facts: Facts): readonly CompiledRule[];
}

/** A rule, and what is still to be asked of it where it is found. */
interface Entry {
  readonly rule: CompiledRule;
  /** Undefined where nothing is. */
  readonly test: Predicate | undefined;
}

type Buckets = Map<Operand, Entry[]>;

/** A condition that a rule can be kept under: it holds for these values and no others. */
interface Key {
  readonly condition: Condition;
  readonly values: readonly Operand[];
  /** Whether it says nothing but that. */
  readonly isAll: boolean;
}

const NONE: readonly CompiledRule[] = [];

export function indexRules(rules: readonly CompiledRule[], workshop: Workshop): RuleIndex {
  const keys = rules.map(({ rule }) => rule.when.flatMap(keyOf));
  const shared = countShared(keys);
  const always: Entry[] = [];
  const byFact = new Map<string, Buckets>();
  for (const [i, rule] of rules.entries()) {
    const key = rarest(keys[i]!, shared);
    if (!key) {
      always.push({ rule, test: rule.matches });
      continue;
    }
    const buckets = getOrMake(byFact, key.condition.fact, (): Buckets => new Map());
    const entry = { rule, test: key.isAll ? rule.without(key.condition) : rule.matches };
    for (const value of new Set(key.values)) getOrMake(buckets, value, (): Entry[] => []).push(entry);
  }
  const fields = [...byFact].filter(([fact]) => labelKey(fact) === undefined);
  const single = fields.filter(([fact]) => !isList(fact)).map(([fact, buckets]) => fieldOf(fact, buckets, workshop));
  const lists = fields.filter(([fact]) => isList(fact)).map(([fact, buckets]) => fieldOf(fact, buckets, workshop));
  const labels = new Map(
    [...byFact].flatMap(([fact, buckets]) => {
      const key = labelKey(fact);
      return key === undefined ? [] : [[key, buckets] as const];
    }),
  );

  return {
    size: rules.length,
    matching(facts) {
      let found = matchingOf(always, facts, undefined);
      for (const { read, buckets } of single) {
        const bucket = buckets.get(read(facts) as Operand);
        if (bucket) found = matchingOf(bucket, facts, found);
      }
      for (const { read, buckets } of lists) {
        for (const value of (read(facts) as readonly string[] | undefined) ?? []) {
          const bucket = buckets.get(value);
          if (bucket) found = matchingOf(bucket, facts, found);
        }
      }
      if (labels.size > 0 && facts.labels) {
        for (const key of Object.keys(facts.labels)) {
          const bucket = labels.get(key)?.get(facts.labels[key]!);
          if (bucket) found = matchingOf(bucket, facts, found);
        }
      }
      return found ?? NONE;
    },
  };
}

/** Adds those of a bucket that match. */
function matchingOf(
  bucket: readonly Entry[],
  facts: Facts,
  found: CompiledRule[] | undefined,
): CompiledRule[] | undefined {
  let all = found;
  for (const { rule, test } of bucket) {
    if (test !== undefined && !test(facts)) continue;
    if (all === undefined) all = [rule];
    // A rule that names two roles is met twice by who has both.
    else if (!all.includes(rule)) all.push(rule);
  }
  return all;
}

const isList = (fact: string): boolean => factOf(fact)!.info.kind === "texts";

const fieldOf = (fact: string, buckets: Buckets, workshop: Workshop): { read: Reader; buckets: Buckets } => ({
  read: readerOf(fact, "UTC", workshop),
  buckets,
});

function keyOf(condition: Condition): Key[] {
  const { kind, isOfClock } = factOf(condition.fact)!.info;
  if (isOfClock || (kind !== "text" && kind !== "texts" && kind !== "choice")) return [];
  const test = condition.tests.find(({ operator }) => operator === "in");
  return test?.operator === "in" ? [{ condition, values: test.values, isAll: condition.tests.length === 1 }] : [];
}

/** How many rules could be kept under a value of a fact. */
function countShared(keys: readonly (readonly Key[])[]): Map<string, Map<Operand, number>> {
  const shared = new Map<string, Map<Operand, number>>();
  for (const { condition, values } of keys.flat()) {
    const counts = getOrMake(shared, condition.fact, (): Map<Operand, number> => new Map());
    for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  }
  return shared;
}

/** The key under whose fullest value there are the fewest rules; undefined where there is no key. */
function rarest(keys: readonly Key[], shared: ReturnType<typeof countShared>): Key | undefined {
  let best: Key | undefined;
  let fewest = Number.POSITIVE_INFINITY;
  for (const key of keys) {
    const counts = shared.get(key.condition.fact)!;
    let most = 0;
    for (const value of key.values) most = Math.max(most, counts.get(value)!);
    if (most < fewest) [best, fewest] = [key, most];
  }
  return best;
}
