/** Facts that somebody gives to try a policy on. */
import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import { clip, type FieldViolation } from "../domain/errors.ts";
import { costMicros } from "../domain/money.ts";
import { suggestion } from "../domain/nearest.ts";
import { FACT_NAMES, type FactInfo, factOf, labelKey } from "../domain/policy/fact-table.ts";
import type { Fact, Facts } from "../domain/policy/facts.ts";
import { dayOf, minutesOf } from "../domain/policy/operand.ts";
import { refuse } from "../domain/refusal.ts";

/** Facts at most: more than there are names, but for labels. */
const MOST_FACTS = 200;

/** Labels are given as `labels.tier`, or together under `labels`. Throws INVALID_ARGUMENT by name. */
export function givenFacts(given: JsonObject): Facts {
  const violations: FieldViolation[] = [];
  const facts: Record<string, Fact> = {};
  const labels: Record<string, string> = {};
  const { labels: together = {}, ...others } = given;
  const named = Object.entries(others);
  if (isObject(together))
    named.push(...Object.entries(together).map(([key, value]): Given => [`labels.${key}`, value]));
  else violations.push({ field: "facts.labels", description: 'must be an object of texts, as {"tier": "gold"}' });
  if (named.length > MOST_FACTS) violations.push({ field: "facts", description: `at most ${MOST_FACTS} facts` });
  for (const [written, value] of named.slice(0, MOST_FACTS)) {
    const fact = factOf(written);
    const read = fact ? READ[fact.info.kind](value, fact.info) : undefined;
    if (!fact) {
      violations.push({
        field: `facts.${clip(written)}`,
        description: `is no fact. ${suggestion(written, FACT_NAMES)}`,
      });
    } else if (read === undefined) {
      violations.push({ field: `facts.${clip(written)}`, description: ruleOf(fact.info) });
    } else {
      const key = labelKey(fact.name);
      if (key === undefined) facts[fact.name] = read;
      else labels[key] = read as string;
    }
  }
  refuse(violations);
  return { ...facts, labels };
}

type Given = [string, JsonValue];

/** The fact as policies compare it; undefined for what is none of its kind. */
const READ: Readonly<Record<FactInfo["kind"], (value: JsonValue, info: FactInfo) => Fact>> = {
  text: (value) => (typeof value === "string" ? value : undefined),
  texts: (value) => {
    const list = typeof value === "string" ? [value] : value;
    return Array.isArray(list) && list.every((item) => typeof item === "string") ? (list as string[]) : undefined;
  },
  choice: (value, { values }) => (typeof value === "string" && values?.includes(value) ? value : undefined),
  number: (value) => {
    const number = typeof value === "string" && value.trim() !== "" ? Number(value) : value;
    return typeof number === "number" && Number.isFinite(number) ? number : undefined;
  },
  money: (value) =>
    (typeof value === "string" && value !== "") || typeof value === "number" ? costMicros(String(value)) : undefined,
  date: (value) => (typeof value === "string" && dayOf(value) !== undefined ? value : undefined),
  time: (value) => (typeof value === "string" && minutesOf(value) !== undefined ? value : undefined),
};

function ruleOf({ kind, values = [] }: FactInfo): string {
  if (kind === "choice") return `must be one of ${values.join(", ")}`;
  return `must be ${KINDS[kind]}`;
}

const KINDS = {
  text: "a text",
  texts: "a text or a list of texts",
  number: "a number",
  money: "a decimal number with at most 6 digits after the point, as 0.25",
  date: "a day, as 2026-12-24",
  time: "a time, as 09:30",
} as const;

const isObject = (value: JsonValue): value is JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value);
