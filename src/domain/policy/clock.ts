/** What the clocks of time zones show. */

/** A moment, as people of a zone name it. */
export interface ClockReading {
  /** As the number 20261224. */
  readonly day: number;
  /** After midnight, as the clock shows it: an hour that comes twice has the same minutes twice. */
  readonly minutes: number;
  readonly hour: number;
  /** MON to SUN. */
  readonly weekday: string;
}

const MINUTE_MS = 60_000;

/** The clock of an IANA zone. Remembers the minute that it was asked about last: most questions are about now. */
export function clockOf(timeZone: string): (nowMs: number) => ClockReading {
  const format = new Intl.DateTimeFormat("en-US", {
    timeZone,
    calendar: "gregory",
    numberingSystem: "latn",
    hourCycle: "h23",
    weekday: "short",
    year: "numeric",
    month: "2-digit",
    day: "2-digit",
    hour: "2-digit",
    minute: "2-digit",
  });
  let minute = Number.NaN;
  let reading: ClockReading;
  return (nowMs) => {
    const asked = Math.floor(nowMs / MINUTE_MS);
    if (asked !== minute) {
      const parts = Object.fromEntries(format.formatToParts(asked * MINUTE_MS).map(({ type, value }) => [type, value]));
      const hour = Number(parts.hour);
      reading = {
        day: Number(parts.year) * 10_000 + Number(parts.month) * 100 + Number(parts.day),
        minutes: hour * 60 + Number(parts.minute),
        hour,
        weekday: parts.weekday!.toUpperCase(),
      };
      minute = asked;
    }
    return reading;
  };
}
