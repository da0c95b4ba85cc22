/**
 * Facts as JSON has them, for dry runs and for test cases: `cost` is a decimal number in a text, and
 * `now` is a timestamp. Everything else is as in `Facts`.
 */
import { clip } from "../errors.ts";
import { costMicros, decimalOf, MAX_MICROS } from "../money.ts";
import { type FactInfo, factHint, factOf, labelKey } from "./fact-table.ts";
import type { Fact, Facts } from "./facts.ts";
import { dayOf, isInRange, minutesOf, numberOf } from "./operand.ts";

/** What is wrong with a fact: its name, and what would be right. */
export interface FactProblem {
  readonly fact: string;
  readonly description: string;
}

const MAX_LABELS = 64;
const MAX_TEXTS = 1_000;
/** Longest text of a fact: of an output, in characters. */
const MAX_TEXT = 1_048_576;
const MOST_PROBLEMS = 100;

type Given = { fact: Fact } | { must: string };

/** Reads facts that somebody gave. A null is one that is not known. Labels are an object, or single as `labels.tier`. */
export function factsOf(json: Readonly<Record<string, unknown>>): { facts: Facts } | { problems: FactProblem[] } {
  const facts: Record<string, Facts[string]> = {};
  const labels: Record<string, string> = {};
  const problems: FactProblem[] = [];
  const refuse = (fact: string, description: string) => {
    if (problems.length < MOST_PROBLEMS) problems.push({ fact: clip(fact, 64), description });
  };
  const label = (key: string, value: unknown, name: string) => {
    if (typeof value !== "string") refuse(name, "must be a text");
    else Object.defineProperty(labels, key, { value, enumerable: true, configurable: true, writable: true });
  };
  let hasLabels = false;
  for (const [written, value] of Object.entries(json)) {
    if (value === null || value === undefined) continue;
    if (written === "labels") {
      hasLabels = true;
      if (typeof value !== "object" || Array.isArray(value) || Object.keys(value).length > MAX_LABELS) {
        refuse(written, `must be an object of at most ${MAX_LABELS} labels, as {"tier": "gold"}`);
      } else for (const [key, text] of Object.entries(value)) label(key, text, `labels.${key}`);
      continue;
    }
    if (written === "now") {
      const now = typeof value === "string" ? Date.parse(value) : Number.NaN;
      if (Number.isNaN(now)) refuse(written, "must be a timestamp, as 2026-12-24T18:00:00Z");
      else facts.now = now;
      continue;
    }
    const fact = factOf(written);
    if (!fact) {
      refuse(written, `is no fact. ${factHint(clip(written, 64))}`);
      continue;
    }
    const key = labelKey(fact.name);
    if (key !== undefined) {
      hasLabels = true;
      label(key, value, written);
      continue;
    }
    const given = givenFact(value, fact.info);
    if ("must" in given) refuse(written, given.must);
    else facts[fact.name] = given.fact;
  }
  if (problems.length > 0) return { problems };
  return { facts: hasLabels ? { ...facts, labels } : facts };
}

function givenFact(value: unknown, info: FactInfo): Given {
  switch (info.kind) {
    case "texts":
      return Array.isArray(value) && value.length <= MAX_TEXTS && value.every((item) => typeof item === "string")
        ? { fact: value as string[] }
        : { must: `must be a list of at most ${MAX_TEXTS} texts` };
    case "number":
      return typeof value === "number" && Number.isFinite(value) && isInRange(info, value)
        ? { fact: value }
        : { must: `must be ${numberOf(info)}` };
    case "money": {
      const text = typeof value === "number" ? String(value) : value;
      const micros = typeof text === "string" && text !== "" ? costMicros(text) : undefined;
      if (micros !== undefined) return { fact: micros };
      return { must: `must be a decimal number from 0 to ${decimalOf(MAX_MICROS)}, as "0.25"` };
    }
    case "choice":
      return info.values!.includes(value as string)
        ? { fact: value as string }
        : { must: `must be one of ${info.values!.join(", ")}` };
    case "date":
      return typeof value === "string" && dayOf(value) !== undefined
        ? { fact: value }
        : { must: "must be a day, as 2026-12-24" };
    case "time":
      return typeof value === "string" && minutesOf(value) !== undefined
        ? { fact: value }
        : { must: 'must be a time from "00:00" to "23:59"' };
    case "text":
      return typeof value === "string" && value.length <= MAX_TEXT
        ? { fact: value }
        : { must: `must be a text of at most ${MAX_TEXT} characters` };
  }
}
