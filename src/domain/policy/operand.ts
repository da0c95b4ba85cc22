/** What facts are compared with, as documents write it and as it is compared. */
import { costMicros, decimalOf, MAX_MICROS } from "../money.ts";
import type { Operand } from "./document.ts";
import type { FactInfo } from "./fact-table.ts";
import type { YamlText } from "./yaml-tree.ts";

/** Longest text that a fact is compared with. */
const MAX_TEXT = 1_024;

/** What a document compares a fact with, or what it must be. */
export function operandOf(written: YamlText, info: FactInfo): { operand: Operand } | { must: string } {
  const { value, source } = written;
  switch (info.kind) {
    case "text":
    case "texts":
      if (value === null) return { must: "must be a text; for a fact that is not known write {exists: false}" };
      return source.length <= MAX_TEXT
        ? { operand: copied(source) }
        : { must: `must have at most ${MAX_TEXT} characters` };
    case "choice":
      return info.values!.includes(source)
        ? { operand: source }
        : { must: `must be one of ${info.values!.join(", ")}` };
    case "number":
      if (typeof value !== "number" || !Number.isFinite(value)) return { must: "must be a number, without quotes" };
      return { operand: value };
    case "money": {
      const micros = value === null || source === "" ? undefined : costMicros(source);
      if (micros !== undefined) return { operand: micros };
      const most = decimalOf(MAX_MICROS);
      return { must: `must be a decimal number from 0 to ${most} with at most 6 digits after the point` };
    }
    case "time": {
      const minutes = minutesOf(source);
      return minutes === undefined ? { must: 'must be a time from "00:00" to "23:59"' } : { operand: minutes };
    }
    case "date": {
      const day = dayOf(source);
      return day === undefined ? { must: "must be a day, as 2026-12-24" } : { operand: day };
    }
  }
}

/** What a number of a fact must be, as `a number from 0 to 1`. */
export function numberOf({ isWhole, range }: FactInfo): string {
  const kind = isWhole ? "a whole number" : "a number";
  if (!range) return kind;
  const [least, most] = range;
  return most === undefined ? `${kind}, ${least} or more` : `${kind} from ${least} to ${most}`;
}

/** Whether a fact can be that number. */
export const isInRange = ({ isWhole, range = [Number.NEGATIVE_INFINITY] }: FactInfo, value: number): boolean =>
  (!isWhole || Number.isSafeInteger(value)) && value >= range[0] && value <= (range[1] ?? Number.POSITIVE_INFINITY);

/** Whether a fact can ever be so compared with a number. */
export function canHold({ range }: FactInfo, operator: "<" | "<=" | ">" | ">=", bound: number): boolean {
  if (!range) return true;
  const [least, most = Number.POSITIVE_INFINITY] = range;
  switch (operator) {
    case "<":
      return bound > least;
    case "<=":
      return bound >= least;
    case ">":
      return bound < most;
    case ">=":
      return bound <= most;
  }
}

/** A part of a text keeps the whole of it in memory, and is slow to compare. */
const copied = (text: string): string => JSON.parse(JSON.stringify(text)) as string;

/** `09:30` in minutes after midnight; undefined for what is no time. */
export function minutesOf(text: string): number | undefined {
  const [, hours, minutes] = /^([01]\d|2[0-3]):([0-5]\d)$/.exec(text) ?? [];
  return hours === undefined ? undefined : Number(hours) * 60 + Number(minutes);
}

/** `2026-12-24` as the number 20261224, in the order of days; undefined for what is no day. */
export function dayOf(text: string): number | undefined {
  const [, year, month, day] = /^(\d{4})-(\d\d)-(\d\d)$/.exec(text) ?? [];
  if (year === undefined) return undefined;
  const date = new Date(`${text}T00:00:00Z`);
  // The 30th of February would be one of March.
  if (Number.isNaN(date.getTime()) || date.getUTCDate() !== Number(day)) return undefined;
  return Number(`${year}${month}${day}`);
}

/** The text of minutes after midnight, and of a day. */
export const timeText = (minutes: number): string => `${two(Math.floor(minutes / 60))}:${two(minutes % 60)}`;

export const dayText = (day: number): string =>
  `${String(Math.floor(day / 10_000)).padStart(4, "0")}-${two(Math.floor(day / 100) % 100)}-${two(day % 100)}`;

const two = (number: number): string => String(number).padStart(2, "0");
