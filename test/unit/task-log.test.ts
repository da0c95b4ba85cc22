import { clone, create, equals, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  type Message,
  MessageSchema,
  Role,
  StreamResponseSchema,
  type Task,
  TaskArtifactUpdateEventSchema,
  TaskSchema,
  TaskState,
  TaskStatusUpdateEventSchema,
} from "../../gen/lf/a2a/v1/a2a_pb.ts";
import {
  messageUpdate,
  statusUpdate,
  updatesFromArtifact,
  updatesFromSnapshot,
  updatesFromStatus,
} from "../../src/domain/agent-report.ts";
import {
  applyUpdate,
  copyImage,
  foldTask,
  type NewUpdate,
  newImage,
  stateOf,
  type TaskUpdate,
  viewTask,
} from "../../src/domain/task-log.ts";
import { isTerminal } from "../../src/domain/task-state.ts";
import { headerOf } from "../fixtures/task-header.ts";

const at = timestampFromDate(new Date("2026-01-01T00:00:00.123Z"));
const header = headerOf({
  taskId: "ours",
  contextId: "our-context",
  upstreamTaskId: "theirs",
  upstreamContextId: "their-context",
});

const says = (messageId: string, role: Role = Role.AGENT): Message =>
  create(MessageSchema, {
    messageId,
    role,
    taskId: "theirs",
    contextId: "their-context",
    parts: [{ content: { case: "text", value: messageId } }],
  });

/** What an agent may do to a task, one step at a time. */
type Step =
  | { kind: "status"; state: TaskState; message: string | undefined }
  | { kind: "artifact"; id: string; append: boolean; text: string };

const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({
    kind: fc.constant("status" as const),
    state: fc.constantFrom(
      TaskState.WORKING,
      TaskState.WORKING,
      TaskState.INPUT_REQUIRED,
      TaskState.AUTH_REQUIRED,
      TaskState.COMPLETED,
      TaskState.FAILED,
    ),
    message: fc.option(fc.uuid(), { nil: undefined }),
  }),
  fc.record({
    kind: fc.constant("artifact" as const),
    id: fc.constantFrom("a", "b"),
    append: fc.boolean(),
    text: fc.string(),
  }),
);

/** The agent's own copy of the task, kept the obvious way. */
function agentDoes(task: Task, { ...step }: Step): void {
  if (task.status && isTerminal(task.status.state)) return;
  if (step.kind === "status") {
    if (task.status?.message) task.history.push(task.status.message);
    const message = step.message === undefined ? {} : { message: says(step.message) };
    task.status = create(TaskSchema, { status: { state: step.state, ...message } }).status!;
    return;
  }
  const parts = [{ content: { case: "text", value: step.text } }] as const;
  const known = task.artifacts.find((a) => a.artifactId === step.id);
  const fresh = create(TaskSchema, { artifacts: [{ artifactId: step.id, parts: [...parts] }] }).artifacts[0]!;
  if (!known) task.artifacts.push(fresh);
  else if (step.append) known.parts.push(...fresh.parts);
  else known.parts = fresh.parts;
}

function append(image: ReturnType<typeof newImage>, log: TaskUpdate[], updates: NewUpdate[]): void {
  for (const update of updates) {
    const numbered = { ...update, seq: image.seq + 1 };
    log.push(numbered);
    applyUpdate(image, numbered);
  }
}

function report(image: ReturnType<typeof newImage>, step: Step): NewUpdate[] {
  const ids = { taskId: "theirs", contextId: "their-context" };
  if (step.kind === "artifact") {
    const artifact = { artifactId: step.id, parts: [{ content: { case: "text" as const, value: step.text } }] };
    return updatesFromArtifact(image, create(TaskArtifactUpdateEventSchema, { ...ids, artifact, append: step.append }));
  }
  const init: MessageInitShape<typeof TaskStatusUpdateEventSchema> = {
    ...ids,
    status: { state: step.state, ...(step.message !== undefined && { message: says(step.message) }) },
  };
  return updatesFromStatus(image, create(TaskStatusUpdateEventSchema, init), new Map(), at);
}

const texts = (task: Task) => task.artifacts.map((a) => [a.artifactId, a.parts.map((p) => p.content.value).join("|")]);
const said = (task: Task) =>
  [...task.history, ...(task.status?.message ? [task.status.message] : [])].map((m) => m.messageId);

describe("the update log", () => {
  it("folds to the task that the agent has, from its updates alone", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
        const theirs = create(TaskSchema, { id: "theirs", status: { state: TaskState.SUBMITTED } });
        const image = newImage(header);
        const log: TaskUpdate[] = [];
        append(image, log, [messageUpdate(says("hello", Role.USER))]);
        for (const each of steps) {
          append(image, log, report(image, each));
          agentDoes(theirs, each);
        }
        expect(stateOf(image)).toBe(theirs.status?.state);
        expect(texts(image.task)).toEqual(texts(theirs));
        expect(said(image.task)).toEqual(["hello", ...said(theirs)]);
      }),
    );
  });

  it("folds to the same task from storage as in memory, at every moment", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 20 }), (steps) => {
        const image = newImage(header);
        const log: TaskUpdate[] = [];
        for (const each of steps) {
          append(image, log, report(image, each));
          const stored = log.map((u) => ({
            ...u,
            body: fromBinary(StreamResponseSchema, toBinary(StreamResponseSchema, u.body)),
          }));
          expect(equals(TaskSchema, foldTask(header, stored).task, image.task)).toBe(true);
        }
      }),
    );
  });

  it("is healed by a snapshot after any part of the stream was lost, and a second look adds nothing", () => {
    fc.assert(
      fc.property(
        fc.array(step, { maxLength: 20 }),
        fc.nat({ max: 20 }),
        fc.nat({ max: 20 }),
        (steps, from, length) => {
          const theirs = create(TaskSchema, { id: "theirs", status: { state: TaskState.SUBMITTED } });
          const image = newImage(header);
          const log: TaskUpdate[] = [];
          const lost = (i: number) => i >= from && i < from + length;
          steps.forEach((each, i) => {
            agentDoes(theirs, each);
            if (i < from) append(image, log, report(image, each));
            else if (!lost(i + 1))
              append(image, log, updatesFromSnapshot(image, clone(TaskSchema, theirs), new Map(), at));
          });
          append(image, log, updatesFromSnapshot(image, clone(TaskSchema, theirs), new Map(), at));
          expect(stateOf(image)).toBe(
            theirs.status?.state === TaskState.SUBMITTED ? TaskState.SUBMITTED : theirs.status?.state,
          );
          expect(texts(image.task)).toEqual(texts(theirs));
          expect(updatesFromSnapshot(image, clone(TaskSchema, theirs), new Map(), at)).toEqual([]);
        },
      ),
    );
  });

  it("shows none of the agent's ids", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 20 }), (steps) => {
        const image = newImage(header);
        const log: TaskUpdate[] = [];
        for (const each of steps) append(image, log, report(image, each));
        const shown = Buffer.from(toBinary(TaskSchema, image.task)).toString("latin1");
        expect(shown).not.toContain("theirs");
        expect(shown).not.toContain("their-context");
        for (const { body } of log) {
          expect(Buffer.from(toBinary(StreamResponseSchema, body)).toString("latin1")).not.toContain("their");
        }
      }),
    );
  });

  it("ends with a terminal status: whatever is reported later makes no update", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(TaskState.COMPLETED, TaskState.CANCELED, TaskState.FAILED, TaskState.REJECTED),
        step,
        (end, late) => {
          const image = newImage(header);
          append(image, [], [statusUpdate(header, { state: end, timestamp: at })]);
          expect(report(image, late)).toEqual([]);
        },
      ),
    );
  });

  it("refuses a row that does not follow", () => {
    const image = newImage(header);
    expect(() => applyUpdate(image, { ...messageUpdate(says("x")), seq: 2 })).toThrow(/does not follow/);
  });

  it("leaves updates as they are when later chunks are folded in", () => {
    const image = newImage(header);
    const log: TaskUpdate[] = [];
    for (const text of ["1", "2", "3"])
      append(image, log, report(image, { kind: "artifact", id: "a", append: true, text }));
    expect(texts(image.task)).toEqual([["a", "1|2|3"]]);
    const first = log[0]!.body.payload;
    expect(first.case === "artifactUpdate" && first.value.artifact?.parts.length).toBe(1);
  });

  it("lets a copy of an image and the image move on without each other", () => {
    const image = newImage(header);
    const log: TaskUpdate[] = [];
    append(image, log, report(image, { kind: "artifact", id: "a", append: true, text: "1" }));
    const copy = copyImage(image);
    append(copy, [...log], report(copy, { kind: "artifact", id: "a", append: true, text: "2" }));
    append(copy, [...log], report(copy, { kind: "artifact", id: "b", append: true, text: "3" }));
    append(copy, [...log], [messageUpdate(says("x"))]);
    copy.header.fence += 1;
    expect([texts(image.task), image.task.history, image.seq]).toEqual([[["a", "1"]], [], 1]);
    expect(image.header.fence).toBe(header.fence);
    append(image, log, report(image, { kind: "artifact", id: "a", append: true, text: "4" }));
    expect(texts(copy.task)).toEqual([
      ["a", "1|2"],
      ["b", "3"],
    ]);
  });

  it("takes a chunk of hundreds of thousands of parts, and tens of thousands of artifacts", () => {
    const image = newImage(header);
    const parts = Array.from({ length: 300_000 }, () => ({ content: { case: "text" as const, value: "" } }));
    const many = create(TaskArtifactUpdateEventSchema, { artifact: { artifactId: "a", parts }, append: true });
    append(image, [], updatesFromArtifact(image, many));
    append(image, [], updatesFromArtifact(image, many));
    expect(image.task.artifacts[0]?.parts).toHaveLength(600_000);
    // Linear: a square of this would not end within the test's time.
    for (let i = 0; i < 100_000; i++)
      append(image, [], report(image, { kind: "artifact", id: `${i}`, append: true, text: "" }));
    expect(image.task.artifacts).toHaveLength(100_001);
    expect(updatesFromSnapshot(image, clone(TaskSchema, image.task), new Map(), at)).toEqual([]);
  });

  it("keeps the agent's question before its client's answer", () => {
    const image = newImage(header);
    append(image, [], [messageUpdate(says("ask me", Role.USER))]);
    append(image, [], report(image, { kind: "status", state: TaskState.INPUT_REQUIRED, message: "question" }));
    append(
      image,
      [],
      [statusUpdate(header, { state: TaskState.WORKING, timestamp: at }), messageUpdate(says("answer", Role.USER))],
    );
    expect(image.task.history.map((m) => m.messageId)).toEqual(["ask me", "question", "answer"]);
  });
});

describe("a view of a task", () => {
  const image = newImage(header);
  for (const id of ["1", "2", "3"]) append(image, [], [messageUpdate(says(id))]);
  append(image, [], report(image, { kind: "artifact", id: "a", append: false, text: "x" }));

  it.each([
    [undefined, ["1", "2", "3"]],
    [0, []],
    [1, ["3"]],
    [2, ["2", "3"]],
    [99, ["1", "2", "3"]],
  ])("with historyLength %s holds %j", (historyLength, expected) => {
    expect(viewTask(image, { historyLength }).history.map((m) => m.messageId)).toEqual(expected);
  });

  it("leaves artifacts out when asked to", () => {
    expect(viewTask(image, { includeArtifacts: false }).artifacts).toEqual([]);
    expect(viewTask(image).artifacts).toHaveLength(1);
  });
});
