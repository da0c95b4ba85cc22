/** Watchers on one replica of what another one writes: every update once, in order, whatever is lost on the way. */
import { create } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, onTestFinished, test } from "vitest";
import { MessageSchema, Role } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { messageUpdate } from "../../src/domain/agent-report.ts";
import { EngineState } from "../../src/domain/task-state.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import { REMOVED } from "../../src/services/update-hub.ts";
import { watchTask } from "../../src/services/watch.ts";
import { migrate } from "../../src/store/migrate.ts";
import { openPostgres } from "../../src/store/postgres.ts";
import { startTcpProxy } from "../fault/tcp-proxy.ts";
import { type HintingReplica, type HintingReplicaOptions, startHintingReplica } from "../fixtures/hinting-replica.ts";
import { headerOf } from "../fixtures/task-header.ts";
import { administer, createDatabase, describeEachBackend, silent } from "../store/backends.ts";
import { raw } from "../store/tables.ts";

const numbers = (count: number) => Array.from({ length: count }, (_, i) => i + 1);

/** What a watcher on a replica sees, as numbers. */
const watched = async (replica: HintingReplica, taskId: string, count: number) =>
  (await replica.watch(taskId, count)).map(({ seq }) => seq);

describeEachBackend("a watcher on another replica", (context) => {
  test("sees each update once and in order, whatever hints are lost", async () => {
    let losses: boolean[] = [];
    const replicas = await Promise.all([
      startHintingReplica(context.db),
      // Where every hint is lost, the poll alone is left; on PGlite there are none.
      startHintingReplica(context.db, { pollMs: 100, loses: () => losses.shift() ?? false }),
    ]);
    onTestFinished(() => Promise.all(replicas.map((replica) => replica.stop())).then(() => {}));
    const [writer, reader] = replicas;
    const batch = fc.record({ count: fc.integer({ min: 1, max: 4 }), pause: fc.boolean() });
    await fc.assert(
      fc.asyncProperty(
        fc.array(batch, { minLength: 1, maxLength: 12 }),
        fc.array(fc.boolean(), { maxLength: 12 }),
        fc.integer({ min: 1, max: 3 }),
        async (batches, lost, watchers) => {
          losses = lost;
          const log = await writer.begin();
          const total = batches.reduce((sum, { count }) => sum + count, 1);
          const seen = numbers(watchers).map(() => watched(reader, log.taskId, total));
          for (const { count, pause } of batches) {
            await log.append(count);
            // Time for a hint to come, or to be lost alone.
            if (pause) await context.db.ping();
          }
          for (const watching of seen) expect(await watching).toEqual(numbers(total));
        },
      ),
      { numRuns: 25 },
    );
  });

  test("is told by the poll alone of what no hint tells", async () => {
    const writer = await startHintingReplica(context.db);
    const reader = await startHintingReplica(context.db, { pollMs: 100, loses: () => true });
    onTestFinished(() => Promise.all([writer.stop(), reader.stop()]).then(() => {}));
    const logs = await Promise.all(numbers(20).map(() => writer.begin()));
    const seen = logs.map(({ taskId }) => watched(reader, taskId, 4));
    await Promise.all(logs.map((log) => log.append(3)));
    for (const watching of seen) expect(await watching).toEqual([1, 2, 3, 4]);
  });

  test("is told that its task was removed, by the poll where no hint comes", async () => {
    const writer = await startHintingReplica(context.db);
    const reader = await startHintingReplica(context.db, { pollMs: 100, loses: () => true });
    onTestFinished(() => Promise.all([writer.stop(), reader.stop()]).then(() => {}));
    const log = await writer.begin();
    const seen = watched(reader, log.taskId, 9);
    const missing = expect(seen).rejects.toMatchObject({ reason: "TASK_NOT_FOUND" });
    await raw(context.db, "delete from tasks where task_id = $1", [log.taskId]);
    await raw(context.db, "delete from task_updates where task_id = $1", [log.taskId]);
    await missing;
  });

  test("waits for a task that is yet to be stored, and is told when that was removed", async () => {
    const { store, hub, stop } = await startHintingReplica(context.db, { pollMs: 50, loses: () => true });
    onTestFinished(stop);
    const header = headerOf();
    const key = { workspaceId: header.workspaceId, taskId: header.taskId };
    const signal = new AbortController().signal;
    const watch = watchTask({ store, hub, runtime: systemRuntime() }, { ...key, after: 1, fresh: true, signal });
    const polled = async () => {
      const { promise, resolve } = Promise.withResolvers<void>();
      const leave = hub.subscribe(key.workspaceId, key.taskId, { onHint: (seq) => seq === REMOVED && resolve() });
      await promise.finally(leave);
    };
    const next = watch.next();
    // Two looks of the poll find no such task; the watch goes on.
    await polled();
    await polled();
    const first = messageUpdate(create(MessageSchema, { messageId: "m", role: Role.USER }));
    await store.submit({ header, updates: [{ ...first, state: EngineState.QUEUED }] });
    watch.taskIsStored();
    await raw(context.db, "delete from tasks where task_id = $1", [key.taskId]);
    await raw(context.db, "delete from task_updates where task_id = $1", [key.taskId]);
    await expect(next).rejects.toMatchObject({ reason: "TASK_NOT_FOUND" });
  });
});

describe("a watcher whose replica loses the database", () => {
  /** Two replicas on a database; the second behind a wire that can be cut. Nothing is found by the poll's rhythm. */
  async function startTwo(options: HintingReplicaOptions = {}) {
    const { url, drop } = await createDatabase();
    onTestFinished(drop);
    const target = new URL(url);
    const proxy = await startTcpProxy(Number(target.port));
    onTestFinished(() => proxy.close());
    target.port = String(proxy.port);
    const [near, far] = [url, target.href].map((at) => openPostgres({ url: at, poolSize: 3, log: silent }));
    await migrate(near!, silent);
    const start = async (db: typeof near) => {
      const replica = await startHintingReplica(db!, options);
      onTestFinished(() => replica.stop().then(() => db!.close()));
      expect(await replica.heard.next()).toBe("connected");
      return replica;
    };
    const writer = await start(near);
    const reader = await start(far);
    await reader.hears(({ all }) => all === true);
    return { url, proxy, writer, reader };
  }

  test("misses nothing when its session is terminated again and again", async () => {
    const { url, writer, reader } = await startTwo();
    const log = await writer.begin();
    const seen = watched(reader, log.taskId, 121);
    for (let n = 1; n <= 120; n++) {
      await log.append();
      if (n % 10 !== 0) continue;
      await administer(
        url,
        `select pg_terminate_backend(pid) from pg_stat_activity
         where datname = current_database() and application_name = 'signalbox-listener'`,
      );
    }
    expect(await seen).toEqual(numbers(121));
  });

  test("gets what was written while the wire was cut as soon as it is mended", async () => {
    const { proxy, writer, reader } = await startTwo();
    const log = await writer.begin();
    const seen = [1, 2, 3].map(() => watched(reader, log.taskId, 7));
    await log.append(2);
    await reader.hears(({ tasks }) => tasks.length > 0);
    proxy.sever();
    while ((await reader.heard.next()) !== "lost");
    await log.append(4);
    proxy.mend();
    for (const watching of seen) expect(await watching).toEqual(numbers(7));
  });

  test("asks the database when there is something to read, and not for each hint", async () => {
    const { writer, reader } = await startTwo();
    const log = await writer.begin();
    let reads = 0;
    const { readUpdates } = reader.store;
    reader.store.readUpdates = (...key) => {
      reads += 1;
      return readUpdates(...key);
    };
    const seen = watched(reader, log.taskId, 3);
    await log.append();
    await reader.hears(({ tasks }) => tasks.length > 0);
    for (let n = 0; n < 100; n++) reader.hub.hint("default", log.taskId, n % 3);
    await log.append();
    expect(await seen).toEqual([1, 2, 3]);
    expect(reads).toBeLessThanOrEqual(3);
  });
});
