/** Streams of a task that outlive their connection: one that breaks is taken up again after the last item that came. */
import { setTimeout } from "node:timers/promises";
import { Code, ConnectError } from "@connectrpc/connect";
import { ErrorInfoSchema, RetryInfoSchema } from "../../gen/google/rpc/error_details_pb.ts";
import type { StreamResponse } from "../../gen/lf/a2a/v1/a2a_pb.ts";

/** The extension by which each item says its number in the log of its task. */
export const UPDATES_EXTENSION = "urn:signalbox:a2a:updates:v1";

/** The header of a subscription that says after which number to go on. */
export const AFTER_SEQUENCE_HEADER = "Signalbox-After-Sequence";

/** Pauses before connecting again, in milliseconds: none before the first try, then twice as long each time. */
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 5000;

export interface ResumingOptions {
  /** The first connection. */
  open(): AsyncIterable<StreamResponse>;
  /** A further one, which begins with the task as it stood at a number and goes on with what followed it. */
  resume(taskId: string, after: number): AsyncIterable<StreamResponse>;
  /** Whether nothing can follow an item: a stream that breaks after it has told everything. */
  isLast(item: StreamResponse): boolean;
  /** How many times in a row it connects again without success. */
  reconnects: number;
  /** Ends a pause. */
  signal: AbortSignal;
  /** Closes the connection that is open, if one is: a reader that leaves its loop does not. */
  leave(): void;
}

/**
 * The items of a stream, each once and in order, over as many connections as it takes. Throws ConnectError when the server
 * refuses, when nothing had come before the connection broke, and when connecting again did not help.
 */
export async function* resuming(options: ResumingOptions): AsyncGenerator<StreamResponse, void> {
  let last: { taskId: string; sequence: number } | undefined;
  let isOver = false;
  try {
    for (let failures = 0; ; failures++) {
      const isResumed: boolean = last !== undefined;
      let answeredAt: number | undefined;
      try {
        for await (const item of last ? options.resume(last.taskId, last.sequence) : options.open()) {
          const isFirst = answeredAt === undefined;
          answeredAt ??= performance.now();
          // A resumed stream begins with the task as it stood at the last item.
          if (isFirst && isResumed) continue;
          failures = 0;
          last = placeOf(item) ?? last;
          isOver = options.isLast(item);
          yield item;
          // What was begun as the answer to a message is gone on with as a subscription, which may last longer.
          if (isOver && isResumed) return;
        }
        return;
      } catch (error) {
        if (isOver) return;
        // A connection that lasted was a good one, though its task may have been silent.
        if (answeredAt !== undefined && performance.now() - answeredAt > LONGEST_PAUSE_MS) failures = 0;
        if (last === undefined || failures >= options.reconnects || !mayConnectAgain(error)) throw error;
        await pause(pauseMs(failures, error), options.signal);
      }
    }
  } finally {
    options.leave();
  }
}

/** The number of an item in the log of its task, if the server says it: what comes after it is `watch(taskId, {after})`. */
export function sequenceOf({ payload }: StreamResponse): number | undefined {
  const said = payload.value?.metadata?.[UPDATES_EXTENSION];
  const sequence = typeof said === "object" && said !== null && "sequence" in said ? Number(said.sequence) : Number.NaN;
  return Number.isSafeInteger(sequence) ? sequence : undefined;
}

function placeOf(item: StreamResponse): { taskId: string; sequence: number } | undefined {
  const { payload } = item;
  const sequence = sequenceOf(item);
  if (sequence === undefined || payload.case === undefined || payload.case === "message") return undefined;
  return { taskId: payload.case === "task" ? payload.value.id : payload.value.taskId, sequence };
}

/** A connection that broke can be made anew; what the server refuses it refuses again, unless it says when to ask again. */
function mayConnectAgain(error: unknown): boolean {
  if (!(error instanceof ConnectError)) return false;
  if (error.findDetails(RetryInfoSchema).length > 0) return true;
  if (error.findDetails(ErrorInfoSchema).length > 0) return false;
  return BROKEN_WIRE.has(error.code);
}

/** What the transport makes of connections that break and of gateways that answer for the server; the last is half an answer. */
const BROKEN_WIRE: ReadonlySet<Code> = new Set([
  Code.Unavailable,
  Code.Aborted,
  Code.Unknown,
  Code.Internal,
  Code.InvalidArgument,
]);

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  try {
    await setTimeout(ms, undefined, { signal });
  } catch (aborted) {
    throw ConnectError.from(aborted);
  }
}

/** Half of it by chance, so that the clients of a server that was away do not all come back at once. */
function pauseMs(failures: number, error: unknown): number {
  const delay = ConnectError.from(error).findDetails(RetryInfoSchema)[0]?.retryDelay;
  const asked = delay ? Number(delay.seconds) * 1000 + delay.nanos / 1e6 : 0;
  const pause = failures === 0 ? 0 : FIRST_PAUSE_MS * 2 ** (failures - 1) * (0.5 + Math.random() / 2);
  return Math.min(LONGEST_PAUSE_MS, Math.max(asked, pause));
}
