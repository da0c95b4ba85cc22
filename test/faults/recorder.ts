/** Writes down what clients send and are told, as it happens. */
import { randomUUID } from "node:crypto";
import { clone } from "@bufbuild/protobuf";
import { type StreamResponse, StreamResponseSchema, type TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { sequenceOf } from "../../src/sdk/client.ts";
import { UPDATES_EXTENSION } from "../../src/sdk/resuming-stream.ts";
import type { SeenAnswers, SeenStream, SentMessage } from "./evidence.ts";

export interface Recorder {
  readonly acknowledged: ReadonlySet<string>;
  readonly messages: readonly SentMessage[];
  readonly streams: readonly SeenStream[];
  readonly answers: readonly SeenAnswers[];
  readonly surprises: readonly string[];
  /** How often clients were refused or cut off, by what they were told. */
  readonly troubles: ReadonlyMap<string, number>;
  message(taskId?: string): SentMessage;
  /** The router has told a client that it has a message, and so its task. */
  acknowledge(message: SentMessage, taskId: string): void;
  /** Notes what one client sees that asks again and again. */
  answersOf(taskId: string): (state: TaskState | undefined) => void;
  /** Notes what comes over one connection. The function returns the number of an item. */
  stream(taskId: string, after: number | undefined): { taskId: string; note(item: StreamResponse): number };
  surprise(what: string): void;
  trouble(what: string): void;
}

export function createRecorder(): Recorder {
  const acknowledged = new Set<string>();
  const messages: SentMessage[] = [];
  const streams: SeenStream[] = [];
  const answers: SeenAnswers[] = [];
  const surprises: string[] = [];
  const troubles = new Map<string, number>();
  return {
    acknowledged,
    messages,
    streams,
    answers,
    surprises,
    troubles,
    message(taskId) {
      const message = { messageId: randomUUID(), acknowledged: false, ...(taskId !== undefined && { taskId }) };
      messages.push(message);
      return message;
    },
    acknowledge(message, taskId) {
      message.taskId = taskId;
      message.acknowledged = true;
      acknowledged.add(taskId);
    },
    answersOf(taskId) {
      const seen: SeenAnswers = { taskId, states: [] };
      answers.push(seen);
      return (state) => {
        if (state !== undefined) seen.states.push(state);
      };
    },
    stream(taskId, after) {
      const seen: SeenStream = { taskId, ...(after !== undefined && { after }), items: [] };
      streams.push(seen);
      return {
        set taskId(known: string) {
          seen.taskId = known;
        },
        note(item) {
          const sequence = sequenceOf(item);
          if (sequence === undefined) {
            surprises.push(`${seen.taskId}: an item without a number`);
            return after ?? 0;
          }
          seen.items.push({ sequence, response: unnumbered(item) });
          return sequence;
        },
      };
    },
    surprise: (what) => void surprises.push(what),
    trouble: (what) => void troubles.set(what, (troubles.get(what) ?? 0) + 1),
  };
}

/** The item as it is stored: without its number. */
function unnumbered(item: StreamResponse): StreamResponse {
  const copy = clone(StreamResponseSchema, item);
  const { value } = copy.payload;
  if (!value?.metadata) return copy;
  const { [UPDATES_EXTENSION]: _, ...metadata } = value.metadata;
  if (Object.keys(metadata).length > 0) value.metadata = metadata;
  else delete value.metadata;
  return copy;
}
