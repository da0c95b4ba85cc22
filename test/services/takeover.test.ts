/** What several replicas want of one task at the same moment, and what a replica does that was declared dead. */
import { create } from "@bufbuild/protobuf";
import { timestampNow } from "@bufbuild/protobuf/wkt";
import { expect, it } from "vitest";
import { MessageSchema, Role, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { messageUpdate, statusUpdate } from "../../src/domain/agent-report.ts";
import { databaseOutcomeUnknown } from "../../src/domain/errors.ts";
import { stateOf, type TaskImage } from "../../src/domain/task-log.ts";
import { AgentCallError } from "../../src/services/agent-port.ts";
import type { Database } from "../../src/store/database.ts";
import { createInbox } from "../fault/inbox.ts";
import { isNamed, openLab, said, taskIn, workingAgent } from "./engine-lab.ts";

const { WORKING, INPUT_REQUIRED, CANCELED, COMPLETED } = TaskState;
const isCanceled = (image: TaskImage) => stateOf(image) === CANCELED;

/** Does something before each statement of a name. */
const before =
  (name: RegExp, work: () => Promise<unknown> | undefined) =>
  (db: Database): Database => ({
    ...db,
    async query(statement, values) {
      if (name.test(statement.name)) await work();
      return db.query(statement, values);
    },
  });

it.each(["cancel", "tell"] as const)("takes a task (%s) from an owner that writes without pause", async (what) => {
  const lab = await openLab();
  const owner = await lab(workingAgent());
  let of: TaskImage | undefined;
  let written = 0;
  /** The owner's row comes between the other's look at the task and its append, always. */
  async function write() {
    if (!of) return;
    const { header, seq } = await owner.load(of);
    const { workspaceId, taskId, fence } = header;
    const updates = [messageUpdate(create(MessageSchema, { messageId: `chunk ${seq}`, role: Role.AGENT }))];
    const stored = await owner.store.append({ workspaceId, taskId, fence, expectedSeq: seq, updates, at: new Date() });
    if (stored) written += 1;
  }
  const other = await lab(workingAgent(), { wrap: before(/^task-append/, write) });
  of = await owner.when(await owner.begin(), isNamed);
  await other[what](of);
  expect(written).toBe(1);
  const { header } = await other.load(of);
  expect(header.fence).toBeGreaterThan(of.header.fence);
  if (what === "cancel") await other.when(of, isCanceled);
  else expect(header.leaseOwner).toBe(other.id());
});

it.each(["cancel", "tell"] as const)("lets a task be (%s) that comes to rest as it is taken", async (what) => {
  const lab = await openLab();
  const owner = await lab(workingAgent());
  let of: TaskImage | undefined;
  async function rest() {
    if (!of) return;
    const { header, seq } = of;
    of = undefined;
    const { workspaceId, taskId, contextId, fence } = header;
    const asking = statusUpdate({ taskId, contextId }, { state: INPUT_REQUIRED, timestamp: timestampNow() });
    await owner.store.append({ workspaceId, taskId, fence, expectedSeq: seq, updates: [asking], at: new Date() });
  }
  const other = await lab(workingAgent(), { wrap: before(/^task-append/, rest) });
  const task = await owner.when(await owner.begin(), isNamed);
  of = task;
  await other[what](task);
  await other.when(task, (image) => (what === "cancel" ? isCanceled(image) : stateOf(image) === WORKING));
  const { header } = await other.load(task);
  // By the one that found it at rest, and by what it wrote; not again and again.
  expect(header.fence - task.header.fence).toBeLessThanOrEqual(3);
});

it("ends two cancels by two replicas with one outcome when the agent answers neither", async () => {
  const asked = createInbox<() => void>();
  let cancels = 0;
  const client = workingAgent({
    cancel() {
      cancels += 1;
      const { promise, reject } = Promise.withResolvers<never>();
      asked.put(() => reject(new AgentCallError("timeout", "The agent was silent.")));
      return promise;
    },
  });
  const lab = await openLab();
  const [a, b] = [await lab(client), await lab(client)];
  const task = await a.when(await a.begin(), isNamed);
  const first = a.cancel(task);
  const giveUpFirst = await asked.next();
  const second = b.cancel(await b.load(task));
  const giveUpSecond = await asked.next();
  giveUpFirst();
  await first;
  giveUpSecond();
  await second;
  expect(cancels).toBeLessThanOrEqual(3);
  const { updates } = (await a.store.load("default", task.header.taskId))!;
  expect(updates.filter(({ cause }) => cause === "canceled by its client")).toHaveLength(1);
  expect(stateOf(await b.load(task))).toBe(CANCELED);
});

it("carries a task that was stored under the name that the replica took meanwhile", async () => {
  const reached = Promise.withResolvers<void>();
  const gate = Promise.withResolvers<void>();
  const lab = await openLab();
  const client = workingAgent({
    async *sendStream() {
      yield said(taskIn("theirs", WORKING));
      yield said(taskIn("theirs", COMPLETED));
    },
  });
  const held = () => {
    reached.resolve();
    return gate.promise;
  };
  const replica = await lab(client, { wrap: before(/^task-submit/, held) });
  const first = replica.begin().catch((error: unknown) => error);
  await reached.promise;
  // Waits for the batch in flight, and is stored when the replica goes by another name.
  const second = replica.begin();
  await replica.kill();
  await replica.rejoin();
  gate.resolve();
  expect(await first).toMatchObject({ reason: "REPLICA_EXPIRED" });
  const task = await second;
  expect(task.header.leaseOwner).toBe(replica.id());
  await replica.when(task, (image) => stateOf(image) === COMPLETED);
});

it("asks the agent to cancel once, however long the replica does not know that it was declared dead", async () => {
  let cancels = 0;
  let appends = 0;
  let watched = false;
  const refusedOften = Promise.withResolvers<void>();
  const client = workingAgent({
    async *sendStream() {
      yield said(taskIn("theirs", INPUT_REQUIRED));
    },
    async cancel(id) {
      cancels += 1;
      return taskIn(id, CANCELED);
    },
  });
  const count = () => {
    if (watched && ++appends === 5) refusedOften.resolve();
    return undefined;
  };
  const replica = await (await openLab())(client, { wrap: before(/^task-append/, count) });
  const task = await replica.when(await replica.begin(), (image) => stateOf(image) === INPUT_REQUIRED);
  await replica.kill();
  watched = true;
  const canceled = replica.cancel(task);
  await refusedOften.promise;
  await replica.rejoin();
  await canceled;
  expect(cancels).toBe(1);
  expect(stateOf(await replica.load(task))).toBe(CANCELED);
});

it("carries a task that it took for a cancel, though the answer to that was lost", async () => {
  const start = await openLab();
  const client = workingAgent({ get: async () => taskIn("theirs-1", COMPLETED) });
  let losing = true;
  const wrap = (db: Database): Database => ({
    ...db,
    async query(statement, values) {
      const rows = await db.query(statement, values);
      if (!losing || !statement.name.startsWith("task-append")) return rows;
      losing = false;
      throw databaseOutcomeUnknown(new Error("the connection was lost"));
    },
  });
  const a = await start(workingAgent());
  const b = await start(client, { wrap });
  const named = await a.when(await a.begin(), isNamed);
  await expect(b.cancel(named)).rejects.toMatchObject({ reason: "DATABASE_UNAVAILABLE" });
  // It is another's now for good: what the agent says of it ends it.
  await b.when(named, ({ task }) => task.status?.state === COMPLETED);
});
