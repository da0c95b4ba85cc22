/** Makes closures of conditions. What a condition says of a fact that is not known stands in docs/policy.md. */
import type { ClockReading } from "./clock.ts";
import type { CompileContext } from "./compile-context.ts";
import type { Condition, Operand, Test } from "./document.ts";
import { type FactInfo, factOf, labelKey } from "./fact-table.ts";
import type { Facts } from "./facts.ts";
import { dayOf, minutesOf } from "./operand.ts";

export type Predicate = (facts: Facts) => boolean;

/** Reads one fact. */
export type Reader = (facts: Facts) => Operand | readonly string[] | undefined;

/** The test of a condition, and whether it may throw: then nothing is known of the condition. */
export function predicateOf(
  condition: Condition,
  timeZone: string,
  context: CompileContext,
): { test: Predicate; mayThrow: boolean } {
  const { name, info } = factOf(condition.fact)!;
  const read = readerOf(name, timeZone, context);
  const tests = condition.tests.map((test) => testOf(test, name, read, info, context));
  const [only] = tests;
  return {
    test: tests.length === 1 ? only! : (facts) => tests.every((test) => test(facts)),
    mayThrow: condition.tests.some(({ operator }) => operator === "matches"),
  };
}

function testOf(test: Test, name: string, read: Reader, info: FactInfo, context: CompileContext): Predicate {
  switch (test.operator) {
    case "in":
      return foundOf(test.values, name, read, info);
    case "not_in": {
      const found = foundOf(test.values, name, read, info);
      return (facts) => !found(facts);
    }
    case "matches": {
      const matches = context.pattern(test.pattern);
      if (info.kind === "texts") return anyOf(read, matches);
      return (facts) => {
        const value = read(facts);
        return value !== undefined && matches(value as string);
      };
    }
    case "exists": {
      const { exists } = test;
      return (facts) => isKnown(read(facts)) === exists;
    }
    default:
      if (info.isOrdered) return ordered(test.operator, test.value, ranked(read, info.values!));
      return isPlain(name) ? plainlyOrdered(test.operator, test.value, name) : ordered(test.operator, test.value, read);
  }
}

function foundOf(values: readonly Operand[], name: string, read: Reader, info: FactInfo): Predicate {
  const [only] = values;
  if (info.kind === "texts") {
    const set = new Set(values);
    return anyOf(read, (value) => set.has(value));
  }
  // An unknown value is none of them.
  if (values.length > 1) {
    const set: ReadonlySet<unknown> = new Set(values);
    return (facts) => set.has(read(facts));
  }
  return isPlain(name) ? (facts) => facts[name] === only : (facts) => read(facts) === only;
}

const anyOf = (read: Reader, test: (value: string) => boolean): Predicate => {
  return (facts) => {
    const values = read(facts) as readonly string[] | undefined;
    return values?.some(test) ?? false;
  };
};

function ordered(operator: "<" | "<=" | ">" | ">=", bound: number, read: Reader): Predicate {
  // Of an unknown value every comparison is false, as it is of NaN.
  switch (operator) {
    case "<":
      return (facts) => (read(facts) as number) < bound;
    case "<=":
      return (facts) => (read(facts) as number) <= bound;
    case ">":
      return (facts) => (read(facts) as number) > bound;
    case ">=":
      return (facts) => (read(facts) as number) >= bound;
  }
}

/** The same of a fact that is a property: one call less, in what most rules do most. */
function plainlyOrdered(operator: "<" | "<=" | ">" | ">=", bound: number, name: string): Predicate {
  switch (operator) {
    case "<":
      return (facts) => (facts[name] as number) < bound;
    case "<=":
      return (facts) => (facts[name] as number) <= bound;
    case ">":
      return (facts) => (facts[name] as number) > bound;
    case ">=":
      return (facts) => (facts[name] as number) >= bound;
  }
}

function ranked(read: Reader, values: readonly string[]): Reader {
  const ranks = new Map(values.map((value, rank) => [value, rank]));
  return (facts) => ranks.get(read(facts) as string);
}

const isPlain = (name: string): boolean => labelKey(name) === undefined && !Object.hasOwn(CLOCK_FACTS, name);

const isKnown = (value: ReturnType<Reader>): boolean =>
  value !== undefined && !(Array.isArray(value) && value.length === 0);

export function readerOf(name: string, timeZone: string, context: CompileContext): Reader {
  const key = labelKey(name);
  if (key !== undefined) {
    return ({ labels }) => (labels !== undefined && Object.hasOwn(labels, key) ? labels[key] : undefined);
  }
  const ofClock = CLOCK_FACTS[name];
  if (!ofClock) return (facts) => facts[name] as Operand | undefined;
  const clock = context.clock(timeZone);
  return (facts) => {
    const given = facts[name];
    if (given !== undefined) return ofClock.given(given as never);
    return facts.now === undefined ? undefined : ofClock.shown(clock(facts.now));
  };
}

/** How a fact that is given is compared, and what the clock says where it is not. */
const CLOCK_FACTS: Readonly<
  Record<string, { given: (value: never) => Operand | undefined; shown: (reading: ClockReading) => Operand }>
> = {
  date: { given: dayOf, shown: ({ day }) => day },
  time_of_day: { given: minutesOf, shown: ({ minutes }) => minutes },
  hour: { given: (value: number) => value, shown: ({ hour }) => hour },
  weekday: { given: (value: string) => value, shown: ({ weekday }) => weekday },
};
