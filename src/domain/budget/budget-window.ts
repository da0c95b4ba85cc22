/**
 * The windows of budgets: hours, days and months as a clock on the wall of some place shows them. A day has 23 hours when the
 * clock is set forward, and 25 when it is set back; the windows of a period follow each other without gap or overlap. Pure.
 */
import { Temporal } from "temporal-polyfill";
import type { BudgetPeriod } from "./budget-rule.ts";

/** From `startMs` up to but not including `endMs`, in milliseconds since the epoch. */
export interface BudgetWindow {
  readonly startMs: number;
  readonly endMs: number;
}

/** The window that a moment is in. `timeZone` is the IANA name of one that exists. */
export function windowAt(period: BudgetPeriod, timeZone: string, ms: number): BudgetWindow {
  const now = Temporal.Instant.fromEpochMilliseconds(ms).toZonedDateTimeISO(timeZone);
  if (period === "HOURLY") return hourAt(now);
  const unit = period === "DAILY" ? { days: 1 } : { months: 1 };
  let first = now.toPlainDate();
  if (period === "MONTHLY") first = first.with({ day: 1 });
  // A clock that is set back across midnight shows the day before once more: that belongs to the day that has begun.
  let window = { startMs: beginOf(first, timeZone), endMs: beginOf(first.add(unit), timeZone) };
  while (ms >= window.endMs) {
    first = first.add(unit);
    window = { startMs: window.endMs, endMs: beginOf(first.add(unit), timeZone) };
  }
  return window;
}

const beginOf = (date: Temporal.PlainDate, timeZone: string): number =>
  date.toZonedDateTime(timeZone).epochMilliseconds;

/** An hour during which the clock is set is cut there, unless it is set at its beginning. */
function hourAt(now: Temporal.ZonedDateTime): BudgetWindow {
  const ms = now.epochMilliseconds;
  const intoHour = ((now.minute * 60 + now.second) * 1000 + now.millisecond) % HOUR_MS;
  const startMs = ms - intoHour;
  const before = now.getTimeZoneTransition("previous")?.epochMilliseconds ?? startMs;
  const after = now.getTimeZoneTransition("next")?.epochMilliseconds ?? startMs + HOUR_MS;
  // The transition at this very moment is what "previous" leaves out.
  const isAtTransition = now.subtract({ milliseconds: 1 }).offsetNanoseconds !== now.offsetNanoseconds;
  return {
    startMs: isAtTransition ? ms : Math.max(startMs, before),
    endMs: Math.min(startMs + HOUR_MS, after),
  };
}

const HOUR_MS = 3_600_000;

/** Ends of windows that are known at once, at most. */
const MOST_KNOWN = 10_000;

/** The ends of windows that are asked for again and again: each is reckoned once. */
export class WindowEnds {
  readonly #ends = new Map<string, number>();

  /** When the window ends that begins then, in milliseconds since the epoch. */
  of(period: BudgetPeriod, timeZone: string, startMs: number): number {
    const name = `${startMs} ${period} ${timeZone}`;
    let endMs = this.#ends.get(name);
    if (endMs === undefined) {
      endMs = windowAt(period, timeZone, startMs).endMs;
      if (this.#ends.size >= MOST_KNOWN) this.#ends.clear();
      this.#ends.set(name, endMs);
    }
    return endMs;
  }
}

/** So far may a clock be set back, in milliseconds, and nothing comes of it. One that was wrong by more is believed. */
const SMALL_STEP_MS = HOUR_MS;

/** Windows as time goes on: each is reckoned once, and one that has begun is not left for the one before when the clock is set back a little. */
export class WindowClock {
  readonly #windows = new Map<string, BudgetWindow>();
  #turns = 0;

  /** How many windows were left for others: as long as it is the same number, those that were told are still the right ones. */
  get turns(): number {
    return this.#turns;
  }

  at(period: BudgetPeriod, timeZone: string, ms: number): BudgetWindow {
    const name = `${period} ${timeZone}`;
    const last = this.#windows.get(name);
    if (last && ms < last.endMs && ms >= last.startMs - SMALL_STEP_MS) return last;
    const window = windowAt(period, timeZone, ms);
    this.#windows.set(name, window);
    if (last) this.#turns++;
    return window;
  }
}
