/** Who is served when tasks wait: by priority and time within a workspace, and no workspace before all others. */
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import { beforeEach, describe, expect, it } from "vitest";
import { MessageSchema, Role, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { messageUpdate, statusUpdate } from "../../src/domain/agent-report.ts";
import { PRIORITIES, type Priority, type TaskHeader } from "../../src/domain/task-log.ts";
import { EngineState } from "../../src/domain/task-state.ts";
import { type Append, appendBatch } from "../../src/store/append-batch.ts";
import { createLeaseRepository, type LeaseRepository, type TakenTask } from "../../src/store/lease-repository.ts";
import { submitBatch } from "../../src/store/submit-batch.ts";
import { registerReplica } from "../fixtures/replica.ts";
import { headerOf } from "../fixtures/task-header.ts";
import { describeEachBackend } from "./backends.ts";
import { emptyTables, expectWholeLogs, raw, taskRows } from "./tables.ts";

const { QUEUED, SCHEDULED, ASSIGNED, INPUT_REQUIRED } = EngineState;
const HOUR_MS = 3_600_000;
const at = new Date("2026-01-01T00:00:00.123Z");
const nobody = { running: new Map<string, number>(), last: "" };

describeEachBackend("claims", (context) => {
  let leases: LeaseRepository;
  let replica: string;
  beforeEach(async () => {
    await emptyTables(context.db);
    leases = createLeaseRepository(context.db);
    replica = await registerReplica(context.db);
  });

  const message = messageUpdate(create(MessageSchema, { messageId: "1", role: Role.USER }));

  /** Tasks that are due, the first of them the longest. */
  const queue = (workspaceId: string, count: number, priority: Priority = "NORMAL") =>
    raw(
      context.db,
      `with tasks as (
         insert into tasks (workspace_id, task_id, context_id, agent_id, state, a2a_state, status, status_at, last_seq,
                            disclosed, created_at, priority, wake_at, attempt)
         select $1, $1 || '-' || n, 'c', 'agent', ${QUEUED}, 1, '', now(), 1, true, now(), $3,
                now() - ($2 - n + 1) * interval '1 ms', 0
         from generate_series(1, $2::int) as n
         returning *
       )
       insert into task_updates (workspace_id, task_id, seq, kind, body, state, created_at, fence, attempt)
       select workspace_id, task_id, 1, 1, '', state, now(), 1, 0 from tasks`,
      [workspaceId, count, PRIORITIES.indexOf(priority)],
    );

  /** What the agent of a new task says when it asks its client. */
  const asks = (header: TaskHeader): Append => {
    const { workspaceId, taskId, fence } = header;
    const status = { state: TaskState.INPUT_REQUIRED, timestamp: timestampFromDate(at) };
    return { workspaceId, taskId, fence, expectedSeq: 1, updates: [statusUpdate(header, status)], at };
  };

  /** The workspaces of what each of some claims takes, in order. With `long`, what was taken before still runs. */
  async function claims(count: number, limit: number, options: { long?: boolean; running?: Map<string, number> } = {}) {
    const running = options.running ?? new Map<string, number>();
    let last = "";
    const served: string[][] = [];
    for (let i = 0; i < count; i++) {
      const taken = await leases.claim(replica, limit, { running, last });
      last = taken.at(-1)?.workspaceId ?? last;
      served.push(taken.map(({ workspaceId }) => workspaceId));
      if (options.long)
        for (const { workspaceId } of taken) running.set(workspaceId, (running.get(workspaceId) ?? 0) + 1);
    }
    return served;
  }
  const idsOf = (tasks: readonly TakenTask[]) => tasks.map(({ taskId }) => taskId);

  it("take the higher priority first, and then who has waited longer", async () => {
    const waiting = fc.uniqueArray(fc.record({ priority: fc.nat(4), waitedMs: fc.nat(10_000) }), {
      minLength: 1,
      maxLength: 20,
      selector: ({ priority, waitedMs }) => `${priority} ${waitedMs}`,
    });
    await fc.assert(
      fc.asyncProperty(waiting, fc.integer({ min: 1, max: 7 }), async (tasks, limit) => {
        await emptyTables(context.db);
        replica = await registerReplica(context.db);
        const queued = tasks.map(({ priority, waitedMs }) => ({
          header: headerOf({ taskId: `${priority}-${waitedMs}`, priority: PRIORITIES[priority]! }),
          updates: [{ ...message, state: QUEUED }],
          wakeInMs: -waitedMs,
        }));
        await submitBatch(context.db, replica, queued);
        const taken: string[] = [];
        while (taken.length < tasks.length) taken.push(...idsOf(await leases.claim(replica, limit, nobody)));
        const expected = tasks.toSorted((a, b) => b.priority - a.priority || b.waitedMs - a.waitedMs);
        expect(taken).toEqual(expected.map(({ priority, waitedMs }) => `${priority}-${waitedMs}`));
      }),
      { numRuns: 25 },
    );
  });

  describe("with 2,000 critical tasks in one workspace, and 5 of the lowest priority that came later in another", () => {
    beforeEach(async () => {
      await queue("flood", 2_000, "CRITICAL");
      await queue("small", 5, "BACKGROUND");
    });

    it.each([true, false])("of one task serve them in turn; while tasks run on: %s", async (long) => {
      const served = await claims(12, 1, { long });
      expect(served.map(([workspaceId]) => workspaceId)).toEqual([
        ...["flood", "small", "flood", "small", "flood", "small", "flood", "small", "flood", "small"],
        ...["flood", "flood"],
      ]);
    });

    it("of ten take all five with the first", async () => {
      const [first, second] = await claims(2, 10, { long: true });
      expect(first).toEqual(Array.from({ length: 10 }, (_, i) => (i % 2 ? "small" : "flood")));
      expect(second).toEqual(Array(10).fill("flood"));
    });

    it("serve the small one first while tasks of the flood take the room", async () => {
      const one = await claims(7, 1, { running: new Map([["flood", 50]]), long: true });
      expect(one.flat()).toEqual([...Array(5).fill("small"), "flood", "flood"]);
      await queue("late", 5);
      const ten = await claims(2, 10, { running: new Map([["flood", 50]]), long: true });
      expect(ten).toEqual([[...Array(5).fill("late"), ...Array(5).fill("flood")], Array(10).fill("flood")]);
    });
  });

  it("serve each of many workspaces before any a second time", async () => {
    const names = Array.from({ length: 30 }, (_, i) => `w${i + 10}`);
    for (const name of names) await queue(name, 3);
    const served = await claims(9, 10);
    for (const round of [0, 3, 6])
      expect(
        served
          .slice(round, round + 3)
          .flat()
          .sort(),
      ).toEqual(names);
    expect(await leases.claim(replica, 10, nobody)).toEqual([]);
  });

  it("leave nothing when they take nothing", async () => {
    await queue("long", 300);
    for (let i = 0; i < 9; i++) await queue(`short-${i}`, 1);
    let [taken, count] = [0, 0];
    for (let got = -1; got !== 0; taken += got, count += 1) got = (await leases.claim(replica, 100, nobody)).length;
    expect(taken).toBe(309);
    expect(count).toBeLessThan(8);
  });

  it("of many replicas at once take every task, and none twice", async () => {
    for (const name of ["a", "b", "c"]) await queue(name, 200);
    const replicas = await Promise.all(Array.from({ length: 6 }, () => registerReplica(context.db)));
    const taken = await Promise.all(
      replicas.map(async (id) => {
        const mine: string[] = [];
        for (let left = 600; left > 0; left = await leases.waiting(600)) {
          mine.push(...idsOf(await leases.claim(id, 25, nobody)));
        }
        return mine;
      }),
    );
    expect(taken.flat()).toHaveLength(600);
    expect(new Set(taken.flat()).size).toBe(600);
    await expectWholeLogs(context.db);
    const held = await Promise.all(replicas.map((id) => leases.held(id)));
    expect(held.map((tasks) => idsOf(tasks).sort())).toEqual(taken.map((ids) => ids.sort()));
  });

  it("take what is scheduled when it is due, for another attempt", async () => {
    const [soon, later] = [headerOf({ attempt: 1 }), headerOf({ attempt: 1 })];
    const updates = [{ ...message, state: SCHEDULED }];
    await submitBatch(context.db, replica, [
      { header: soon, updates, wakeInMs: 0 },
      { header: later, updates, wakeInMs: HOUR_MS },
    ]);
    expect(await leases.waiting(10)).toBe(1);
    expect(idsOf(await leases.claim(replica, 10, nobody))).toEqual([soon.taskId]);
    const rows = await taskRows(context.db);
    expect(rows.get(soon.taskId)).toMatchObject({ state: ASSIGNED, attempt: 2, owner: replica });
    expect(rows.get(later.taskId)).toMatchObject({ state: SCHEDULED, attempt: 1, waits: "later" });
  });

  it("take what has waited too long for its client, as it is", async () => {
    const headers = [headerOf(), headerOf(), headerOf()];
    await submitBatch(
      context.db,
      replica,
      headers.map((header) => ({ header, updates: [{ ...message, state: ASSIGNED }] })),
    );
    const waits = [{ wakeInMs: 0 }, { wakeInMs: HOUR_MS }, {}];
    await appendBatch(
      context.db,
      replica,
      headers.map((header, i) => ({ ...asks(header), ...waits[i] })),
    );
    expect(idsOf(await leases.claim(replica, 10, nobody))).toEqual([headers[0]!.taskId]);
    const rows = await taskRows(context.db);
    const expected = { state: INPUT_REQUIRED, a2aState: TaskState.INPUT_REQUIRED, attempt: 1 };
    expect(headers.map(({ taskId }) => rows.get(taskId))).toMatchObject([
      { ...expected, owner: replica, fence: 2 },
      { ...expected, owner: undefined, waits: "later" },
      { ...expected, owner: undefined, waits: undefined },
    ]);
  });

  it("come at a task's deadline at the latest", async () => {
    const deadlineAt = new Date(Date.now() + 60_000);
    const waiting = headerOf({ deadlineAt });
    const asking = headerOf({ deadlineAt });
    await submitBatch(context.db, replica, [
      { header: waiting, updates: [{ ...message, state: SCHEDULED }], wakeInMs: HOUR_MS },
      { header: asking, updates: [{ ...message, state: ASSIGNED }] },
    ]);
    await appendBatch(context.db, replica, [asks(asking)]);
    expect(await raw(context.db, "select distinct wake_at from tasks")).toEqual([{ wake_at: deadlineAt }]);
    expect(await leases.claim(replica, 10, nobody)).toEqual([]);
  });

  it("by a replica that was declared dead take nothing", async () => {
    await queue("default", 3);
    await leases.release(replica);
    expect(await leases.claim(replica, 10, nobody)).toEqual([]);
    expect(await leases.waiting(10)).toBe(3);
  });
});
