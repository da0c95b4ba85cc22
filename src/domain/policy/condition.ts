/** Makes closures of conditions. What a condition says of a fact that is not known stands in docs/policy.md. */
import type { ClockReading } from "./clock.ts";
import type { Condition, Operand, Test } from "./document.ts";
import { type FactInfo, factOf, labelKey } from "./fact-table.ts";
import type { Facts } from "./facts.ts";
import { dayOf, minutesOf } from "./operand.ts";
import type { Workshop } from "./workshop.ts";

export type Predicate = (facts: Facts) => boolean;

/** Reads one fact. */
export type Reader = (facts: Facts) => Operand | readonly string[] | undefined;

/** The test of a condition, and whether it may throw: then nothing is known of the condition. */
export function predicateOf(
  condition: Condition,
  timeZone: string,
  workshop: Workshop,
): { test: Predicate; mayThrow: boolean } {
  const { info } = factOf(condition.fact)!;
  const read = readerOf(condition.fact, timeZone, workshop);
  const tests = condition.tests.map((test) => testOf(test, read, info, workshop));
  const [only] = tests;
  return {
    test: tests.length === 1 ? only! : (facts) => tests.every((test) => test(facts)),
    mayThrow: condition.tests.some(({ operator }) => operator === "matches"),
  };
}

function testOf(test: Test, read: Reader, info: FactInfo, workshop: Workshop): Predicate {
  switch (test.operator) {
    case "in":
      return info.kind === "texts" ? anyOf(read, among(test.values)) : is(read, among(test.values));
    case "not_in": {
      const found = info.kind === "texts" ? anyOf(read, among(test.values)) : is(read, among(test.values));
      return (facts) => !found(facts);
    }
    case "matches": {
      const matches = workshop.pattern(test.pattern);
      return info.kind === "texts" ? anyOf(read, matches) : is(read, matches as (value: Operand) => boolean);
    }
    case "exists": {
      const { exists } = test;
      return (facts) => isKnown(read(facts)) === exists;
    }
    default:
      return ordered(test.operator, test.value, info.isOrdered ? ranked(read, info.values!) : read);
  }
}

/** A single value is compared; what is not known is none. */
const is = (read: Reader, test: (value: Operand) => boolean): Predicate => {
  return (facts) => {
    const value = read(facts);
    return value !== undefined && test(value as Operand);
  };
};

const anyOf = (read: Reader, test: (value: string) => boolean): Predicate => {
  return (facts) => {
    const values = read(facts) as readonly string[] | undefined;
    return values?.some(test) ?? false;
  };
};

function among(values: readonly Operand[]): (value: Operand) => boolean {
  if (values.length === 1) {
    const [only] = values;
    return (value) => value === only;
  }
  const set = new Set(values);
  return (value) => set.has(value);
}

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

function ranked(read: Reader, values: readonly string[]): Reader {
  const ranks = new Map(values.map((value, rank) => [value, rank]));
  return (facts) => ranks.get(read(facts) as string);
}

const isKnown = (value: ReturnType<Reader>): boolean =>
  value !== undefined && !(Array.isArray(value) && value.length === 0);

export function readerOf(name: string, timeZone: string, workshop: Workshop): Reader {
  const key = labelKey(name);
  if (key !== undefined) {
    return ({ labels }) => (labels !== undefined && Object.hasOwn(labels, key) ? labels[key] : undefined);
  }
  const ofClock = CLOCK_FACTS[name];
  if (!ofClock) return (facts) => facts[name] as Operand | undefined;
  const clock = workshop.clock(timeZone);
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
