import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { MessageSchema, StreamResponseSchema, TaskSchema, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { repeatsQuestion } from "../../src/domain/agent-report.ts";
import { newImage } from "../../src/domain/task-log.ts";

const { WORKING, INPUT_REQUIRED, AUTH_REQUIRED } = TaskState;
const message = (messageId: string) => create(MessageSchema, { messageId });

/** A task whose question "q1" was answered. */
function answered() {
  const image = newImage({
    workspaceId: "default",
    taskId: "t",
    contextId: "c",
    agentId: "a",
    createdAt: new Date(0),
    disclosed: true,
    hasPush: false,
    upstreamTaskId: "u",
    upstreamContextId: undefined,
  });
  image.task.history.push(message("m1"), message("q1"), message("m2"));
  return image;
}

const shows = (state: TaskState, question?: string) =>
  create(StreamResponseSchema, {
    payload: {
      case: "task",
      value: create(TaskSchema, { status: { state, ...(question !== undefined && { message: message(question) }) } }),
    },
  });

test.each([INPUT_REQUIRED, AUTH_REQUIRED])(
  "a task that still waits in state %i for what was answered is old",
  (state) => {
    expect(repeatsQuestion(answered(), shows(state, "q1"))).toBe(true);
    expect(repeatsQuestion(answered(), shows(state))).toBe(true);
  },
);

test("another question, and any other report, is new", () => {
  expect(repeatsQuestion(answered(), shows(INPUT_REQUIRED, "q2"))).toBe(false);
  expect(repeatsQuestion(answered(), shows(WORKING, "q1"))).toBe(false);
  const status = create(StreamResponseSchema, {
    payload: { case: "statusUpdate", value: { status: { state: INPUT_REQUIRED, message: message("q1") } } },
  });
  expect(repeatsQuestion(answered(), status)).toBe(false);
});
