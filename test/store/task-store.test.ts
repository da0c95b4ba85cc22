import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import {
  type Message,
  MessageSchema,
  Role,
  TaskArtifactUpdateEventSchema,
  TaskState,
} from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { messageUpdate, replyUpdate, statusUpdate, updatesFromArtifact } from "../../src/domain/agent-report.ts";
import { foldTask, type NewUpdate, newImage, stateOf, type TaskHeader } from "../../src/domain/task-log.ts";
import { EngineState, isTerminal } from "../../src/domain/task-state.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import { readDecision } from "../../src/store/route-reads.ts";
import { createTaskStore, type TaskStore } from "../../src/store/task-store.ts";
import { registerReplica } from "../fixtures/replica.ts";
import { headerOf } from "../fixtures/task-header.ts";
import { describeEachBackend } from "./backends.ts";
import { raw } from "./tables.ts";

const { newId } = systemRuntime();
const at = new Date("2026-01-01T00:00:00.123Z");

const keyOf = ({ workspaceId, taskId }: TaskHeader) => ({ workspaceId, taskId });

const hello = (text = "hello") =>
  create(MessageSchema, { messageId: newId(), role: Role.USER, parts: [{ content: { case: "text", value: text } }] });

const status = (header: TaskHeader, state: TaskState): NewUpdate =>
  statusUpdate(header, { state, timestamp: timestampFromDate(at) }, "a test");

const chunk = (header: TaskHeader, text: string): NewUpdate[] =>
  updatesFromArtifact(
    newImage(header),
    create(TaskArtifactUpdateEventSchema, {
      append: true,
      artifact: { artifactId: "a", parts: [{ content: { case: "text", value: text } }] },
    }),
  );

const NOBODY = { id: "anonymous", roles: [] };

describeEachBackend("the task store", (context) => {
  let store: TaskStore;
  let replica: string;
  beforeAll(async () => {
    replica = await registerReplica(context.db);
    store = createTaskStore(context.db, { maxWaiting: 10_000, replicaId: () => replica });
    return () => store.close();
  });

  const assigned = (message = hello()): NewUpdate => ({ ...messageUpdate(message), state: EngineState.ASSIGNED });

  async function submitted(changes: Partial<TaskHeader> = {}): Promise<TaskHeader> {
    const header = headerOf({ leaseOwner: replica, ...changes });
    await store.submit({ header, updates: [assigned()] });
    return header;
  }

  const appendTo = (header: TaskHeader, expectedSeq: number, updates: NewUpdate[], more = {}) =>
    store.append({ ...keyOf(header), fence: header.fence, expectedSeq, updates, at, ...more });

  const imageOf = async (header: TaskHeader) => {
    const stored = await store.load(header.workspaceId, header.taskId);
    return stored && foldTask(stored.header, stored.updates);
  };

  it("gives back what was stored, whatever characters it holds", async () => {
    await fc.assert(
      fc.asyncProperty(fc.string({ unit: "binary" }), async (text) => {
        const header = headerOf({ leaseOwner: replica });
        await store.submit({ header, updates: [assigned(hello(text))] });
        const image = await imageOf(header);
        expect(image?.header).toEqual(header);
        // Protobuf holds well-formed UTF-8 only.
        expect(image?.task.history[0]?.parts[0]?.content.value).toBe(text.toWellFormed());
        expect(stateOf(image!)).toBe(TaskState.SUBMITTED);
      }),
      { numRuns: 50 },
    );
  });

  it("keeps the capability that a task was given to, and how its agent was chosen beside it", async () => {
    const decision = new Uint8Array([0, 1, 255]);
    const given = headerOf({ leaseOwner: replica, capabilityId: "translate" });
    const [other, unknown] = [headerOf({ leaseOwner: replica }), headerOf()];
    await Promise.all([
      store.submit({ header: given, updates: [assigned()], decision }),
      store.submit({ header: other, updates: [assigned()] }),
    ]);
    expect((await store.load("default", given.taskId))?.header).toEqual(given);
    expect((await store.load("default", other.taskId))?.header).toEqual(other);
    const decisions = [given, other, unknown].map(({ taskId }) => readDecision(context.db, "default", taskId));
    expect((await Promise.all(decisions)).map((bytes) => bytes && [...bytes])).toEqual([
      [0, 1, 255],
      undefined,
      undefined,
    ]);
    expect(await readDecision(context.db, "elsewhere", given.taskId)).toBeUndefined();
  });

  it("stores a task once, however often its submit is made", async () => {
    const header = await submitted();
    await store.submit({ header, updates: [messageUpdate(hello()), messageUpdate(hello())] });
    expect((await store.load("default", header.taskId))?.updates).toHaveLength(1);
  });

  it("lets exactly one of many writers follow a number, and numbers rows without gaps", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 6 }), async (rounds) => {
        const header = await submitted();
        let seq = 1;
        for (const writers of rounds) {
          const results = await Promise.all(
            Array.from({ length: writers }, () => appendTo(header, seq, chunk(header, `after ${seq}`))),
          );
          expect(results.filter((result) => result !== undefined)).toHaveLength(1);
          seq += 1;
        }
        const stored = await store.load("default", header.taskId);
        expect(stored?.updates.map((u) => u.seq)).toEqual(Array.from({ length: seq }, (_, i) => i + 1));
      }),
      { numRuns: 15 },
    );
  });

  it("takes nothing after a terminal state", async () => {
    for (const end of [TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELED, TaskState.REJECTED]) {
      const header = await submitted();
      expect(await appendTo(header, 1, [status(header, end)])).toBeDefined();
      expect(await appendTo(header, 2, [status(header, TaskState.WORKING)])).toBeUndefined();
      const image = await imageOf(header);
      expect(isTerminal(stateOf(image!))).toBe(true);
      expect(image?.seq).toBe(2);
    }
  });

  it("stores a batch's good tasks beside one with a value that its column does not have", async () => {
    const deadlines = [undefined, new Date(Number.NaN), undefined];
    const results = await Promise.allSettled(deadlines.map((deadlineAt) => submitted({ deadlineAt })));
    expect(results.map((result) => result.status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
  });

  it("stores a batch's good appends beside its bad ones", async () => {
    const headers = await Promise.all(Array.from({ length: 20 }, () => submitted()));
    const results = await Promise.allSettled(
      headers.map((header, i) =>
        i % 4 === 0
          ? appendTo({ ...header, taskId: `\0${header.taskId}` }, 1, chunk(header, "bad"))
          : appendTo(header, i % 4 === 1 ? 7 : 1, chunk(header, "good")),
      ),
    );
    results.forEach((result, i) => {
      if (i % 4 === 0) expect(result.status).toBe("rejected");
      else expect(result).toEqual({ status: "fulfilled", value: i % 4 === 1 ? undefined : expect.anything() });
    });
  });

  it("stores a batch's good appends beside one that cannot be written", async () => {
    const headers = await Promise.all([submitted(), submitted(), submitted()]);
    const payload = { case: "artifactUpdate", value: { artifact: {} } };
    const unwritable = { kind: "artifact", body: { $typeName: "lf.a2a.v1.StreamResponse", payload } } as never;
    const results = await Promise.allSettled(
      headers.map((header, i) => appendTo(header, 1, i === 1 ? [unwritable] : chunk(header, "good"))),
    );
    expect(results.map((result) => result.status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
  });

  it("keeps a task hidden until it is disclosed, and lets no hidden reply follow that", async () => {
    const header = await submitted({ disclosed: false });
    const reply = replyUpdate(header, hello("bare"), new Map());
    expect((await store.list("default", { contextId: header.contextId }, { limit: 10, viewer: undefined })).total).toBe(
      0,
    );
    expect(await appendTo(header, 1, [], { disclose: true })).toMatchObject({ disclosed: true });
    expect((await store.list("default", { contextId: header.contextId }, { limit: 10, viewer: undefined })).total).toBe(
      1,
    );
    expect(await appendTo(header, 1, [reply], { onlyIfHidden: true })).toBeUndefined();

    const hidden = await submitted({ disclosed: false });
    expect(await appendTo(hidden, 1, [reply], { onlyIfHidden: true })).toMatchObject({ disclosed: false });
    expect((await imageOf(hidden))?.reply?.parts[0]?.content.value).toBe("bare");
    expect((await store.list("default", { contextId: hidden.contextId }, { limit: 10, viewer: undefined })).total).toBe(
      0,
    );
  });

  it("walks a list by pages without a hole or a repetition, newest status first, ties included", async () => {
    const contextId = newId();
    const headers = await Promise.all(
      Array.from({ length: 23 }, (_, i) => submitted({ contextId, createdAt: new Date(at.getTime() + (i % 5)) })),
    );
    const seen: string[] = [];
    const times: number[] = [];
    for (let after: { statusAt: Date; taskId: string } | undefined; ; ) {
      const { tasks, total } = await store.list(
        "default",
        { contextId },
        { limit: 4, viewer: undefined, ...(after && { after }) },
      );
      expect(total).toBe(23);
      seen.push(...tasks.map((t) => t.header.taskId));
      times.push(...tasks.map((t) => t.statusAt.getTime()));
      const last = tasks.at(-1);
      if (!last) break;
      after = { statusAt: last.statusAt, taskId: last.header.taskId };
    }
    expect(new Set(seen)).toEqual(new Set(headers.map((h) => h.taskId)));
    expect(seen).toHaveLength(23);
    expect(times).toEqual([...times].sort((a, b) => b - a));
  });

  it("lists each status as the log tells it, with its message and its own time", async () => {
    const header = await submitted();
    const listed = async () =>
      (await store.list("default", { contextId: header.contextId }, { limit: 1, viewer: undefined })).tasks[0];
    const shown = async () => {
      const task = await listed();
      expect(task?.status).toEqual((await imageOf(header))?.task.status);
      return task?.status;
    };
    const says = (state: TaskState, time: Date, message?: Message): NewUpdate =>
      statusUpdate(header, { state, timestamp: timestampFromDate(time), ...(message && { message }) });
    const [old, later] = [new Date("1969-12-31T23:59:59.999Z"), new Date(at.getTime() + 1)];
    expect(await shown()).toEqual(newImage(header).task.status);
    await appendTo(header, 1, [says(TaskState.WORKING, at, hello("busy"))]);
    expect((await shown())?.message?.parts).toHaveLength(1);
    await appendTo(header, 2, [messageUpdate(hello())]);
    expect((await shown())?.message?.parts).toHaveLength(1);
    await appendTo(header, 3, [says(TaskState.WORKING, later, hello("again")), says(TaskState.WORKING, at)]);
    expect((await shown())?.message).toBeUndefined();
    await appendTo(header, 5, [says(TaskState.WORKING, later)]);
    expect((await shown())?.timestamp).toEqual(timestampFromDate(later));
    await appendTo(header, 6, [says(TaskState.COMPLETED, old)], { at: old });
    expect((await shown())?.timestamp).toEqual(timestampFromDate(old));
    expect((await listed())?.statusAt).toEqual(old);
    // Of the least that a status can say the table keeps nothing but the columns.
    expect(await raw(context.db, "select status from tasks where task_id = $1", [header.taskId])).toEqual([
      { status: null },
    ]);
  });

  it("filters a list by state, agent, capability and time", async () => {
    const contextId = newId();
    const done = await submitted({ contextId, agentId: "one", capabilityId: "translate" });
    await appendTo(done, 1, [status(done, TaskState.COMPLETED)], { at: new Date(at.getTime() + 1000) });
    const open = await submitted({ contextId, agentId: "two" });
    const ids = async (filter: object) =>
      (await store.list("default", { contextId, ...filter }, { limit: 9, viewer: undefined })).tasks.map(
        (t) => t.header.taskId,
      );
    expect(await ids({})).toEqual([done.taskId, open.taskId]);
    expect(await ids({ state: TaskState.SUBMITTED })).toEqual([open.taskId]);
    expect(await ids({ agentId: "one" })).toEqual([done.taskId]);
    expect(await ids({ capabilityId: "translate" })).toEqual([done.taskId]);
    expect(await ids({ capabilityId: "one" })).toEqual([]);
    expect(await ids({ statusFrom: new Date(at.getTime() + 500) })).toEqual([done.taskId]);
    expect(await ids({ statusFrom: new Date(at.getTime() + 1001) })).toEqual([]);
  });

  it("maps ids both ways, for one agent only", async () => {
    const header = await submitted();
    await appendTo(header, 1, [], { upstreamTaskId: `up-${header.taskId}`, upstreamContextId: "up-context" });
    const upstream = `up-${header.taskId}`;
    expect(await store.mapTaskIds("default", "agent", [header.taskId, "x"], "to-upstream")).toEqual(
      new Map([[header.taskId, upstream]]),
    );
    expect(await store.mapTaskIds("default", "agent", [upstream], "from-upstream")).toEqual(
      new Map([[upstream, header.taskId]]),
    );
    expect(await store.mapTaskIds("default", "other", [upstream], "from-upstream")).toEqual(new Map());
    expect(
      await store.findUpstreamContext("default", { contextId: header.contextId, agentId: "agent", viewer: NOBODY }),
    ).toBe("up-context");
    expect(
      await store.findUpstreamContext("default", { contextId: header.contextId, agentId: "other", viewer: NOBODY }),
    ).toBeUndefined();
  });

  it("maps ids out of a list of any length, with whatever in it", async () => {
    const upstreamTaskId = newId();
    const header = await submitted();
    await appendTo(header, 1, [], { upstreamTaskId });
    const junk = Array.from({ length: 70_000 }, (_, i) => `r${i}`);
    const mentioned = ["\0", "a\0b", "x".repeat(100_000), upstreamTaskId, upstreamTaskId, ...junk];
    expect(await store.mapTaskIds("default", "agent", mentioned, "from-upstream")).toEqual(
      new Map([[upstreamTaskId, header.taskId]]),
    );
    expect(await store.mapTaskIds("default", "agent", ["\0"], "to-upstream")).toEqual(new Map());
  });

  describe("another workspace", () => {
    it("sees and changes nothing", async () => {
      const header = await submitted();
      await appendTo(header, 1, [], { upstreamTaskId: newId(), upstreamContextId: "c" });
      const before = await store.load("default", header.taskId);
      const stranger = { ...header, workspaceId: "stranger" };
      expect(await store.load("stranger", header.taskId)).toBeUndefined();
      expect(await store.readUpdates("stranger", header.taskId, 0, 10)).toEqual({
        updates: [],
        more: false,
        gone: true,
      });
      expect(await store.list("stranger", { contextId: header.contextId }, { limit: 10, viewer: undefined })).toEqual({
        tasks: [],
        total: 0,
      });
      expect(
        await store.findUpstreamContext("stranger", { contextId: header.contextId, agentId: "agent", viewer: NOBODY }),
      ).toBeUndefined();
      expect(await store.mapTaskIds("stranger", "agent", [header.taskId], "to-upstream")).toEqual(new Map());
      expect(await appendTo(stranger, 1, chunk(stranger, "x"))).toBeUndefined();
      await store.submit({ header: stranger, updates: [messageUpdate(hello("theirs"))] });
      expect(await store.load("default", header.taskId)).toEqual(before);
    });

    it("is named by every method of the store", () => {
      // A method that takes neither a workspace first nor something that holds one cannot keep to it.
      const closers = ["close"];
      const takesKey = ["submit", "append", "lastNumbers"];
      for (const name of Object.keys(store)) {
        if (closers.includes(name) || takesKey.includes(name)) continue;
        const source = String(store[name as keyof TaskStore]);
        expect(source, name).toMatch(/^(?:async\s*)?\(?\s*workspaceId/);
      }
    });
  });
});
