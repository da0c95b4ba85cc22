/** Durations that are given as options. */
import { InvalidArgumentError } from "commander";
import { durationMs } from "../domain/duration.ts";

/** Milliseconds. For options of a command. */
export function parseDuration(text: string): number {
  const ms = durationMs(text);
  if (ms === undefined) throw new InvalidArgumentError("It is a number with its unit: 90s, 15m, 1h or 7d.");
  return ms;
}
