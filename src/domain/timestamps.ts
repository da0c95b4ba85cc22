/** What a google.protobuf.Timestamp may be, wherever a client says one. */
import type { Timestamp } from "@bufbuild/protobuf/wkt";
import type { FieldViolation } from "./errors.ts";

/** Years 1 to 9999, in seconds of the epoch: any database can hold them. */
const EARLIEST_SECONDS = -62_135_596_800;
const LATEST_SECONDS = 253_402_300_799;
const LATEST_NANOS = 999_999_999;

/** What is wrong with a time that may be left out. */
export function timestampViolations(field: string, time: Timestamp | undefined): FieldViolation[] {
  if (!time) return [];
  const { seconds, nanos } = time;
  if (seconds < EARLIEST_SECONDS || seconds > LATEST_SECONDS)
    return [{ field, description: "must be of the years 1 to 9999" }];
  if (nanos < 0 || nanos > LATEST_NANOS)
    return [{ field, description: `must have nanos of 0 to ${LATEST_NANOS}; they count forward from its seconds` }];
  return [];
}

/** Whether a Timestamp can say this time. */
export const isTimestampDate = (date: Date): boolean => {
  const seconds = Math.floor(date.getTime() / 1000);
  return seconds >= EARLIEST_SECONDS && seconds <= LATEST_SECONDS;
};
