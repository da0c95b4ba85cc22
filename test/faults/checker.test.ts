/** The checker itself: it passes what is right, and catches each kind of wrong in a log that was doctored. */
import { clone, create } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import {
  MessageSchema,
  Role,
  type StreamResponse,
  StreamResponseSchema,
  TaskState,
} from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { messageUpdate, statusUpdate } from "../../src/domain/agent-report.ts";
import { foldTask, type NewUpdate, viewTask } from "../../src/domain/task-log.ts";
import { EngineState } from "../../src/domain/task-state.ts";
import { headerOf } from "../fixtures/task-header.ts";
import { check } from "./checker.ts";
import type { Evidence, LogRow, SeenStream, StoredLog } from "./evidence.ts";

const TASK = "task";
const AT = Date.parse("2026-01-01T00:00:00Z");

/** A task that one replica began, another rescued and brought to its end; a client that watched it, and its agent. */
function honest(): Evidence & { tasks: [StoredLog]; streams: [SeenStream] } {
  const header = headerOf({ taskId: TASK, agentId: "agent", fence: 2, attempt: 1, upstreamTaskId: "its" });
  const status = (state: TaskState) =>
    statusUpdate(header, { state, timestamp: { $typeName: "google.protobuf.Timestamp", seconds: 0n, nanos: 0 } });
  const row = (seq: number, update: NewUpdate, fence: number): LogRow => ({
    ...update,
    seq,
    at: AT + seq,
    fence,
    attempt: 1,
    writtenBy: `replica-${fence}`,
  });
  const said = messageUpdate(create(MessageSchema, { messageId: "m1", role: Role.USER, taskId: TASK }));
  const rescue: NewUpdate = {
    kind: "transition",
    body: create(StreamResponseSchema),
    state: EngineState.WORKING,
    cause: "rescued",
  };
  const rows = [
    row(1, { ...said, state: EngineState.ASSIGNED }, 1),
    row(2, status(TaskState.WORKING), 1),
    row(3, rescue, 2),
    row(4, status(TaskState.COMPLETED), 2),
  ];
  const task = viewTask(foldTask({ ...header }, rows.slice(0, 2)));
  const first = create(StreamResponseSchema, { payload: { case: "task", value: task } });
  const items = [
    { sequence: 2, response: first },
    { sequence: 4, response: clone(StreamResponseSchema, rows[3]!.body) },
  ];
  return {
    tasks: [{ header, state: EngineState.COMPLETED, a2aState: TaskState.COMPLETED, lastSeq: 4, rows }],
    orphans: [],
    acknowledged: new Set([TASK]),
    streams: [{ taskId: TASK, items }],
    answers: [{ taskId: TASK, states: [TaskState.WORKING, TaskState.COMPLETED] }],
    messages: [{ messageId: "m1", taskId: TASK, acknowledged: true }],
    agents: [{ agentId: "agent", safe: false, process: "one" }],
    journals: [
      {
        process: "one",
        entries: [
          { kind: "got", at: AT, taskId: "", messageId: "m1" },
          { kind: "began", at: AT, taskId: "its", messageId: "m1" },
          { kind: "ended", at: AT, taskId: "its" },
        ],
      },
    ],
    troubles: [],
    surprises: [],
  };
}

type Doctored = ReturnType<typeof honest>;

const doctor: Record<string, [doctoring: (evidence: Doctored) => void, caught: RegExp]> = {
  "a row is gone": [({ tasks: [log] }) => void log.rows.splice(1, 1), /gap: row 3 does not follow 1/],
  "the last row is gone": [({ tasks: [log] }) => void log.rows.pop(), /gap: the log ends at 3, its task at 4/],
  "rows without a task": [(evidence) => (evidence.orphans = ["other"]), /other: lost: rows without their task/],
  "two owners under one token": [
    ({ tasks: [log] }) => (log.rows[1]!.writtenBy = "replica-2"),
    /owner: row 2 is of replica-2, under token 1/,
  ],
  "a token goes down": [({ tasks: [log] }) => (log.rows[3]!.fence = 1), /owner: token 1 in row 4 after 2/],
  "an attempt goes down": [({ tasks: [log] }) => (log.rows[0]!.attempt = 2), /owner: attempt 1 in row 2 after 2/],
  "an illegal transition": [
    ({ tasks: [log] }) => (log.rows[2]!.state = EngineState.ASSIGNED),
    /transition: row 3 goes from WORKING to ASSIGNED/,
  ],
  "a row after the end": [
    ({ tasks: [log] }) => (log.rows[2]!.state = EngineState.CANCELED),
    /transition: row 4 follows the end/,
  ],
  "a first row that none may be": [
    ({ tasks: [log] }) => (log.rows[0]!.state = EngineState.WORKING),
    /from nothing to WORKING/,
  ],
  "a task's row that says something else": [
    ({ tasks: [log] }) => (log.state = EngineState.FAILED),
    /row: state 4, the log says 3/,
  ],
  "a lease on what has ended": [({ tasks: [log] }) => (log.header.leaseOwner = "replica-2"), /row: lease of replica-2/],
  "a lost task": [
    (evidence) => void Object.assign(evidence, { tasks: [] }),
    /task: lost: it was acknowledged, and is not stored/,
  ],
  "a task that never came to rest": [
    ({ tasks: [log] }) => {
      log.rows.pop();
      Object.assign(log, { lastSeq: 3, state: EngineState.WORKING, a2aState: TaskState.WORKING });
      log.header.leaseOwner = "replica-2";
    },
    /lost: acknowledged, and still WORKING/,
  ],
  "a lost message": [
    (evidence) => (evidence.messages = [{ messageId: "m2", taskId: TASK, acknowledged: true }]),
    /lost: message m2 was acknowledged/,
  ],
  "a watcher that missed one": [
    ({ streams: [stream] }) => (stream.items[0] = { ...stream.items[0]!, sequence: 1 }),
    /watcher: (saw 4 where 2|the task at 1)/,
  ],
  "a watcher that saw one twice": [
    ({ streams: [stream] }) => void stream.items.push(stream.items[1]!),
    /watcher: saw 4 where nothing was to come/,
  ],
  "a watcher that saw another task": [
    ({ streams: [{ items }] }) => {
      const { payload } = items[0]!.response;
      if (payload.case === "task") payload.value.contextId = "another";
    },
    /watcher: the task at 2 is not what the log says/,
  ],
  "a watcher that saw another update": [
    ({ streams: [{ items }] }) => setState(items[1]!.response, TaskState.WORKING),
    /watcher: saw another 4 than is stored/,
  ],
  "a resumed watcher that began elsewhere": [
    ({ streams: [stream] }) => (stream.after = 1),
    /watcher: begins at 2, not at 1/,
  ],
  "two outcomes": [
    (evidence) => (evidence.answers = [{ taskId: TASK, states: [TaskState.CANCELED] }]),
    /outcome: a client saw CANCELED, stored is COMPLETED/,
  ],
  "a state that goes back": [
    (evidence) => (evidence.answers = [{ taskId: TASK, states: [TaskState.WORKING, TaskState.SUBMITTED] }]),
    /back: a client saw SUBMITTED after WORKING/,
  ],
  "a message that reached its agent twice": [
    ({ journals: [journal] }) => void journal!.entries.push(journal!.entries[0]!),
    /delivery: the agent got message 1 2 times, in 1 attempts/,
  ],
  "a further message that began a task": [
    ({ tasks: [log], journals: [journal] }) => {
      const said = messageUpdate(create(MessageSchema, { messageId: "m2", role: Role.USER, taskId: TASK }));
      log.rows[2] = { ...log.rows[2]!, ...said, state: EngineState.WORKING };
      void journal!.entries.push({ kind: "got", at: AT, taskId: "", messageId: "m2" });
    },
    /delivery: message 2 came to the agent as the first of another task/,
  ],
  "a message that is in no log": [
    ({ journals: [journal] }) => void journal!.entries.push({ kind: "got", at: AT, taskId: "", messageId: "m9" }),
    /delivery: message m9 reached an agent and is in no log/,
  ],
  "an agent that goes on with what was canceled": [
    (evidence) => {
      const [log] = evidence.tasks;
      setState(log.rows[3]!.body, TaskState.CANCELED);
      Object.assign(log, { state: EngineState.CANCELED, a2aState: TaskState.CANCELED });
      evidence.journals[0]!.entries.pop();
    },
    /left behind: the agent goes on with what has ended/,
  ],
  "what nobody should see": [(evidence) => (evidence.surprises = ["an internal error"]), /an internal error/],
};

function setState({ payload }: StreamResponse, state: TaskState): void {
  if (payload.case === "statusUpdate") payload.value.status!.state = state;
}

describe("the checker", () => {
  test("passes what is right", () => {
    expect(check(honest())).toEqual([]);
  });

  test.each(Object.entries(doctor))("catches %s", (_, [doctoring, caught]) => {
    const evidence = honest();
    doctoring(evidence);
    expect(check(evidence).join("\n")).toMatch(caught);
  });

  test("passes a repetition that an attempt of an agent that is safe to repeat explains", () => {
    const evidence = honest();
    const [log] = evidence.tasks;
    evidence.journals[0]!.entries.push(evidence.journals[0]!.entries[0]!);
    for (const row of log.rows.slice(2)) row.attempt = 2;
    log.header.attempt = 2;
    expect(check(evidence).join("\n")).toMatch(/delivery/);
    evidence.agents = [{ agentId: "agent", safe: true, process: "one" }];
    expect(check(evidence)).toEqual([]);
  });
});
