import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { describe, expect, test } from "vitest";
import {
  ArtifactSchema,
  MessageSchema,
  PartSchema,
  Role,
  StreamResponseSchema,
  TaskSchema,
  TaskState,
  TaskStatusSchema,
} from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { ownText, repeatsQuestion, updatesFromSnapshot } from "../../src/domain/agent-report.ts";
import { applyUpdate, newImage } from "../../src/domain/task-log.ts";
import { headerOf } from "../fixtures/task-header.ts";

const { WORKING, INPUT_REQUIRED, AUTH_REQUIRED, COMPLETED } = TaskState;
const message = (messageId: string) => create(MessageSchema, { messageId });

/** A task whose question "q1" was answered. */
function answered() {
  const image = newImage(headerOf({ taskId: "t", contextId: "c", upstreamTaskId: "u" }));
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

describe("a snapshot after a broken stream", () => {
  const at = timestampFromDate(new Date(0));
  const said = (messageId: string) => create(MessageSchema, { messageId, role: Role.AGENT });
  const chunk = (parts: number) =>
    create(ArtifactSchema, { artifactId: "a", parts: Array.from({ length: parts }, () => create(PartSchema)) });

  test.each([
    [WORKING, ["status", "artifact"]],
    [COMPLETED, ["artifact", "status"]],
    [INPUT_REQUIRED, ["artifact", "status"]],
  ])("tells in state %i first what comes first in a stream", (state, kinds) => {
    const image = newImage(headerOf({ taskId: "t", contextId: "c", upstreamTaskId: "u" }));
    const task = create(TaskSchema, { status: { state }, artifacts: [chunk(1)] });
    expect(updatesFromSnapshot(image, task, new Map(), at).map(({ kind }) => kind)).toEqual(kinds);
  });

  test("keeps the order in which the agent spoke", () => {
    const image = answered();
    image.task.status = create(TaskStatusSchema, { state: WORKING, message: said("A0") });
    const upstream = create(TaskSchema, {
      status: { state: WORKING, message: said("A2") },
      history: [said("A0"), said("A1")],
    });
    for (const update of updatesFromSnapshot(image, upstream, new Map(), at)) {
      applyUpdate(image, { ...update, seq: image.seq + 1 });
    }
    expect(image.task.history.map((m) => m.messageId)).toEqual(["m1", "q1", "m2", "A0", "A1"]);
    expect(image.task.status?.message?.messageId).toBe("A2");
    expect(updatesFromSnapshot(image, upstream, new Map(), at)).toEqual([]);
  });

  test.each([
    [WORKING, false],
    [COMPLETED, true],
  ])("of a task in state %i says lastChunk %s", (state, lastChunk) => {
    const upstream = create(TaskSchema, { status: { state }, artifacts: [chunk(1)] });
    const update = updatesFromSnapshot(answered(), upstream, new Map(), at).find(({ kind }) => kind === "artifact");
    expect(update?.body.payload).toMatchObject({ case: "artifactUpdate", value: { lastChunk } });
  });
});

test.each([
  ["c1", "The connection c1 broke", "The connection c1 broke"],
  ["con", "The connection con broke: con-2, (con).", "The connection t broke: con-2, (t)."],
  ["a.b", "axb a.b", "axb t"],
])("the agent's id %s in a text becomes ours where it is a word", (upstreamTaskId, said, own) => {
  expect(ownText({ ...answered().header, upstreamTaskId }, said)).toBe(own);
});
