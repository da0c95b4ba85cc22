import { once } from "node:events";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { statusUpdate } from "../../src/domain/agent-report.ts";
import { type Duty, type Outbox, startOutbox } from "../../src/services/background/outbox.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import { createUpdateHub } from "../../src/services/update-hub.ts";
import { createLeaseRepository } from "../../src/store/lease-repository.ts";
import { createOutboxRepository, type OutboxRepository, type OutboxRow } from "../../src/store/outbox-repository.ts";
import { createTaskStore, type TaskStore } from "../../src/store/task-store.ts";
import { createInbox } from "../fault/inbox.ts";
import { writeRow, writeTask } from "../fixtures/log-rows.ts";
import { registerReplica } from "../fixtures/replica.ts";
import { headerOf } from "../fixtures/task-header.ts";
import { describeEachBackend } from "../store/backends.ts";
import { logLines } from "../store/log-lines.ts";

const system = systemRuntime();

describeEachBackend("duties of the outbox", (context) => {
  let repository: OutboxRepository;
  let store: TaskStore;
  let replica: string;
  const started: Outbox[] = [];
  const hub = createUpdateHub();
  const logged = logLines();

  beforeEach(async () => {
    repository = createOutboxRepository(context.db);
    replica = await registerReplica(context.db);
    store = createTaskStore(context.db, { maxWaiting: 1000, replicaId: () => replica });
  });
  afterEach(async () => {
    for (const outbox of started.splice(0)) await outbox.stop();
    await store.close();
  });

  interface Changes {
    replicaId?: () => string;
    repository?: OutboxRepository;
    batch?: { rows: number; bytes: number };
  }

  async function start(duties: Duty[], changes: Changes = {}): Promise<Outbox> {
    const deps = { repository, hub, runtime: system, log: logged.log, replicaId: () => replica, ...changes };
    const outbox = await startOutbox({ ...deps, duties });
    started.push(outbox);
    return outbox;
  }

  /** A duty of every row, and what it got. */
  function collector(handle: (signal: AbortSignal) => unknown = () => {}) {
    const rows = createInbox<string>();
    const duty: Duty = {
      name: system.newId(),
      topic: "all",
      async handle(batch, signal) {
        await handle(signal);
        for (const name of names(batch)) rows.put(name);
      },
    };
    return { duty, next: rows.next, waiting: () => rows.waiting };
  }

  /** Commits a row as this replica does it. */
  async function commit(taskId: string, seq: number): Promise<void> {
    await writeRow(context.db.kysely, taskId, seq);
    announce(taskId);
  }

  const announce = (taskId: string) =>
    hub.publish({ workspaceId: "default", taskId, agentId: "agent", updates: [], hasPush: false });

  const names = (rows: readonly OutboxRow[]) => rows.map((row) => `${row.taskId} ${row.seq}`);
  const kill = (id: string) => createLeaseRepository(context.db).release(id);

  it("get every row of many writers, those of a task in order", async () => {
    const { duty, next } = collector();
    await start([duty], { batch: { rows: 7, bytes: 500 } });
    await fc.assert(
      fc.asyncProperty(fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 1, maxLength: 30 }), async (lengths) => {
        const tasks = await Promise.all(lengths.map(() => writeTask(context.db.kysely, replica)));
        await Promise.all(
          tasks.map(async (taskId, i) => {
            const header = headerOf({ taskId });
            for (let seq = 1; seq <= lengths[i]!; seq++) {
              const status = { state: TaskState.WORKING, timestamp: timestampFromDate(new Date()) };
              const updates = [statusUpdate(header, status, "a test")];
              const append = { workspaceId: "default", taskId, expectedSeq: seq, fence: 1, updates, at: new Date() };
              expect(await store.append(append)).toBeDefined();
            }
            announce(taskId);
          }),
        );
        const expected = new Map(tasks.map((taskId, i) => [taskId, lengths[i]! + 1]));
        const got = new Map<string, number>();
        for (let left = [...expected.values()].reduce((sum, n) => sum + n, 0); left > 0; left--) {
          const [taskId, seq] = (await next()).split(" ") as [string, string];
          expect(Number(seq)).toBe((got.get(taskId) ?? 0) + 1);
          got.set(taskId, Number(seq));
        }
        expect(got).toEqual(expected);
      }),
      { numRuns: 8 },
    );
  });

  it("hear of commits at once, here and elsewhere", async () => {
    const { duty, next } = collector();
    const looked = createInbox<void>();
    const watched: OutboxRepository = {
      ...repository,
      read: (...what) => repository.read(...what).finally(looked.put),
    };
    // Nothing is found by looking around: no second ever passes.
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    try {
      await start([duty], { repository: watched });
      await looked.next();
      const taskId = system.newId();
      await commit(taskId, 1);
      expect(await next()).toBe(`${taskId} 1`);
      await looked.next();
      await writeRow(context.db.kysely, taskId, 2);
      hub.hint("default", taskId, 2);
      expect(await next()).toBe(`${taskId} 2`);
    } finally {
      vi.useRealTimers();
    }
  });

  it("are tried again with what they failed at, and hold up no other", async () => {
    let failures = 3;
    const failing = collector(() => {
      if (failures-- > 0) throw new Error("not now");
    });
    const healthy = collector();
    const stuck = collector((signal) => once(signal, "abort"));
    const outbox = await start([stuck.duty, failing.duty, healthy.duty]);
    const taskId = system.newId();
    for (const seq of [1, 2, 3]) await commit(taskId, seq);
    for (const { next } of [healthy, failing]) {
      for (const seq of [1, 2, 3]) expect(await next()).toBe(`${taskId} ${seq}`);
    }
    const lag = await outbox.lag();
    expect(lag.find(({ duty }) => duty === stuck.duty.name)?.rows).toBe(3);
    expect(logged.lines.filter(({ duty }) => duty === failing.duty.name)).toMatchObject([
      { failures: 1 },
      { failures: 2 },
      { failures: 3 },
    ]);
  });

  it("go on elsewhere when their replica dies, and what it does afterwards moves nothing", async () => {
    const slow = Promise.withResolvers<void>();
    const begun = Promise.withResolvers<void>();
    const first = collector(() => {
      begun.resolve();
      return slow.promise;
    });
    const second = { ...collector(), advanced: createInbox<boolean>() };
    const watched: OutboxRepository = {
      ...repository,
      async advance(...values) {
        const advanced = await repository.advance(...values);
        second.advanced.put(advanced);
        return advanced;
      },
    };
    await start([first.duty], { repository: watched });
    const taskId = system.newId();
    await commit(taskId, 1);
    await begun.promise;

    const heir = await registerReplica(context.db);
    const duty = { ...second.duty, name: first.duty.name };
    await start([duty], { replicaId: () => heir });
    await commit(taskId, 2);
    expect(second.waiting()).toBe(0);
    await kill(replica);
    expect([await second.next(), await second.next()]).toEqual([`${taskId} 1`, `${taskId} 2`]);
    await lagOf(duty.name, 0);

    slow.resolve();
    expect(await first.next()).toBe(`${taskId} 1`);
    expect(await second.advanced.next()).toBe(false);
    await commit(taskId, 3);
    expect(await second.next()).toBe(`${taskId} 3`);
    expect(first.waiting()).toBe(0);
  });

  async function lagOf(duty: string, rows: number): Promise<void> {
    while ((await repository.lag([duty]))[0]?.rows !== rows);
  }

  it("go on elsewhere at once when their server stops", async () => {
    const { duty, next } = collector();
    const outbox = await start([duty]);
    const [heir, taskId] = [await registerReplica(context.db), system.newId()];
    await commit(taskId, 1);
    await next();
    await outbox.stop();
    const { position } = (await repository.take(duty.name, heir))!;
    expect((await repository.read("all", position, { rows: 9, bytes: 9 })).rows).toEqual([]);
  });

  it("stay with a replica that joins again under another id", async () => {
    const { duty, next } = collector();
    let id = replica;
    await start([duty], { replicaId: () => id });
    const taskId = system.newId();
    await commit(taskId, 1);
    await next();
    await kill(id);
    id = await registerReplica(context.db);
    await commit(taskId, 2);
    expect(await next()).toBe(`${taskId} 2`);
  });

  it("write down rows that they do not want, too", async () => {
    const duty: Duty = { name: system.newId(), topic: "webhooks", handle: () => Promise.reject(new Error("none")) };
    await start([duty]);
    await commit(system.newId(), 1);
    await lagOf(duty.name, 0);
  });
});
