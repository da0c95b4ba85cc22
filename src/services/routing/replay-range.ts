/** The time range of a replay. */
import { type Timestamp, timestampDate } from "@bufbuild/protobuf/wkt";
import type { FieldViolation } from "../../domain/errors.ts";

/** Ids of tasks hold their time in so many milliseconds at most, and from 1970 on. */
const LATEST_MS = 2 ** 48 - 1;

/** A range that is asked for, in milliseconds of the epoch. It ends now, and is `usualMs` long, unless it says otherwise. */
export function replayRange(
  { startTime, endTime }: { startTime?: Timestamp | undefined; endTime?: Timestamp | undefined },
  nowMs: number,
  usualMs: number,
  violations: FieldViolation[],
): { fromMs: number; beforeMs: number } {
  const beforeMs = msOf(endTime) ?? nowMs;
  const fromMs = msOf(startTime) ?? Math.max(0, beforeMs - usualMs);
  const isTime = (ms: number) => ms >= 0 && ms <= LATEST_MS;
  const refused = (field: string, description: string) => violations.push({ field, description });
  if (!isTime(fromMs)) refused("startTime", "must not be before 1970");
  if (!isTime(beforeMs)) refused("endTime", "must not be before 1970");
  else if (fromMs >= beforeMs) refused("startTime", "must be before endTime");
  return { fromMs, beforeMs };
}

const msOf = (time: Timestamp | undefined): number | undefined => time && timestampDate(time).getTime();
