import { create, type MessageInitShape, toJson } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import {
  ListTasksResponseSchema,
  StreamResponseSchema,
  type TaskSchema,
  TaskState,
} from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { withMilliseconds } from "../../src/domain/json-times.ts";

const WHOLE_SECOND = Date.UTC(2026, 0, 2, 3, 4, 5);

function task(ms: number): MessageInitShape<typeof TaskSchema> {
  return {
    id: "t1",
    status: { state: TaskState.WORKING, timestamp: timestampFromMs(ms) },
    // What a client wrote is its own, whatever it looks like.
    metadata: { timestamp: "2026-01-02T03:04:05Z" },
  };
}

test("whole seconds have milliseconds, in lists and deep down", () => {
  const list = create(ListTasksResponseSchema, { tasks: [task(WHOLE_SECOND), task(WHOLE_SECOND + 120)] });
  expect(withMilliseconds(ListTasksResponseSchema, toJson(ListTasksResponseSchema, list))).toMatchObject({
    tasks: [
      { status: { timestamp: "2026-01-02T03:04:05.000Z" }, metadata: { timestamp: "2026-01-02T03:04:05Z" } },
      { status: { timestamp: "2026-01-02T03:04:05.120Z" } },
    ],
  });
});

test("in an update", () => {
  const { status } = task(WHOLE_SECOND);
  const payload = { case: "statusUpdate" as const, value: { taskId: "t1", contextId: "c1", status: status! } };
  const update = create(StreamResponseSchema, { payload });
  expect(withMilliseconds(StreamResponseSchema, toJson(StreamResponseSchema, update))).toEqual({
    statusUpdate: {
      taskId: "t1",
      contextId: "c1",
      status: { state: "TASK_STATE_WORKING", timestamp: "2026-01-02T03:04:05.000Z" },
    },
  });
});

test("what holds no timestamp stays as it is", () => {
  expect(withMilliseconds(StreamResponseSchema, {})).toEqual({});
});
