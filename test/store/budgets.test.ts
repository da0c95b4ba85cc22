/** Budgets in the database: what is reserved, charged and given back adds up, whoever writes it, and whoever dies. */
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import { beforeEach, expect, it } from "vitest";
import { MessageSchema, Role, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { messageUpdate, statusUpdate } from "../../src/domain/agent-report.ts";
import { type BudgetHold, chargeOf, drawFrom } from "../../src/domain/budget/hold.ts";
import { EngineState } from "../../src/domain/task-state.ts";
import { type Append, appendBatch } from "../../src/store/append-batch.ts";
import { type BudgetRepository, createBudgetRepository } from "../../src/store/budget-repository.ts";
import { type BudgetUsageReads, createBudgetUsageReads } from "../../src/store/budget-usage-reads.ts";
import { createExpiredRows } from "../../src/store/expired-rows.ts";
import { createLeaseRepository } from "../../src/store/lease-repository.ts";
import { type NewTask, submitBatch } from "../../src/store/submit-batch.ts";
import { createTaskStore } from "../../src/store/task-store.ts";
import { registerReplica } from "../fixtures/replica.ts";
import { headerOf } from "../fixtures/task-header.ts";
import { describeEachBackend } from "./backends.ts";
import { emptyTables, raw } from "./tables.ts";

const KEY = "premium/20260101T000000Z/DAILY.MONEY";
const END = new Date("2026-01-02T00:00:00Z");
const message = create(MessageSchema, { messageId: "1", role: Role.USER });

describeEachBackend("budgets", (context) => {
  let budgets: BudgetRepository;
  let reads: BudgetUsageReads;
  let replicas: string[];
  beforeEach(async () => {
    await emptyTables(context.db);
    await raw(context.db, "truncate budget_slices, budget_reservations, budget_settlements");
    budgets = createBudgetRepository(context.db, () => END);
    reads = createBudgetUsageReads(context.db);
    replicas = [await registerReplica(context.db), await registerReplica(context.db)];
  });

  const hold = (units: number, given: Partial<BudgetHold> = {}): BudgetHold => ({
    key: KEY,
    unit: "MONEY",
    units,
    replicaId: replicas[0]!,
    declared: units,
    drawn: 0,
    chargesFailure: false,
    ...given,
  });
  const begin = async (holds: readonly BudgetHold[], more: Partial<NewTask> = {}, by = replicas[0]!) => {
    const header = headerOf({ leaseOwner: by, holds });
    const task: NewTask = { header, updates: [{ ...messageUpdate(message), state: EngineState.ASSIGNED }], ...more };
    await submitBatch(context.db, by, [task]);
    return task;
  };
  const ending = (
    { header, updates }: NewTask,
    state: TaskState = TaskState.COMPLETED,
    cost?: Append["cost"],
  ): Append => ({
    workspaceId: header.workspaceId,
    taskId: header.taskId,
    expectedSeq: updates.length,
    fence: 1,
    updates: [statusUpdate(header, { state, timestamp: timestampFromDate(header.createdAt) })],
    at: header.createdAt,
    cost,
  });
  const usage = async (key = KEY) => {
    const [found] = await reads.windows("default", { from: key, to: `${key}~`, order: "ascending", limit: 10 });
    return found && { used: found.used, reserved: found.reserved, overrun: found.overrun };
  };
  const ask = (who: number, given: { held?: number; keep?: number; need?: number; returned?: number }, limit = 100) =>
    budgets.settle(replicas[who]!, [
      { workspaceId: "default", key: KEY, limit, held: 0, keep: 0, need: 0, returned: 0, ...given },
    ]);

  it("are held with the task, and charged and released with its end, once", async () => {
    await ask(0, { need: 50 });
    const task = await begin([hold(10)]);
    // A submit whose answer was lost is made again.
    await submitBatch(context.db, replicas[0]!, [task]);
    expect(await usage()).toEqual({ used: 0, reserved: 10, overrun: 0 });
    const cost = { micros: 4, beyond: [] };
    expect(await appendBatch(context.db, replicas[0]!, [ending(task, TaskState.COMPLETED, cost)])).toMatchObject([{}]);
    expect(await appendBatch(context.db, replicas[0]!, [ending(task, TaskState.FAILED)])).toEqual([undefined]);
    expect(await usage()).toEqual({ used: 4, reserved: 0, overrun: 0 });
    expect(await ask(0, { held: 10, keep: 60, need: 20 })).toMatchObject([{ returned: 6, standing: 4 }]);
  });

  it("take what was beyond the hold from the slice, and say what was not to be had", async () => {
    await ask(0, { need: 50 });
    const task = await begin([hold(10)]);
    const beyond = [{ key: KEY, replicaId: replicas[0]!, extra: 5, overrun: 7 }];
    await appendBatch(context.db, replicas[0]!, [ending(task, TaskState.COMPLETED, { micros: 22, beyond })]);
    expect(await usage()).toEqual({ used: 15, reserved: 0, overrun: 7 });
  });

  it("are charged in the database as in the domain", async () => {
    const held = fc.record({
      unit: fc.constantFrom("MONEY" as const, "TASKS" as const),
      units: fc.nat(20),
      declared: fc.nat(20),
      drawn: fc.nat(10),
      chargesFailure: fc.boolean(),
    });
    const state = fc.constantFrom(TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELED, TaskState.REJECTED);
    const one = fc.record({
      holds: fc.array(held, { maxLength: 3 }),
      state,
      cost: fc.option(fc.nat(30), { nil: undefined }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(one, { minLength: 1, maxLength: 5 }), async (tasks) => {
        await raw(context.db, "truncate budget_slices, budget_reservations, budget_settlements");
        let used = 0;
        let released = 0;
        const appends: Append[] = [];
        for (const { holds, state, cost } of tasks) {
          const whole = holds.map((given, i) => hold(given.units, { ...given, key: `${KEY}/${i}` }));
          const task = await begin(whole);
          appends.push(ending(task, state, cost === undefined ? undefined : { micros: cost, beyond: [] }));
          const outcome = { completed: state === TaskState.COMPLETED, costMicros: cost };
          for (const each of whole) {
            used += chargeOf(each, outcome);
            released += each.units - chargeOf(each, outcome);
          }
        }
        await appendBatch(context.db, replicas[0]!, appends);
        const [sums] = await raw(
          context.db,
          `select coalesce(sum(charged), 0)::int as used, coalesce(sum(released), 0)::int as released from budget_settlements`,
        );
        expect(sums).toEqual({ used, released });
      }),
      { numRuns: 8 },
    );
  });

  it("of a task that another replica ends are given back to the replica that had them", async () => {
    await ask(0, { need: 100 });
    const task = await begin([hold(60)]);
    const take = { ...ending(task, TaskState.FAILED), take: true };
    expect(await appendBatch(context.db, replicas[1]!, [take])).toMatchObject([{ fence: 2 }]);
    expect(await ask(0, { held: 60, keep: 100, need: 60 })).toMatchObject([
      { granted: 100, returned: 60, standing: 0 },
    ]);
  });

  it("of a dead replica are what its tasks have used and hold, and become one row when it is forgotten", async () => {
    await ask(0, { need: 100 });
    const [done, open] = [await begin([hold(10)]), await begin([hold(20)])];
    await appendBatch(context.db, replicas[0]!, [ending(done)]);
    await createLeaseRepository(context.db).release(replicas[0]!);
    expect(await ask(1, { need: 10 })).toMatchObject([{ granted: 0 }]);
    await budgets.sweep(0);
    expect(await ask(1, { need: 10 })).toMatchObject([{ granted: 40, others: { granted: 30 } }]);
    // It does not know yet.
    await expect(begin([hold(1)])).rejects.toMatchObject({ reason: "REPLICA_EXPIRED" });
    await appendBatch(context.db, replicas[1]!, [{ ...ending(open, TaskState.FAILED), take: true }]);
    await budgets.sweep(0);
    expect(await ask(1, { need: 10 })).toMatchObject([{ others: { granted: 10 } }]);
    await raw(context.db, "delete from replicas where died_at is not null");
    await budgets.sweep(0);
    expect(await usage()).toEqual({ used: 10, reserved: 0, overrun: 0 });
    const rows = await raw(context.db, "select replica_id, granted from budget_slices order by replica_id");
    expect(rows).toEqual([
      { replica_id: "", granted: 10 },
      { replica_id: replicas[1]!, granted: 50 },
    ]);
  });

  it("of dead replicas shrink a few at a time, and all of them in turn", async () => {
    const few = createBudgetRepository(context.db, () => END, 1);
    const keys = ["a", "b", "c"].map((name) => `${KEY}/agent:${name}`);
    const given = { limit: 100, held: 0, keep: 0, need: 50, returned: 0 };
    await budgets.settle(
      replicas[0]!,
      keys.map((key) => ({ workspaceId: "default", key, ...given })),
    );
    // Of each a task holds something, so that none is ever done.
    const tasks = await Promise.all(keys.map((key) => begin([hold(10, { key })])));
    await createLeaseRepository(context.db).release(replicas[0]!);
    for (let i = 0; i < 6; i++) await few.sweep(0);
    const slices = "select limit_key, granted::int as granted, state from budget_slices order by limit_key";
    expect(await raw(context.db, slices)).toEqual(keys.map((key) => ({ limit_key: key, granted: 10, state: 1 })));
    // What is at the end of the line is not starved by what is before it.
    await appendBatch(context.db, replicas[1]!, [{ ...ending(tasks[2]!, TaskState.FAILED), take: true }]);
    for (let i = 0; i < 3; i++) await few.sweep(0);
    expect((await raw(context.db, slices)).at(-1)).toEqual({ limit_key: keys[2], granted: 0, state: 2 });
    await raw(context.db, "delete from replicas where died_at is not null");
    await few.sweep(0);
    expect(await raw(context.db, "select replica_id from budget_slices where state = 2")).toEqual([{ replica_id: "" }]);
  });

  it("that are the fullest are told with what is used of them, not with what is shared out", async () => {
    const given = { limit: 100, held: 0, keep: 0, returned: 0 };
    const needs = { a: 90, b: 50, c: 70 };
    await budgets.settle(
      replicas[0]!,
      Object.entries(needs).map(([name, need]) => ({
        ...{ workspaceId: "default", key: `${KEY}/agent:${name}` },
        ...{ ...given, need },
      })),
    );
    await begin([hold(10, { key: `${KEY}/agent:a` }), hold(60, { key: `${KEY}/agent:c` })]);
    const fullest = await reads.fullest(new Date(END.getTime() - 1), 2);
    expect(fullest.map(({ key, reserved }) => [key, reserved])).toEqual([
      [`${KEY}/agent:c`, 60],
      [`${KEY}/agent:a`, 10],
    ]);
    expect(await reads.fullest(END, 2)).toEqual([]);
  });

  it("that a replica took before it joined anew are neither held nor charged, and its other tasks go on", async () => {
    const [before, now] = replicas;
    let id = before!;
    const store = createTaskStore(context.db, { maxWaiting: 100, replicaId: () => id });
    await ask(0, { need: 50 });
    await createLeaseRepository(context.db).release(before!);
    await budgets.sweep(0);
    id = now!;
    const task = (holds: readonly BudgetHold[]): NewTask => ({
      header: headerOf({ leaseOwner: now!, holds }),
      updates: [{ ...messageUpdate(message), state: EngineState.ASSIGNED }],
    });
    const [late, free] = [task([hold(10)]), task([hold(0, { replicaId: now! })])];
    const outcomes = await Promise.allSettled([late, free].map(store.submit));
    expect(outcomes).toMatchObject([{ reason: { reason: "REPLICA_EXPIRED" } }, { value: now! }]);
    // Its agent reports more than it held. That was taken from the slice of before.
    const beyond = [{ key: KEY, replicaId: before!, extra: 5, overrun: 2 }];
    await appendBatch(context.db, now!, [ending(free, TaskState.COMPLETED, { micros: 7, beyond })]);
    expect(await usage()).toEqual({ used: 0, reserved: 0, overrun: 7 });
    await store.close();
  });

  it("of which a task holds nothing are not written down as reserved", async () => {
    await begin([hold(0), hold(3, { key: `${KEY}/agent:a` })]);
    const rows = await raw(context.db, "select limit_key, units::int as units from budget_reservations");
    expect(rows).toEqual([{ limit_key: `${KEY}/agent:a`, units: 3 }]);
  });

  it("are forgotten long after their windows, but for those of which a task holds something", async () => {
    await ask(0, { need: 100 });
    const [done, open] = [await begin([hold(10)]), await begin([hold(20)])];
    await appendBatch(context.db, replicas[0]!, [ending(done)]);
    const expired = createExpiredRows(context.db);
    const later = new Date(END.getTime() + 1);
    expect(await expired.removeBudgetSlices(END, 10)).toBe(0);
    expect(await expired.removeBudgetSlices(later, 10)).toBe(0);
    await appendBatch(context.db, replicas[0]!, [ending(open, TaskState.FAILED)]);
    expect(await usage()).toEqual({ used: 10, reserved: 0, overrun: 0 });
    expect(await expired.removeBudgetSlices(later, 10)).toBe(1);
    const rows = await raw(
      context.db,
      "select limit_key from budget_slices union select limit_key from budget_reservations union select limit_key from budget_settlements",
    );
    expect(rows).toEqual([]);
  });

  it("of a parent are drawn by its children, and never more than it holds, whoever draws at the same moment", async () => {
    const stores = replicas.map((id) => createTaskStore(context.db, { maxWaiting: 100, replicaId: () => id }));
    await ask(0, { need: 100 });
    const parent = await begin([hold(10)]);
    const child = (units: number, by: number): NewTask => ({
      header: headerOf({
        leaseOwner: replicas[by]!,
        holds: [hold(units)],
        parent: { taskId: parent.header.taskId, agentId: "agent", depth: 1 },
      }),
      updates: [{ ...messageUpdate(message), state: EngineState.ASSIGNED }],
      drawn: new Set([KEY]),
    });
    const children = [3, 3, 3, 3, 3].map((units, i) => ({ task: child(units, i % 2), by: i % 2 }));
    const outcomes = await Promise.allSettled(children.map(({ task, by }) => stores[by]!.submit(task)));
    const taken = children.filter((_, i) => outcomes[i]!.status === "fulfilled");
    expect(taken).toHaveLength(3);
    for (const outcome of outcomes) {
      if (outcome.status === "rejected") expect(outcome.reason).toMatchObject({ reason: "BUDGET_EXCEEDED" });
    }
    // Made again, it draws nothing again.
    await stores[taken[0]!.by]!.submit(taken[0]!.task);
    const { header } = (await stores[0]!.load("default", parent.header.taskId))!;
    expect(header.holds).toEqual([drawFrom(hold(10), 9)]);
    expect(await usage()).toEqual({ used: 0, reserved: 10, overrun: 0 });
    const known = (await stores[0]!.load("default", taken[0]!.task.header.taskId))!;
    expect(known.header.parent).toEqual({ taskId: parent.header.taskId, agentId: "agent", depth: 1 });
    await appendBatch(context.db, replicas[0]!, [ending(parent)]);
    await expect(stores[0]!.submit(child(1, 0))).rejects.toMatchObject({ reason: "UNSUPPORTED_OPERATION" });
    for (const { task, by } of taken) {
      await appendBatch(context.db, replicas[by]!, [ending(task, TaskState.COMPLETED, { micros: 1, beyond: [] })]);
    }
    expect(await usage()).toEqual({ used: 4, reserved: 0, overrun: 0 });
    await Promise.all(stores.map((store) => store.close()));
  });
});
