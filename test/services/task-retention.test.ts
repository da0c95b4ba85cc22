/** Tasks that were kept long enough after their end are removed, and artifacts emptied: those that are due, and nothing else. */
import fc from "fast-check";
import { afterEach, beforeEach, expect, it } from "vitest";
import { isEmptied, RETENTION_EXTENSION } from "../../src/domain/artifact-retention.ts";
import { SignalboxError } from "../../src/domain/errors.ts";
import { EngineState } from "../../src/domain/task-state.ts";
import {
  type Retained,
  startTaskRetention,
  type TaskRetentionDeps,
  type TaskRetentionDuty,
} from "../../src/services/background/task-retention.ts";
import { type Runtime, systemRuntime } from "../../src/services/runtime.ts";
import { createUpdateHub, REMOVED } from "../../src/services/update-hub.ts";
import { createTaskRetention } from "../../src/store/task-retention.ts";
import {
  chunksOf,
  emptyAll,
  enterDuty,
  type Hook,
  logOf,
  type RetainedTask,
  TABLES,
  tasksIn,
  writeRetained,
} from "../fixtures/retained-tasks.ts";
import { auditEntries, expectWholeChains } from "../store/audit-lines.ts";
import { describeEachBackend } from "../store/backends.ts";
import { logLines } from "../store/log-lines.ts";
import { raw } from "../store/tables.ts";

const HOUR = 3_600_000;
const { COMPLETED, FAILED, CANCELED, REJECTED } = EngineState;
const ENDED: readonly EngineState[] = [COMPLETED, FAILED, CANCELED, REJECTED];
const AWAITED: readonly Hook[] = ["waiting", "claimed"];
const system = systemRuntime();
const now = Math.floor(Date.now() / 1000) * 1000;

/** Rests for a moment where it would for seconds. */
const quick: Runtime = {
  ...system,
  now: () => new Date(now),
  wait: (ms, signal) => system.wait(Math.min(ms, 1), signal),
};

describeEachBackend("retention", (ctx) => {
  const logged = logLines();
  const started: TaskRetentionDuty[] = [];
  let removed: Record<Retained, number>;

  beforeEach(async () => {
    await raw(ctx.db, "insert into workspaces (workspace_id) values ('other') on conflict do nothing");
    await emptyAll(ctx.db);
    await enterDuty(ctx.db);
    removed = { task: 0, artifact: 0 };
    logged.lines.length = 0;
  });
  afterEach(async () => {
    for (const duty of started.splice(0)) await duty.stop();
  });

  const start = (keep: TaskRetentionDeps["keep"], more: Partial<TaskRetentionDeps> = {}): TaskRetentionDuty => {
    const duty = startTaskRetention({
      retention: createTaskRetention(ctx.db, () => "r"),
      hub: createUpdateHub(),
      runtime: quick,
      log: logged.log,
      replicaId: () => "r",
      keep,
      onRemoved(what, count) {
        removed[what] += count;
      },
      ...more,
    });
    started.push(duty);
    return duty;
  };

  /** Resolves when all that is due has been looked at, and nothing runs. */
  async function sweep(keep: TaskRetentionDeps["keep"], more: Partial<TaskRetentionDeps> = {}): Promise<void> {
    const swept = Promise.withResolvers<void>();
    const retention = { ...createTaskRetention(ctx.db, () => "r"), ...more.retention };
    const giveTurn = retention.giveTurn;
    retention.giveTurn = async (replicaId) => {
      await giveTurn(replicaId);
      swept.resolve();
    };
    const duty = start(keep, { ...more, retention });
    await swept.promise;
    await duty.stop();
  }

  const write = (task?: RetainedTask) => writeRetained(ctx.db, now, task);
  const actions = async () =>
    (await auditEntries(ctx.db)).map(({ action, task, actor }) => `${action} ${task} ${actor}`).sort();

  it("takes what is due, with all that hangs on it, and nothing else, whatever the tasks", async () => {
    const task: fc.Arbitrary<Required<RetainedTask>> = fc.record({
      workspaceId: fc.constantFrom("default", "other"),
      state: fc.oneof(fc.constantFrom(...ENDED), fc.constantFrom(...Object.values(EngineState))),
      endedMsAgo: fc.oneof(
        fc.integer({ min: 0, max: 3 * HOUR }),
        fc.constantFrom(HOUR - 1, HOUR, 2 * HOUR, 2 * HOUR + 1),
      ),
      tookMs: fc.integer({ min: 0, max: 100 * HOUR }),
      hook: fc.constantFrom<Hook>("none", "none", "served", "waiting", "claimed", "given-up"),
      isRead: fc.constantFrom(true, true, true, false),
      artifacts: fc.array(fc.integer({ min: 1, max: 3 }), { maxLength: 2 }),
    });
    const keeps = fc.record({
      tasksMs: fc.constantFrom(0, HOUR, 2 * HOUR),
      artifactsMs: fc.constantFrom(0, HOUR, 2 * HOUR),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(task, { maxLength: 14, size: "max" }), keeps, async (tasks, keep) => {
        await emptyAll(ctx.db);
        await enterDuty(ctx.db);
        removed = { task: 0, artifact: 0 };
        const stored = await Promise.all(
          tasks.map(async (each) => {
            const taskId = await write(each);
            return { ...each, taskId, before: await logOf(ctx.db, taskId) };
          }),
        );
        const isFree = ({ state, hook, isRead }: RetainedTask) =>
          ENDED.includes(state!) && !AWAITED.includes(hook!) && isRead;
        const isDue = (each: Required<RetainedTask>, ms: number) => ms > 0 && each.endedMsAgo >= ms && isFree(each);
        const gone = stored.filter((each) => isDue(each, keep.tasksMs));
        const stay = stored.filter((each) => !gone.includes(each));
        const empties = keep.artifactsMs > 0 && !(keep.tasksMs > 0 && keep.tasksMs <= keep.artifactsMs);
        const emptied = empties ? stay.filter((each) => isDue(each, keep.artifactsMs)) : [];

        // Twice: the second time there is nothing to do.
        if (keep.tasksMs > 0 || keep.artifactsMs > 0) for (const _ of [1, 2]) await sweep(keep);

        const left = await tasksIn(ctx.db);
        const ids = stay.map(({ taskId }) => taskId).sort();
        for (const table of TABLES) {
          const has = table === "push_configs" ? (each: RetainedTask) => each.hook !== "none" : () => true;
          expect(left[table], table).toEqual(ids.filter((id) => has(stay.find(({ taskId }) => taskId === id)!)));
        }
        for (const each of stay) {
          const isEmpty = emptied.includes(each);
          const after = await logOf(ctx.db, each.taskId);
          expect(after.map(({ seq, kind }) => [seq, kind])).toEqual(each.before.map(({ seq, kind }) => [seq, kind]));
          expect(after.filter(({ kind }) => kind !== 3)).toEqual(each.before.filter(({ kind }) => kind !== 3));
          if (!isEmpty) expect(after).toEqual(each.before);
          for (const artifact of await chunksOf(ctx.db, each.taskId)) expect(isEmptied(artifact)).toBe(isEmpty);
        }
        const had = emptied.filter(({ artifacts }) => artifacts.length > 0);
        expect(await actions()).toEqual(
          [
            ...gone.map(({ taskId }) => `task.remove ${taskId} router:r`),
            ...had.map(({ taskId }) => `task.empty ${taskId} router:r`),
          ].sort(),
        );
        await expectWholeChains(ctx.db);
        expect(removed).toEqual({
          task: gone.length,
          artifact: had.reduce((count, { artifacts }) => count + artifacts.length, 0),
        });
        expect(logged.lines).toEqual([]);
      }),
      { numRuns: 12 },
    );
  }, 90_000);

  it("leaves an artifact its id, name and description, and says when its contents were removed", async () => {
    const taskId = await write({ endedMsAgo: 2 * HOUR, artifacts: [2] });
    await sweep({ tasksMs: 0, artifactsMs: HOUR });
    const [first, second] = await chunksOf(ctx.db, taskId);
    expect(second).toEqual(first);
    expect(first).toMatchObject({
      artifactId: "artifact-0",
      name: "name of artifact-0",
      description: "what it is",
      parts: [{ content: { case: "text", value: "" } }],
      extensions: [],
      metadata: { [RETENTION_EXTENSION]: { removedAt: new Date(now).toISOString() } },
    });
    expect((await logOf(ctx.db, taskId)).map(({ body }) => body.includes("secret"))).toEqual([
      false,
      false,
      false,
      false,
    ]);
    // Once: an hour later nothing is written.
    const later = { ...quick, now: () => new Date(now + HOUR) };
    await sweep({ tasksMs: 0, artifactsMs: HOUR }, { runtime: later });
    expect((await chunksOf(ctx.db, taskId))[0]).toEqual(first);
    expect(await actions()).toEqual([`task.empty ${taskId} router:r`]);
  });

  it("goes through pages of tasks that wait for their webhooks, and through logs of many artifacts", async () => {
    await Promise.all(
      Array.from({ length: 600 }, () => write({ endedMsAgo: 3 * HOUR, hook: "waiting", artifacts: [] })),
    );
    const ids = [
      await write({ endedMsAgo: 3 * HOUR, artifacts: [250, 401] }),
      await write({ endedMsAgo: 2 * HOUR, artifacts: [1] }),
      await write({ endedMsAgo: 2 * HOUR, artifacts: [] }),
    ];
    await sweep({ tasksMs: 0, artifactsMs: HOUR });
    for (const id of ids) expect((await chunksOf(ctx.db, id)).every(isEmptied)).toBe(true);
    expect(removed).toEqual({ task: 0, artifact: 3 });
    await sweep({ tasksMs: HOUR, artifactsMs: 0 });
    expect(removed.task).toBe(3);
    expect((await tasksIn(ctx.db)).tasks).toHaveLength(600);
  }, 60_000);

  it("tells who watches a task that it was removed", async () => {
    const taskId = await write({ endedMsAgo: 2 * HOUR });
    const hub = createUpdateHub();
    const hints: number[] = [];
    hub.subscribe("default", taskId, { onHint: (seq) => hints.push(seq) });
    await sweep({ tasksMs: HOUR, artifactsMs: 0 }, { hub });
    expect(hints).toEqual([REMOVED]);
  });

  it("does the same where nothing is recorded", async () => {
    const retention = createTaskRetention(ctx.db);
    const [gone, stays] = [await write({ endedMsAgo: 2 * HOUR }), await write({ state: EngineState.WORKING })];
    expect(await retention.markEmptied("default", [gone, stays], [gone])).toEqual([gone]);
    expect(await retention.markEmptied("default", [gone, stays], [gone])).toEqual([]);
    expect(await retention.remove("other", [gone, stays])).toEqual([]);
    expect(await retention.remove("default", [gone, stays])).toEqual([gone]);
    expect((await tasksIn(ctx.db)).idempotency_keys).toEqual([stays]);
    expect(await actions()).toEqual([]);
  });

  it("says for how long the oldest has been due", async () => {
    const keep = { tasksMs: 2 * HOUR, artifactsMs: HOUR };
    const waits = { runtime: { ...quick, wait: (_: number, signal: AbortSignal) => system.wait(HOUR, signal) } };
    const duty = start(keep, waits);
    expect(await duty.behind()).toEqual({ task: 0, artifact: 0 });
    await write({ endedMsAgo: HOUR / 2 });
    await write({ state: EngineState.INPUT_REQUIRED, endedMsAgo: 9 * HOUR });
    expect(await duty.behind()).toEqual({ task: 0, artifact: 0 });
    await write({ endedMsAgo: 3 * HOUR });
    expect(await duty.behind()).toEqual({ task: 3600, artifact: 7200 });
    await duty.stop();
    await sweep({ tasksMs: 0, artifactsMs: HOUR });
    expect(await duty.behind()).toEqual({ task: 3600, artifact: 0 });
    await sweep(keep);
    expect(await duty.behind()).toEqual({ task: 0, artifact: 0 });
    // Another time counts from the next start on, for old tasks too.
    await sweep({ tasksMs: HOUR / 2, artifactsMs: 0 });
    expect((await tasksIn(ctx.db)).tasks).toHaveLength(1);
  });

  it("goes on with the neighbours of a task that it cannot read", async () => {
    const ids = [];
    for (let i = 0; i < 5; i++) ids.push(await write({ endedMsAgo: 2 * HOUR }));
    await raw(ctx.db, "update task_updates set body = '\\xff' where task_id = $1 and seq = 2", [ids[2]]);
    await sweep({ tasksMs: 0, artifactsMs: HOUR });
    const rows = await raw(ctx.db, "select task_id from tasks where not is_emptied");
    expect(rows.map((row) => row.task_id)).toEqual([ids[2]]);
    expect(logged.lines).toMatchObject([{ taskId: ids[2] }]);
    await sweep({ tasksMs: HOUR, artifactsMs: 0 });
    expect((await tasksIn(ctx.db)).tasks).toEqual([]);
  });

  it("is done by one replica at a time, and by another when that one has gone", async () => {
    const retention = createTaskRetention(ctx.db);
    expect(await retention.takeTurn("a", HOUR)).toBe(true);
    expect(await retention.takeTurn("a", HOUR)).toBe(true);
    expect(await retention.takeTurn("b", HOUR)).toBe(false);
    await retention.giveTurn("b");
    expect(await retention.takeTurn("b", HOUR)).toBe(false);
    await retention.giveTurn("a");
    expect(await retention.takeTurn("b", 0)).toBe(true);
    expect(await retention.takeTurn("a", HOUR)).toBe(true);
    await retention.giveTurn("a");
  });

  it("does everything once where two do it at the same moment", async () => {
    for (let i = 0; i < 30; i++) await write({ endedMsAgo: 3 * HOUR, artifacts: [1, 2] });
    // Neither hears of the other's turn.
    const blind = { ...createTaskRetention(ctx.db, () => "r"), takeTurn: async () => true, giveTurn: async () => {} };
    const both = async (keep: TaskRetentionDeps["keep"]) => {
      await Promise.all([sweep(keep, { retention: blind }), sweep(keep, { retention: blind })]);
      expect(logged.lines).toEqual([]);
    };
    await both({ tasksMs: 0, artifactsMs: HOUR });
    expect(removed).toEqual({ task: 0, artifact: 60 });
    await both({ tasksMs: HOUR, artifactsMs: 0 });
    expect(removed).toEqual({ task: 30, artifact: 60 });
    expect((await tasksIn(ctx.db)).task_updates).toEqual([]);
    expect(await actions()).toHaveLength(60);
    await expectWholeChains(ctx.db);
  });

  it("stops within a step, and what was begun is gone on with", async () => {
    for (let i = 0; i < 20; i++) await write({ endedMsAgo: 3 * HOUR, artifacts: [30] });
    const real = createTaskRetention(ctx.db, () => "r");
    const rewritten = Promise.withResolvers<void>();
    const duty = start(
      { tasksMs: 0, artifactsMs: HOUR },
      {
        retention: {
          ...real,
          async rewrite(...rows) {
            await real.rewrite(...rows);
            rewritten.resolve();
          },
        },
      },
    );
    await rewritten.promise;
    await duty.stop();
    expect(removed).toEqual({ task: 0, artifact: 0 });
    await sweep({ tasksMs: 0, artifactsMs: HOUR });
    expect(removed).toEqual({ task: 0, artifact: 20 });
    expect(await actions()).toHaveLength(20);
  });

  it("bears that the database is away", async () => {
    await write({ endedMsAgo: 2 * HOUR });
    const real = createTaskRetention(ctx.db, () => "r");
    let failures = 3;
    const remove: typeof real.remove = async (...of) => {
      if (failures-- > 0)
        throw new SignalboxError({ code: "UNAVAILABLE", reason: "DATABASE_UNAVAILABLE", message: "" });
      return real.remove(...of);
    };
    const done = Promise.withResolvers<void>();
    const onRemoved = () => done.resolve();
    start({ tasksMs: HOUR, artifactsMs: 0 }, { retention: { ...real, remove }, onRemoved });
    await done.promise;
    expect((await tasksIn(ctx.db)).tasks).toEqual([]);
    expect(logged.lines).toEqual([]);
  });
});
