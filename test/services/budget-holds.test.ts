/** Replicas that hold what tasks may cost: whatever they do at the same moment, and whoever dies, no budget is overspent. */
import { create, type JsonObject } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import { afterEach, beforeEach, expect, it } from "vitest";
import { MessageSchema, Role, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { messageUpdate, statusUpdate } from "../../src/domain/agent-report.ts";
import { parseBudgetKey } from "../../src/domain/budget/budget-key.ts";
import { type BudgetRule, budgetRulesIn } from "../../src/domain/budget/budget-rule.ts";
import { beyondHold, chargeOf, type DelegatingTask, type TaskOutcome } from "../../src/domain/budget/hold.ts";
import { COST_EXTENSION } from "../../src/domain/cost-extension.ts";
import { foldTask, type NewUpdate } from "../../src/domain/task-log.ts";
import { EngineState } from "../../src/domain/task-state.ts";
import { type BudgetHolds, createBudgetHolds } from "../../src/services/budget-holds.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import { createBudgetRepository } from "../../src/store/budget-repository.ts";
import { createBudgetUsageReads } from "../../src/store/budget-usage-reads.ts";
import { createLeaseRepository } from "../../src/store/lease-repository.ts";
import { createTaskStore, type TaskStore } from "../../src/store/task-store.ts";
import { registerReplica } from "../fixtures/replica.ts";
import { headerOf } from "../fixtures/task-header.ts";
import { describeEachBackend, silent } from "../store/backends.ts";
import { emptyTables, raw } from "../store/tables.ts";

const message = create(MessageSchema, { messageId: "1", role: Role.USER });
const HOUR_MS = 3_600_000;
const never = new AbortController().signal;

interface Lab {
  id: string;
  budgets: BudgetHolds;
  store: TaskStore;
}

const rulesOf = (section: unknown): readonly BudgetRule[] => {
  const read = budgetRulesIn(section, "budgets");
  if ("problems" in read) throw new Error(JSON.stringify(read.problems));
  return read.rules;
};

describeEachBackend("what tasks may cost", (context) => {
  const real = systemRuntime();
  let rules: readonly BudgetRule[] = [];
  let nowMs = 0;
  let labs: Lab[] = [];
  let overruns = 0;

  /** Where it is set, time stands still for those who wait, and only an abort ends that. */
  let stillMs: number | undefined;

  const runtime = { ...real, now: () => new Date(nowMs), elapsedMs: () => stillMs ?? real.elapsedMs() };

  beforeEach(async () => {
    await emptyTables(context.db);
    await raw(context.db, "truncate budget_slices, budget_reservations, budget_settlements");
    nowMs = Date.parse("2026-01-01T10:00:00Z");
    [labs, overruns, stillMs] = [[], 0, undefined];
    // With PGlite there is one process.
    for (let i = 0; i < (context.backend === "pglite" ? 1 : 2); i++) labs.push(await start());
  });
  afterEach(async () => {
    for (const lab of labs.splice(0)) await stop(lab);
  });

  async function start(): Promise<Lab> {
    const id = await registerReplica(context.db);
    const store = createTaskStore(context.db, { maxWaiting: 1000, replicaId: () => lab.id });
    const budgets: BudgetHolds = createBudgetHolds({
      rulesOf: () => rules,
      repository: createBudgetRepository(context.db, (limit) => new Date(budgets.endOf(limit))),
      reads: createBudgetUsageReads(context.db),
      store,
      replicaId: () => lab.id,
      announce() {
        for (const other of labs) if (other !== lab) other.budgets.heed();
      },
      onOverrun: (micros) => {
        overruns += micros;
      },
      runtime,
      log: silent,
    });
    budgets.start();
    const lab: Lab = { id, budgets, store };
    return lab;
  }
  async function stop({ budgets, store }: Lab): Promise<void> {
    await budgets.stop();
    await store.close();
  }
  /** Its tasks stay, and nobody has them. */
  async function crash(lab: Lab): Promise<void> {
    lab.budgets.reset();
    await createLeaseRepository(context.db).release(lab.id);
    await stop(lab);
  }

  interface Begun {
    taskId: string;
  }

  const spendingOf = (
    cost: number,
    more: { maxCost?: number; parent?: DelegatingTask | undefined; principal?: string; signal?: AbortSignal },
  ) => ({
    context: {
      ...{ workspaceId: "default", principal: { id: more.principal ?? "anonymous" } },
      signal: more.signal ?? never,
    } as never,
    route: {
      agent: { agentId: "agent" },
      capability: { capabilityId: "work", costMicros: cost },
      wishes: more.maxCost === undefined ? {} : { maxCostMicros: more.maxCost },
    } as never,
    parent: more.parent,
    isAnswered: false,
  });

  /** As accept does it. */
  async function begin(lab: Lab, cost: number, more: Parameters<typeof spendingOf>[1] = {}): Promise<Begun> {
    const { parent } = more;
    const header = headerOf({
      leaseOwner: lab.id,
      createdAt: runtime.now(),
      ...(parent && { parent: { taskId: parent.taskId, agentId: parent.agentId, depth: parent.depth } }),
    });
    const reserved = await lab.budgets.reserve({ ...spendingOf(cost, more), taskId: header.taskId });
    try {
      await lab.store.submit({
        header: { ...header, holds: reserved?.holds },
        updates: [{ ...messageUpdate(message), state: EngineState.ASSIGNED }],
        ...(reserved && { drawn: reserved.drawn }),
      });
    } catch (error) {
      reserved?.release();
      throw error;
    }
    return { taskId: header.taskId };
  }

  /** As a writer does it, which takes the task over if it must. */
  async function end(lab: Lab, { taskId }: Begun, state: TaskState, cost?: string): Promise<void> {
    const stored = (await lab.store.load("default", taskId))!;
    const image = foldTask(stored.header, stored.updates);
    const update: NewUpdate = statusUpdate(image.header, { state, timestamp: timestampFromDate(runtime.now()) });
    if (cost !== undefined && update.body.payload.case === "statusUpdate") {
      update.body.payload.value.metadata = { [COST_EXTENSION]: { cost } } as JsonObject;
    }
    const isOverspent = lab.budgets.isOverspent(image, [update]);
    const bill = isOverspent
      ? await lab.budgets.fullBillOf(image, [update], never)
      : lab.budgets.billOf(image, [update]);
    const { seq, header } = image;
    const append = {
      workspaceId: "default",
      taskId,
      expectedSeq: seq,
      fence: header.fence,
      updates: [update],
      take: true,
    };
    const done = await lab.store.append({ ...append, at: runtime.now(), cost: bill });
    if (done) {
      bill?.stored();
      lab.budgets.settled(header);
    } else bill?.cancel();
  }

  const parentOf = async (lab: Lab, { taskId }: Begun): Promise<DelegatingTask> => {
    const { header } = (await lab.store.load("default", taskId))!;
    return { taskId, agentId: "agent", depth: 1, deadlineAt: undefined, holds: header.holds ?? [] };
  };

  const windows = () =>
    createBudgetUsageReads(context.db).windows("default", { from: "", to: "~", order: "ascending", limit: 1000 });

  it("is refused where it is too much, with what is used and when there is more", async () => {
    rules = rulesOf([{ id: "day", daily_limit: 10, time_zone: "Europe/Berlin" }]);
    const [lab] = labs;
    const tasks = [await begin(lab!, 4_000_000), await begin(lab!, 4_000_000)];
    await end(lab!, tasks[0]!, TaskState.COMPLETED);
    await expect(begin(lab!, 4_000_000)).rejects.toMatchObject({
      code: "RESOURCE_EXHAUSTED",
      reason: "BUDGET_EXCEEDED",
      metadata: { budget: "day", limit: "10", used: "4", reserved: "4", resetTime: "2026-01-01T23:00:00.000Z" },
      retryAfterMs: 1_000,
    });
    // Memory may answer by itself, and says the same.
    await expect(begin(lab!, 4_000_000)).rejects.toMatchObject({ reason: "BUDGET_EXCEEDED" });
    await end(lab!, tasks[1]!, TaskState.FAILED);
    await begin(lab!, 6_000_000);
    nowMs += 13 * HOUR_MS;
    await begin(lab!, 10_000_000);
    await expect(begin(lab!, 1)).rejects.toMatchObject({ metadata: { resetTime: "2026-01-02T23:00:00.000Z" } });
  });

  it("is counted in tasks too, all or nothing, and for each principal by itself", async () => {
    rules = rulesOf([
      { id: "all", hourly_tasks: 3 },
      { id: "own", principal_id: "*", hourly_limit: 2, on_failure: "CHARGE" },
    ]);
    const [lab] = labs;
    const task = await begin(lab!, 2_000_000, { principal: "a" });
    await expect(begin(lab!, 1_000_000, { principal: "a" })).rejects.toMatchObject({ metadata: { budget: "own" } });
    await begin(lab!, 1_000_000, { principal: "b" });
    await begin(lab!, 1_000_000, { principal: "b" });
    await expect(begin(lab!, 1_000_000, { principal: "c" })).rejects.toMatchObject({
      message: expect.stringContaining("allows 3 tasks"),
      metadata: { budget: "all", limit: "3" },
    });
    await end(lab!, task, TaskState.FAILED);
    // A task that failed does not count as one; its money does.
    await begin(lab!, 1_000_000, { principal: "c" });
    const used = (await windows()).map(({ key, used, reserved }) => [parseBudgetKey(key)!.principalId, used, reserved]);
    expect(used).toEqual([
      [undefined, 0, 3],
      ["a", 2_000_000, 0],
      ["b", 0, 2_000_000],
      ["c", 0, 1_000_000],
    ]);
  });

  it("is of the window that has begun, for everybody, when the clock is set back a little", async () => {
    rules = rulesOf([{ id: "all", hourly_tasks: 10 }]);
    const [lab] = labs;
    await begin(lab!, 0, { principal: "a" });
    nowMs += HOUR_MS;
    await begin(lab!, 0, { principal: "b" });
    nowMs -= 1_000;
    await begin(lab!, 0, { principal: "a" });
    expect((await windows()).map(({ reserved }) => reserved)).toEqual([1, 2]);
  });

  it("is what agents report, as far as there is so much", async () => {
    rules = rulesOf([{ id: "day", daily_limit: 10 }]);
    const [lab] = labs;
    const [less, more, much, rubbish] = [
      await begin(lab!, 2_000_000),
      await begin(lab!, 0, { maxCost: 2_000_000 }),
      await begin(lab!, 0),
      await begin(lab!, 1_000_000),
    ];
    await end(lab!, less, TaskState.COMPLETED, "0.5");
    // A cost that is reported is charged whatever the outcome was.
    await end(lab!, more, TaskState.FAILED, "1.25");
    await end(lab!, rubbish, TaskState.COMPLETED, "a lot");
    await end(lab!, much, TaskState.COMPLETED, "100");
    const [window] = await windows();
    // What was released a moment ago may not be known to be free yet.
    expect(window!.used).toBeLessThanOrEqual(10_000_000);
    expect(window!.used + window!.overrun).toBe(500_000 + 1_250_000 + 1_000_000 + 100_000_000);
    expect(window!.overrun).toBe(overruns);
    expect(window!.reserved).toBe(0);
  });

  it("of a task that held nothing is taken of its own window, also when that is over", async () => {
    rules = rulesOf([{ id: "hour", hourly_limit: 10 }]);
    const [lab] = labs;
    nowMs += HOUR_MS - 60_000;
    const task = await begin(lab!, 0);
    nowMs += 120_000;
    const slices = () => raw(context.db, "select granted from budget_slices where granted > 0");
    // What nobody holds of a window that is over is given back.
    await expect.poll(slices, { timeout: 10_000 }).toEqual([]);
    await end(lab!, task, TaskState.COMPLETED, "0.25");
    expect(await windows()).toMatchObject([{ used: 250_000, overrun: 0, reserved: 0 }]);
    expect(overruns).toBe(0);
  });

  it("is overrun once, when the bill is stored, however often it was made", async () => {
    rules = rulesOf([{ id: "day", daily_limit: 1 }]);
    const [lab] = labs;
    const task = await begin(lab!, 0);
    const { header, updates } = (await lab!.store.load("default", task.taskId))!;
    const image = foldTask(header, updates);
    const completed = statusUpdate(header, { state: TaskState.COMPLETED, timestamp: timestampFromDate(runtime.now()) });
    const { payload } = completed.body;
    if (payload.case === "statusUpdate") payload.value.metadata = { [COST_EXTENSION]: { cost: "3" } } as JsonObject;
    const lost = await lab!.budgets.fullBillOf(image, [completed], never);
    lost!.cancel();
    expect(overruns).toBe(0);
    await end(lab!, task, TaskState.COMPLETED, "3");
    expect(overruns).toBe(2_000_000);
    expect(await windows()).toMatchObject([{ used: 1_000_000, overrun: 2_000_000 }]);
  });

  it("is waited for no longer than the call, or the writer, lets it", async () => {
    rules = rulesOf([{ id: "day", daily_limit: 10, monthly_limit: 10 }]);
    const [lab] = labs;
    const task = await begin(lab!, 0);
    const { header, updates } = (await lab!.store.load("default", task.taskId))!;
    await lab!.budgets.stop();
    // What is left is with a replica that does not hear.
    const repository = createBudgetRepository(context.db, (limit) => new Date(lab!.budgets.endOf(limit)));
    const keys = (await windows()).map(({ key }) => ({ workspaceId: "default", key }));
    const ask = { limit: 10_000_000, held: 0, keep: 10_000_000, need: 10_000_000 };
    await repository.settle(
      await registerReplica(context.db),
      keys.map((key) => ({ ...key, ...ask })),
    );
    labs.push(await start());
    const other = labs.at(-1)!;
    stillMs = real.elapsedMs();
    const stop = new AbortController();
    const begun = begin(other, 1_000_000, { signal: stop.signal });
    const completed = statusUpdate(header, { state: TaskState.COMPLETED, timestamp: timestampFromDate(runtime.now()) });
    const { payload } = completed.body;
    if (payload.case === "statusUpdate") payload.value.metadata = { [COST_EXTENSION]: { cost: "3" } } as JsonObject;
    const billed = other.budgets.fullBillOf(foldTask(header, updates), [completed], stop.signal);
    const wanted = async () => (await raw(context.db, "select from budget_slices where wanted > 0")).length;
    // Of both windows at once.
    await expect.poll(wanted, { timeout: 10_000 }).toBe(2);
    stop.abort(new Error("the caller has gone"));
    await expect(begun).rejects.toThrow("the caller has gone");
    expect((await billed)!.beyond.map(({ extra, overrun }) => [extra, overrun])).toEqual([
      [0, 3_000_000],
      [0, 3_000_000],
    ]);
  });

  it("of which a part was taken before its server was declared dead is none of what that has anew", async () => {
    rules = rulesOf([{ id: "day", daily_limit: 10, monthly_limit: 10 }]);
    const [lab] = labs;
    const task = await begin(lab!, 0);
    const { header, updates } = (await lab!.store.load("default", task.taskId))!;
    const [daily, monthly] = header.holds!.map(({ key }) => ({ workspaceId: "default", key }));
    await lab!.budgets.stop();
    const repository = createBudgetRepository(context.db, (limit) => new Date(lab!.budgets.endOf(limit)));
    const all = { limit: 10_000_000, held: 0, keep: 10_000_000, need: 10_000_000 };
    // What is left of the month is with a replica that does not hear.
    await repository.settle(await registerReplica(context.db), [{ ...monthly!, ...all }]);
    labs.push(await start());
    const other = labs.at(-1)!;
    const earlierId = other.id;
    stillMs = real.elapsedMs();
    const stop = new AbortController();
    const completed = statusUpdate(header, { state: TaskState.COMPLETED, timestamp: timestampFromDate(runtime.now()) });
    const { payload } = completed.body;
    if (payload.case === "statusUpdate") payload.value.metadata = { [COST_EXTENSION]: { cost: "3" } } as JsonObject;
    const billed = other.budgets.fullBillOf(foldTask(header, updates), [completed], stop.signal);
    const wanted = async () => (await raw(context.db, "select from budget_slices where wanted > 0")).length;
    await expect.poll(wanted, { timeout: 10_000 }).toBe(1);
    other.id = await registerReplica(context.db);
    other.budgets.reset();
    stop.abort();
    const taken = (await billed)!.beyond.filter(({ extra }) => extra > 0);
    expect(taken).toEqual([{ key: daily!.key, replicaId: earlierId, extra: 3_000_000, overrun: 0 }]);
  });

  it("is free for all when a task gives it back, also where its server has nothing more to do", async () => {
    rules = rulesOf([{ id: "day", daily_limit: 10 }]);
    const [here, there = here] = labs;
    for (const by of [here, there]) {
      const task = await begin(here!, 10_000_000);
      await end(by!, task, TaskState.FAILED);
      await end(there!, await begin(there!, 10_000_000), TaskState.FAILED);
    }
  });

  it("is refused at once where the budget never allows it, and asks nothing of others", async () => {
    rules = rulesOf([{ id: "day", daily_limit: 10 }]);
    const [here, there = here] = labs;
    await begin(there!, 0);
    const refused = begin(here!, 0, { maxCost: Number.MAX_SAFE_INTEGER });
    await expect(refused).rejects.toMatchObject({
      reason: "BUDGET_EXCEEDED",
      message: expect.stringContaining("more than it ever allows; lower maxCost or raise the limit"),
      metadata: { budget: "day", limit: "10" },
      retryAfterMs: undefined,
    });
    expect(await raw(context.db, "select from budget_slices where wanted > 0")).toEqual([]);
  });

  it("on behalf of a task that holds no more needs something, also where nobody says what it costs", async () => {
    rules = rulesOf([{ id: "day", daily_limit: 10 }]);
    const [lab] = labs;
    const parent = await begin(lab!, 1_000_000);
    await begin(lab!, 1_000_000, { parent: await parentOf(lab!, parent) });
    await expect(begin(lab!, 0, { parent: await parentOf(lab!, parent) })).rejects.toMatchObject({
      reason: "BUDGET_EXCEEDED",
      metadata: { budget: "day", parentTaskId: parent.taskId, remaining: "0" },
    });
  });

  it("is all that is reported, wherever the budget is, and then nothing more begins", async () => {
    rules = rulesOf([{ id: "day", daily_limit: 10 }]);
    const [here, there = here] = labs;
    const [first, second] = [await begin(here!, 0), await begin(there!, 0)];
    await end(here!, first, TaskState.COMPLETED, "9");
    expect(await windows()).toMatchObject([{ used: 9_000_000, overrun: 0 }]);
    const third = await begin(there!, 0);
    await end(there!, second, TaskState.COMPLETED, "1.5");
    expect(await windows()).toMatchObject([{ used: 10_000_000, overrun: 500_000 }]);
    for (const lab of labs) {
      await expect(begin(lab, 0)).rejects.toMatchObject({
        message: expect.stringContaining("so nothing is left for a task of which nobody says what it costs"),
        metadata: { budget: "day", used: "10" },
      });
    }
    await end(here!, third, TaskState.COMPLETED);
    expect(await windows()).toMatchObject([{ used: 10_000_000, reserved: 0 }]);
  });

  it("is what each of two documents allows that have a budget of one name", async () => {
    const named = { agent_id: "agent" };
    rules = [
      ...rulesOf([{ ...named, daily_limit: 10 }]),
      ...rulesOf([{ ...named, daily_limit: 100, hourly_limit: 4 }]),
    ];
    const [lab] = labs;
    await end(lab!, await begin(lab!, 3_000_000), TaskState.COMPLETED);
    await expect(begin(lab!, 3_000_000)).rejects.toMatchObject({ metadata: { budget: "agent.agent+2", limit: "4" } });
    nowMs += 6 * HOUR_MS;
    await end(lab!, await begin(lab!, 4_000_000), TaskState.COMPLETED);
    nowMs += HOUR_MS;
    await expect(begin(lab!, 4_000_000)).rejects.toMatchObject({ metadata: { budget: "agent.agent", used: "7" } });
  });

  it("is drawn from what the parent holds, and no more than that", async () => {
    rules = rulesOf([{ id: "day", daily_limit: 20, daily_tasks: 10 }]);
    const [lab] = labs;
    const parent = await begin(lab!, 5_000_000);
    const child = await begin(lab!, 3_000_000, { parent: await parentOf(lab!, parent) });
    await expect(begin(lab!, 3_000_000, { parent: await parentOf(lab!, parent) })).rejects.toMatchObject({
      reason: "BUDGET_EXCEEDED",
      metadata: { budget: "day", parentTaskId: parent.taskId, remaining: "2" },
    });
    await end(lab!, child, TaskState.COMPLETED, "1");
    await end(lab!, parent, TaskState.COMPLETED);
    const [money, tasks] = await windows();
    // Of 5 the child was given 3, of which it used 1.
    expect(money).toMatchObject({ used: 3_000_000, reserved: 0 });
    expect(tasks).toMatchObject({ used: 2, reserved: 0 });
  });

  it("is never more than the budgets allow, whatever happens at the same moment", async () => {
    const anyone = fc.nat(1);
    const step = fc.oneof(
      {
        weight: 6,
        arbitrary: fc.record({
          do: fc.constant("begin" as const),
          who: anyone,
          cost: fc.integer({ min: 0, max: 30 }),
          principal: fc.constantFrom("a", "b"),
        }),
      },
      {
        weight: 5,
        arbitrary: fc.record({
          do: fc.constant("end" as const),
          who: anyone,
          which: fc.nat(),
          state: fc.constantFrom(TaskState.COMPLETED, TaskState.COMPLETED, TaskState.FAILED),
          cost: fc.option(fc.nat(60), { nil: undefined }),
        }),
      },
      {
        weight: 2,
        arbitrary: fc.record({ do: fc.constant("delegate" as const), who: anyone, which: fc.nat(), cost: fc.nat(15) }),
      },
      { weight: 1, arbitrary: fc.record({ do: fc.constant("crash" as const), who: anyone }) },
      {
        weight: 1,
        arbitrary: fc.record({ do: fc.constant("limit" as const), limit: fc.integer({ min: 20, max: 120 }) }),
      },
      { weight: 1, arbitrary: fc.record({ do: fc.constant("hour" as const) }) },
    );
    const schedule = fc.array(fc.array(step, { minLength: 1, maxLength: 8 }), { minLength: 2, maxLength: 6 });
    await fc.assert(
      fc.asyncProperty(schedule, async (rounds) => {
        for (const lab of labs.splice(0)) await stop(lab);
        await emptyTables(context.db);
        await raw(context.db, "truncate budget_slices, budget_reservations, budget_settlements");
        const setLimit = (limit: number) => {
          rules = rulesOf([
            { id: "hour", hourly_limit: limit / 1e6, hourly_tasks: Math.ceil(limit / 8) },
            { id: "own", principal_id: "*", daily_limit: (2 * limit) / 1e6 },
          ]);
        };
        let most = 100;
        let limitNow = most;
        setLimit(most);
        overruns = 0;
        nowMs += 48 * HOUR_MS;
        for (let i = 0; i < (context.backend === "pglite" ? 1 : 2); i++) labs.push(await start());
        const open: Begun[] = [];
        const ended: { task: Begun; outcome: TaskOutcome }[] = [];
        const finish = async (lab: Lab, task: Begun, state: TaskState, micros?: number) => {
          await end(lab, task, state, micros === undefined ? undefined : (micros / 1e6).toFixed(6));
          ended.push({ task, outcome: { completed: state === TaskState.COMPLETED, costMicros: micros } });
        };
        const labOf = (who: number) => labs[who % labs.length]!;
        const taken = (which: number) => (open.length === 0 ? undefined : open.splice(which % open.length, 1)[0]!);

        const refusal = (error: unknown) => {
          const { reason } = error as { reason?: string };
          if (!["BUDGET_EXCEEDED", "REPLICA_EXPIRED", "UNSUPPORTED_OPERATION"].includes(reason!)) throw error;
        };
        async function perform(one: typeof step extends fc.Arbitrary<infer T> ? T : never): Promise<void> {
          if (one.do === "begin") {
            open.push(await begin(labOf(one.who), one.cost, { principal: one.principal }));
          } else if (one.do === "end") {
            const task = taken(one.which);
            if (task) await finish(labOf(one.who), task, one.state, one.cost);
          } else if (one.do === "delegate") {
            const parent = open[one.which % Math.max(1, open.length)];
            if (!parent) return;
            open.push(await begin(labOf(one.who), one.cost, { parent: await parentOf(labOf(one.who), parent) }));
          } else if (one.do === "crash") {
            const at = one.who % labs.length;
            const dead = labs[at]!;
            // With what its tasks hold, which others end.
            labs[at] = await start();
            await crash(dead);
          } else if (one.do === "limit") {
            limitNow = one.limit;
            most = Math.max(most, limitNow);
            setLimit(limitNow);
          } else nowMs += HOUR_MS;
        }
        const check = async () => {
          for (const { key, used, reserved } of await windows()) {
            const { unit, budgetId } = parseBudgetKey(key)!;
            const limit = unit === "TASKS" ? Math.ceil(most / 8) : budgetId === "own" ? 2 * most : most;
            expect(used + reserved, key).toBeLessThanOrEqual(limit);
            expect(Math.min(used, reserved)).toBeGreaterThanOrEqual(0);
          }
        };
        /** What fits is accepted, by whomever it is asked for, wherever what is left of the budgets is. */
        const checkRoom = async () => {
          // Of those that have died it is free when that is known.
          await createBudgetRepository(context.db, () => new Date(nowMs)).sweep(0);
          const full = (await windows()).filter(({ key, endsAt, used, reserved }) => {
            const { unit, budgetId, principalId = "a" } = parseBudgetKey(key)!;
            const limit = unit === "TASKS" ? Math.ceil(limitNow / 8) : budgetId === "own" ? 2 * limitNow : limitNow;
            return endsAt.getTime() > nowMs && principalId === "a" && used + reserved + 1 > limit;
          });
          if (full.length > 0) return;
          for (const lab of labs) {
            const one = async () => {
              const task = await begin(lab, 1, { principal: "a" });
              await finish(lab, task, TaskState.FAILED);
              return "accepted";
            };
            // What was found out a moment ago holds for a second.
            await expect.poll(() => one().catch((error) => error.reason), { timeout: 10_000 }).toBe("accepted");
          }
        };
        /** What is used, or was not to be had, is what was declared and reported. */
        const checkCosts = async () => {
          const costs = new Map<string, number>();
          for (const { task, outcome } of ended) {
            for (const hold of (await labs[0]!.store.load("default", task.taskId))!.header.holds ?? []) {
              const cost = chargeOf(hold, outcome) + beyondHold(hold, outcome);
              costs.set(hold.key, (costs.get(hold.key) ?? 0) + cost);
            }
          }
          const found = await windows();
          for (const { key, used, overrun } of found) expect(used + overrun, key).toBe(costs.get(key) ?? 0);
          expect(found.reduce((sum, { overrun }) => sum + overrun, 0)).toBe(overruns);
        };
        for (const round of rounds) {
          const alone = round.filter((one) => one.do === "crash");
          await Promise.all(round.filter((one) => one.do !== "crash").map((one) => perform(one).catch(refusal)));
          // One dies while others go on.
          await Promise.all([
            ...alone.slice(0, 1).map(perform),
            ...round
              .slice(0, 3)
              .filter((one) => one.do === "begin")
              .map((one) => perform(one).catch(refusal)),
          ]);
          await check();
          await checkRoom();
        }
        for (const task of open.splice(0)) await finish(labs[0]!, task, TaskState.FAILED);
        await checkCosts();
        for (const lab of labs.splice(0)) await crash(lab);
        await check();
        // All is used or free: whoever comes next gets whatever is not used.
        const heir = await registerReplica(context.db);
        const repository = createBudgetRepository(context.db, () => new Date(nowMs));
        await repository.sweep(0);
        for (const { key, used, reserved } of await windows()) {
          expect(reserved, key).toBe(0);
          const ask = { workspaceId: "default", key, limit: 1000, held: 0, keep: 0, need: 1000 };
          const [slice] = await repository.settle(heir, [ask]);
          expect(slice!.granted, key).toBe(1000 - used);
        }
      }),
      { numRuns: context.backend === "pglite" ? 2 : 6, endOnFailure: true },
    );
  });
});
