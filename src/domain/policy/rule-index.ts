/**
 * Finds the rules that could match. Most rules name an agent, a capability or somebody: each is kept under the value of one such
 * condition, the one that fewest rules share, and is looked at only when the fact has that value. The others are always looked at.
 */
import { getOrMake } from "../get-or-make.ts";
import type { CompileContext } from "./compile-context.ts";
import type { CompiledRule } from "./compiled-rule.ts";
import { type Reader, readerOf } from "./condition.ts";
import type { Condition, Operand } from "./document.ts";
import { factOf, labelKey } from "./fact-table.ts";
import type { Facts } from "./facts.ts";
import { columnsOf, type Entry } from "./rule-columns.ts";

export interface RuleIndex {
  /** The rules that match, each once, in no order. */
  matching(facts: Facts): readonly CompiledRule[];
}

/** By the value of a fact, where its group begins; while the index is made, the number of the group. */
type Groups = Map<Operand, number>;

/** A condition that a rule can be kept under: it holds for these values and no others. */
interface Key {
  readonly condition: Condition;
  readonly values: readonly Operand[];
  /** Whether it says nothing but that. */
  readonly isAll: boolean;
}

const NONE: readonly CompiledRule[] = [];

/** In small steps, between which others may have their turn. */
export function* indexRules(rules: readonly CompiledRule[], context: CompileContext): Generator<void, RuleIndex> {
  const keys: Key[][] = [];
  for (const { rule } of rules) {
    keys.push(rule.when.flatMap(keyOf));
    yield;
  }
  const shared = yield* countShared(keys);
  // The first group is of those that are always looked at.
  const always: Entry[] = [];
  const groups: Entry[][] = [always];
  const byFact = new Map<string, Groups>();
  for (const [i, rule] of rules.entries()) {
    yield;
    const key = rarest(keys[i]!, shared);
    if (!key) {
      always.push(entryOf(rule, undefined));
      continue;
    }
    const entry = entryOf(rule, key.isAll ? key.condition : undefined);
    const places = getOrMake(byFact, key.condition.fact, (): Groups => new Map());
    for (const value of new Set(key.values)) groups[getOrMake(places, value, () => groups.push([]) - 1)]!.push(entry);
  }
  const columns = yield* columnsOf(groups);
  for (const places of byFact.values()) {
    for (const [value, group] of places) {
      places.set(value, columns.begins[group]!);
      yield;
    }
  }
  const fields = [...byFact].filter(([fact]) => labelKey(fact) === undefined);
  const single = fields.filter(([fact]) => !isList(fact)).map(([fact, places]) => fieldOf(fact, places, context));
  const lists = fields.filter(([fact]) => isList(fact)).map(([fact, places]) => fieldOf(fact, places, context));
  const labels = new Map(
    [...byFact].flatMap(([fact, places]) => {
      const key = labelKey(fact);
      return key === undefined ? [] : [[key, places] as const];
    }),
  );

  return {
    matching(facts) {
      let found = columns.matching(columns.begins[0]!, facts, undefined);
      for (const { read, places } of single) {
        const begin = places.get(read(facts) as Operand);
        if (begin !== undefined) found = columns.matching(begin, facts, found);
      }
      for (const { read, places } of lists) {
        for (const value of (read(facts) as readonly string[] | undefined) ?? []) {
          const begin = places.get(value);
          if (begin !== undefined) found = columns.matching(begin, facts, found, true);
        }
      }
      if (labels.size > 0 && facts.labels) {
        for (const key of Object.keys(facts.labels)) {
          const begin = labels.get(key)?.get(facts.labels[key]!);
          if (begin !== undefined) found = columns.matching(begin, facts, found);
        }
      }
      return found ?? NONE;
    },
  };
}

/** What is still to be asked of a rule where that condition is known to hold. */
function entryOf(rule: CompiledRule, known: Condition | undefined): Entry {
  const { when, expr } = rule.rule;
  const others = when.filter((condition) => condition !== known);
  const test = others.length === 0 && expr === undefined ? undefined : rule.test(others);
  return { rule, test, only: others.length === 1 && expr === undefined ? others[0] : undefined };
}

const isList = (fact: string): boolean => factOf(fact)!.info.kind === "texts";

const fieldOf = (fact: string, places: Groups, context: CompileContext): { read: Reader; places: Groups } => ({
  read: readerOf(factOf(fact)!.name, "UTC", context),
  places,
});

function keyOf(condition: Condition): Key[] {
  const { kind, isOfClock } = factOf(condition.fact)!.info;
  if (isOfClock || (kind !== "text" && kind !== "texts" && kind !== "choice")) return [];
  const test = condition.tests.find(({ operator }) => operator === "in");
  return test?.operator === "in" ? [{ condition, values: test.values, isAll: condition.tests.length === 1 }] : [];
}

/** How many rules could be kept under a value of a fact. */
function* countShared(keys: readonly (readonly Key[])[]): Generator<void, Shared> {
  const shared: Shared = new Map();
  for (const ofRule of keys) {
    for (const { condition, values } of ofRule) {
      const counts = getOrMake(shared, condition.fact, (): Map<Operand, number> => new Map());
      for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
    }
    yield;
  }
  return shared;
}

type Shared = Map<string, Map<Operand, number>>;

/** The key under whose fullest value there are the fewest rules; undefined where there is no key. */
function rarest(keys: readonly Key[], shared: Shared): Key | undefined {
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
