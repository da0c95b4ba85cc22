import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import { beforeAll, expect, it } from "vitest";
import {
  MessageSchema,
  Role,
  TaskArtifactUpdateEventSchema,
  TaskState,
  TaskStatusUpdateEventSchema,
} from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { messageUpdate, statusUpdate, updatesFromArtifact, updatesFromStatus } from "../../src/domain/agent-report.ts";
import { databaseOutcomeUnknown, databaseUnavailable } from "../../src/domain/errors.ts";
import {
  foldTask,
  type NewUpdate,
  stateOf,
  type TaskHeader,
  type TaskImage,
  type TaskUpdate,
} from "../../src/domain/task-log.ts";
import { EngineState } from "../../src/domain/task-state.ts";
import { type Runtime, systemRuntime } from "../../src/services/runtime.ts";
import { createTaskWriter, type WriterDeps } from "../../src/services/task-writer.ts";
import { createUpdateHub, type UpdateHub } from "../../src/services/update-hub.ts";
import { watchTask } from "../../src/services/watch.ts";
import { createTaskStore, type TaskStore } from "../../src/store/task-store.ts";
import { registerReplica } from "../fixtures/replica.ts";
import { headerOf } from "../fixtures/task-header.ts";
import { describeEachBackend } from "../store/backends.ts";

/**
 * What happens to an append: nothing; lost before the database had it; stored with the answer lost, after which the
 * database may be away for the next look (`blind`); or stored only when the next one comes (`late`).
 */
type Fault = "none" | "before" | "after" | "blind" | "late";

/** What a task holds of a budget, but for whose it is. */
const HOLD = {
  key: "all/20260101T000000Z/DAILY.MONEY",
  unit: "MONEY",
  units: 1,
  declared: 1,
  drawn: 0,
  chargesFailure: false,
} as const;

const runtime: Runtime = { ...systemRuntime(), wait: async (_ms, signal) => signal.throwIfAborted() };
const never = new AbortController().signal;
const now = () => timestampFromDate(new Date());

const chunk = (image: TaskImage, text: string) =>
  updatesFromArtifact(
    image,
    create(TaskArtifactUpdateEventSchema, {
      append: true,
      artifact: { artifactId: "a", parts: [{ content: { case: "text", value: text } }] },
    }),
  );
const EPOCH = timestampFromDate(new Date(1_700_000_000_000));
const STATES = [
  TaskState.WORKING,
  TaskState.WORKING,
  TaskState.AUTH_REQUIRED,
  TaskState.COMPLETED,
  TaskState.SUBMITTED,
];
const status = (ids: TaskHeader, state: TaskState) => statusUpdate(ids, { state, timestamp: now() });
const statusEvent = (ids: TaskHeader, state: TaskState, text: string) => {
  const message = { messageId: text, role: Role.AGENT, parts: [{ content: { case: "text" as const, value: text } }] };
  return create(TaskStatusUpdateEventSchema, {
    taskId: ids.taskId,
    contextId: ids.contextId,
    status: { state, ...(text !== "" && { message }) },
  });
};
const texts = (image: TaskImage) => image.task.artifacts[0]?.parts.map((p) => p.content.value) ?? [];

describeEachBackend("the writer of a task", (context) => {
  let store: TaskStore;
  let replica: string;
  beforeAll(async () => {
    replica = await registerReplica(context.db);
    store = createTaskStore(context.db, { maxWaiting: 1000, replicaId: () => replica });
    return () => store.close();
  });

  /** A task, and writers of it whose appends meet these faults; without any, the first waits at the gate. */
  async function begun(hub: UpdateHub, faults?: Fault[], budgets?: WriterDeps["budgets"]) {
    const header = headerOf({ leaseOwner: replica, ...(budgets && { holds: [{ ...HOLD, replicaId: replica }] }) });
    const said = create(MessageSchema, { messageId: "1", role: Role.USER });
    const hello: NewUpdate = { ...messageUpdate(said), state: EngineState.ASSIGNED };
    await store.submit({ header, updates: [hello] });
    let blind = false;
    let late: (() => Promise<unknown>) | undefined;
    let appends = 0;
    const gate = Promise.withResolvers<void>();
    if (faults !== undefined) gate.resolve();
    const faulty: TaskStore = {
      ...store,
      async append(append) {
        await gate.promise;
        appends += 1;
        await late?.();
        late = undefined;
        const fault = faults?.shift() ?? "none";
        if (fault === "before") throw databaseUnavailable();
        if (fault === "late") {
          // It is on its way as it is.
          const sent = typeof append === "function" ? append() : append;
          late = () => store.append(sent);
        }
        const result = fault === "late" ? undefined : await store.append(append);
        blind = fault === "blind";
        if (fault !== "none") throw databaseOutcomeUnknown(new Error("the connection was lost"));
        return result;
      },
      async load(workspaceId, taskId) {
        if (!blind) return store.load(workspaceId, taskId);
        blind = false;
        throw databaseUnavailable();
      },
    };
    const image = () => foldTask({ ...header }, [{ ...hello, seq: 1 }]);
    const writer = () =>
      createTaskWriter(
        {
          ...{ store: faulty, hub, runtime, gatherMs: 0, inputTimeoutMs: 60_000, replicaId: () => replica },
          ...(budgets && { budgets }),
        },
        image(),
      );
    const stored = async () => {
      const found = await store.load("default", header.taskId);
      return foldTask(found!.header, found!.updates);
    };
    /** What the log says, without the ids that differ from task to task. */
    const log = async () =>
      (await store.load("default", header.taskId))!.updates.map(({ seq, kind, body: { payload } }) => {
        if (payload.case === "statusUpdate")
          return [seq, kind, payload.value.status?.state, payload.value.status?.message?.messageId];
        if (payload.case === "artifactUpdate") return [seq, kind, payload.value.artifact?.parts[0]?.content.value];
        return [seq, kind];
      });
    return { header, writer, stored, log, gate, appends: () => appends };
  }

  it("stores each update once and in order, whatever is lost on the way, and watchers see the same", async () => {
    const fault = fc.constantFrom<Fault>("none", "none", "before", "after", "blind", "late");
    await fc.assert(
      fc.asyncProperty(fc.array(fault, { maxLength: 12 }), async (faults) => {
        const hub = createUpdateHub();
        const { header, writer, stored } = await begun(hub, faults);
        const seen: TaskUpdate[] = [];
        const updates = watchTask(
          { store, hub, runtime },
          { workspaceId: "default", taskId: header.taskId, after: 1, fresh: true, signal: never },
        );
        const one = writer();
        const said = ["a", "b", "c", "d", "e"];
        // Not awaited one by one: the writer keeps their order itself.
        await Promise.all(said.map((text) => one.append((image) => chunk(image, text), {}, never)));
        const image = await stored();
        expect(texts(image)).toEqual(said);
        expect(texts(one.image)).toEqual(said);
        while (seen.length < said.length) seen.push((await updates.next()).value);
        await updates.return(undefined as never);
        expect(seen.map((u) => u.seq)).toEqual([2, 3, 4, 5, 6]);
      }),
      { numRuns: 25 },
    );
  });

  it("keeps what a task has cost with the end that is stored, and gives back what was taken for one that is not", async () => {
    const fault = fc.constantFrom<Fault>("none", "before", "after", "blind", "late");
    await fc.assert(
      fc.asyncProperty(fc.array(fault, { maxLength: 4 }), fc.boolean(), async (faults, isOverspent) => {
        // Whose end it is, whether what was taken for it was given back, and how often it was said to be stored.
        const bills: { end: TaskState | undefined; isBack: boolean; stored: number }[] = [];
        const billOf = (_: TaskImage, updates: readonly NewUpdate[]) => {
          const { payload } = updates[0]!.body;
          const bill = {
            end: payload.case === "statusUpdate" ? payload.value.status?.state : undefined,
            isBack: false,
            stored: 0,
          };
          bills.push(bill);
          return {
            ...{ micros: 1, beyond: [] },
            stored() {
              bill.stored += 1;
            },
            cancel() {
              bill.isBack = true;
            },
          };
        };
        const { header, writer, stored } = await begun(createUpdateHub(), [...faults], {
          billOf,
          isOverspent: () => isOverspent,
          fullBillOf: async (image, updates) => billOf(image, updates),
          settled() {},
        });
        const ends = [TaskState.COMPLETED, TaskState.CANCELED].map((state) => status(header, state));
        await Promise.all(ends.map((end) => writer().append(() => [end], {}, never)));
        const end = (await stored()).task.status?.state;
        expect(bills.filter(({ isBack }) => !isBack)).toEqual([{ end, isBack: false, stored: 1 }]);
      }),
      { numRuns: 25 },
    );
  });

  it("lets two writers add to one task without losing or repeating anything", async () => {
    const { writer, stored } = await begun(createUpdateHub(), []);
    const [one, two] = [writer(), writer()];
    const said = Array.from({ length: 20 }, (_, i) => `${i}`);
    await Promise.all(said.map((text, i) => (i % 2 ? one : two).append((image) => chunk(image, text), {}, never)));
    const image = await stored();
    expect(new Set(texts(image))).toEqual(new Set(said));
    expect(texts(image)).toHaveLength(20);
    expect(image.seq).toBe(21);
  });

  it("knows exactly one end, whoever reports it first", async () => {
    const { header, writer, stored } = await begun(createUpdateHub(), []);
    const ends = [TaskState.COMPLETED, TaskState.CANCELED, TaskState.FAILED];
    const outcomes = await Promise.all(
      ends.map((state) => writer().append(() => [statusUpdate(header, { state, timestamp: now() })], {}, never)),
    );
    expect(outcomes.filter((outcome) => outcome === "stored")).toHaveLength(1);
    expect(outcomes.filter((outcome) => outcome === "ended")).toHaveLength(2);
    expect(stateOf(await stored())).toBe(ends[outcomes.indexOf("stored")]);
  });

  it("writes what comes until its batch begins as one append, each update under its own number", async () => {
    const { header, writer, stored, appends, gate } = await begun(createUpdateHub());
    const one = writer();
    const working = one.append(() => [status(header, TaskState.WORKING)], { gather: "task" }, never);
    const said = one.append((image) => chunk(image, "a"), { gather: "chunk" }, never);
    const completed = one.append(() => [status(header, TaskState.COMPLETED)], { gather: "status" }, never);
    const late = one.append((image) => chunk(image, "b"), { gather: "chunk" }, never);
    gate.resolve();
    expect(await Promise.all([working, said, completed, late])).toEqual(["stored", "stored", "stored", "ended"]);
    expect(appends()).toBe(1);
    const image = await stored();
    expect([image.seq, stateOf(image), texts(image)]).toEqual([4, TaskState.COMPLETED, ["a"]]);
    expect(one.image.seq).toBe(4);
  });

  it("answers a piece of work that cannot be made by itself, and writes its neighbours", async () => {
    const { header, writer, stored, gate } = await begun(createUpdateHub());
    const one = writer();
    const working = one.append(() => [status(header, TaskState.WORKING)], { gather: "task" }, never);
    const broken = one.append(() => expect.unreachable("no sense"), { gather: "status" }, never);
    const completed = one.append(() => [status(header, TaskState.COMPLETED)], { gather: "status" }, never);
    gate.resolve();
    await expect(broken).rejects.toThrow("no sense");
    expect(await Promise.all([working, completed])).toEqual(["stored", "stored"]);
    expect(stateOf(await stored())).toBe(TaskState.COMPLETED);
  });

  it("leaves the same log whether reports are written together or alone, whatever is lost on the way", async () => {
    const report = fc.oneof(
      fc.record({ state: fc.constantFrom(...STATES), text: fc.constantFrom("", "x", "y") }),
      fc.record({ chunk: fc.constantFrom("1", "2", "3") }),
    );
    const fault = fc.constantFrom<Fault>("none", "none", "before", "after", "blind", "late");
    const reports = fc.array(report, { minLength: 1, maxLength: 10 });
    await fc.assert(
      fc.asyncProperty(reports, fc.array(fault, { maxLength: 6 }), async (said, faults) => {
        const logs = [];
        for (const together of [true, false]) {
          const { header, writer, log } = await begun(createUpdateHub(), together ? [...faults] : []);
          const one = writer();
          const write = (heard: (typeof said)[number]) => {
            if ("chunk" in heard)
              return one.append((image) => chunk(image, heard.chunk), together ? { gather: "chunk" } : {}, never);
            const event = statusEvent(header, heard.state, heard.text);
            const make = (image: TaskImage) => updatesFromStatus(image, event, new Map(), EPOCH);
            return one.append(make, together ? { gather: "status" } : {}, never);
          };
          if (together) await Promise.all(said.map(write));
          else for (const heard of said) await write(heard);
          logs.push(await log());
        }
        expect(logs[0]).toEqual(logs[1]);
      }),
      { numRuns: 40 },
    );
  });

  it("waits for the database no longer than its signal lets it", async () => {
    const { writer } = await begun(
      createUpdateHub(),
      Array.from({ length: 1000 }, () => "before" as const),
    );
    const stop = new AbortController();
    const appended = writer().append((image) => chunk(image, "x"), {}, stop.signal);
    stop.abort(new Error("enough"));
    await expect(appended).rejects.toThrow("enough");
  });

  it("reads the log where a slow watcher missed what it heard", async () => {
    const hub = createUpdateHub();
    const { header, writer } = await begun(hub, []);
    const updates = watchTask(
      { store, hub, runtime },
      { workspaceId: "default", taskId: header.taskId, after: 0, signal: never },
    );
    const one = writer();
    const many = Array.from({ length: 700 }, (_, i) => `${i}`);
    // More at once than a watcher holds: it hears the first and the last only through the log.
    await one.append((image) => many.flatMap((text) => chunk(image, text)), {}, never);
    await one.append((image) => chunk(image, "last"), {}, never);
    const seqs: number[] = [];
    while (seqs.length < 702) seqs.push((await updates.next()).value.seq);
    await updates.return(undefined as never);
    expect(seqs).toEqual(Array.from({ length: 702 }, (_, i) => i + 1));
  });
});
