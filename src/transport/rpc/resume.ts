/**
 * How a client says after which update it wants to go on with a stream: `signalbox-after-sequence` in every binding, and
 * `Last-Event-ID`, which browsers send by themselves. The one place that reads either.
 */
import { clip, type FieldViolation, invalidArgument, SignalboxError } from "../../domain/errors.ts";
import type { StreamCursor } from "../../services/request-context.ts";

/** As errors name them; calls look them up in lower case. */
const AFTER_SEQUENCE = "signalbox-after-sequence";
const LAST_EVENT_ID = "Last-Event-ID";

/** Looks up a header or metadata entry by its name in lower case; null when it was not sent. */
type Header = (name: string) => string | null;

/**
 * Where a subscription is to go on; undefined when the client does not say. Throws INVALID_ARGUMENT for what is no number,
 * and for two that differ. Whether the log of the task reaches as far is for its reader to say.
 */
export function readCursor(header: Header): StreamCursor | undefined {
  const [cursor, other] = cursorsOf(header);
  if (cursor && other && cursor.sequence !== other.sequence) {
    const description = `says ${clip(header(AFTER_SEQUENCE)!)} where ${LAST_EVENT_ID} says ${clip(header(LAST_EVENT_ID.toLowerCase())!)}; send one of them`;
    throw invalidArgument([{ field: AFTER_SEQUENCE, description }]);
  }
  return cursor;
}

function cursorsOf(header: Header): StreamCursor[] {
  const violations: FieldViolation[] = [];
  const cursors = sentBy(header).flatMap(({ name, value }) => {
    if (/^\d{1,15}$/.test(value)) return [{ sequence: Number(value), header: name }];
    const description = `says "${clip(value)}", which is no number of an update; send that of the last one that you have, as 42, or leave it out to begin with the task as it stands`;
    violations.push({ field: name, description });
    return [];
  });
  if (violations.length > 0) throw invalidArgument(violations);
  return cursors;
}

/**
 * Throws FAILED_PRECONDITION, reason RESUME_BY_SUBSCRIBING, when a call that sends a message asks to go on with a stream.
 * A client that lost a stream and repeats its request would have the work done twice.
 */
export function refuseResume(header: Header): void {
  const [sent] = sentBy(header);
  if (!sent) return;
  throw new SignalboxError({
    code: "FAILED_PRECONDITION",
    reason: "RESUME_BY_SUBSCRIBING",
    message: `${sent.name} asks to go on with a stream, but this call would send the message once more. Go on with SubscribeToTask (GET /tasks/{id}:subscribe) and the same header, or leave it out to begin a new task.`,
    metadata: { header: sent.name },
  });
}

const sentBy = (header: Header): { name: string; value: string }[] =>
  [AFTER_SEQUENCE, LAST_EVENT_ID].flatMap((name) => {
    const value = header(name.toLowerCase());
    return value === null ? [] : [{ name, value }];
  });
