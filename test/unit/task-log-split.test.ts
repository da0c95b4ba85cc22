/** A log that is read in two parts: the task as it stood at a number, and what followed it. */
import { create, equals, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import { expect, test } from "vitest";
import { StreamResponseSchema, TaskSchema, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { applyUpdate, foldTask, type NewUpdate, type TaskUpdate } from "../../src/domain/task-log.ts";
import { EngineState } from "../../src/domain/task-state.ts";
import { headerOf } from "../fixtures/task-header.ts";

const { WORKING, INPUT_REQUIRED, AUTH_REQUIRED, COMPLETED, FAILED, CANCELED, REJECTED } = TaskState;

const header = headerOf();
const ids = { taskId: header.taskId, contextId: header.contextId };

function row(
  kind: NewUpdate["kind"],
  payload?: NonNullable<MessageInitShape<typeof StreamResponseSchema>["payload"]>,
): NewUpdate {
  return { kind, body: create(StreamResponseSchema, payload && { payload }) };
}

const part = fc.string().map((value) => ({ content: { case: "text" as const, value } }));
const message = fc.record({ messageId: fc.uuid(), parts: fc.array(part, { maxLength: 2 }) });
const metadata = fc.dictionary(fc.constantFrom("a", "b"), fc.string());
const chunk = fc.record(
  { artifactId: fc.constantFrom("a", "b"), parts: fc.array(part), metadata },
  { requiredKeys: ["artifactId", "parts"] },
);

const status = (states: readonly TaskState[]) =>
  fc
    .record({ state: fc.constantFrom(...states), message, seconds: fc.nat() }, { requiredKeys: ["state", "seconds"] })
    .map(({ seconds, ...said }) => {
      const timestamp = timestampFromMs(seconds * 1000);
      return row("status", { case: "statusUpdate", value: { ...ids, status: { ...said, timestamp } } });
    });

/** Whatever may stand in a log before its end. */
const middle = fc.oneof(
  message.map((value) => row("message", { case: "message", value })),
  status([WORKING, INPUT_REQUIRED, AUTH_REQUIRED]),
  fc
    .tuple(chunk, fc.boolean())
    .map(([artifact, append]) => row("artifact", { case: "artifactUpdate", value: { ...ids, artifact, append } })),
  metadata.map((metadata) => row("metadata", { case: "task", value: { metadata } })),
  fc.constantFrom(...Object.values(EngineState)).map((state) => ({ ...row("transition"), state })),
);

/** What may be last. */
const end = fc.oneof(
  status([COMPLETED, FAILED, CANCELED, REJECTED]),
  message.map((value) => row("reply", { case: "message", value })),
);

const log = fc
  .tuple(fc.array(middle, { maxLength: 25 }), fc.option(end))
  .map(([rows, last]) => (last ? [...rows, last] : rows));

/** The same rows as they come from the database: no two readers share a message. */
const stored = (rows: readonly NewUpdate[]): TaskUpdate[] =>
  rows.map((update, index) => ({
    ...update,
    seq: index + 1,
    body: fromBinary(StreamResponseSchema, toBinary(StreamResponseSchema, update.body)),
  }));

test("the task as it stood at any number, carried on by the rest, is the task as it stands", () => {
  fc.assert(
    fc.property(log, (rows) => {
      const whole = foldTask(header, stored(rows));
      for (let at = 0; at <= rows.length; at++) {
        const updates = stored(rows);
        const image = foldTask(header, updates.slice(0, at));
        expect(image.seq).toBe(at);
        const shown = toBinary(TaskSchema, image.task);
        for (const update of updates.slice(at)) applyUpdate(image, update);
        expect(equals(TaskSchema, image.task, whole.task)).toBe(true);
        expect([image.seq, image.state, image.reply]).toEqual([whole.seq, whole.state, whole.reply]);
        // The rows are shared with whoever reads them next: folding them changes none.
        expect(toBinary(TaskSchema, foldTask(header, updates.slice(0, at)).task)).toEqual(shown);
      }
    }),
  );
});
