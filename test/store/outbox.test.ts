import { create } from "@bufbuild/protobuf";
import fc from "fast-check";
import { sql } from "kysely";
import { beforeAll, beforeEach, expect, it } from "vitest";
import { TaskPushNotificationConfigSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import { createLeaseRepository } from "../../src/store/lease-repository.ts";
import { mendTransactionNumbers } from "../../src/store/outbox-mend.ts";
import {
  createOutboxRepository,
  type OutboxPage,
  type OutboxRepository,
  type OutboxTopic,
} from "../../src/store/outbox-repository.ts";
import { createPushConfigRepository } from "../../src/store/push-config-repository.ts";
import { whenReadable, writeRow, writeTask } from "../fixtures/log-rows.ts";
import { registerReplica } from "../fixtures/replica.ts";
import { describeEachBackend } from "./backends.ts";
import { logLines } from "./log-lines.ts";

const { newId } = systemRuntime();
const PLENTY = { rows: 1000, bytes: 1_000_000 };

const names = ({ rows }: Pick<OutboxPage, "rows">) => rows.map((row) => `${row.taskId} ${row.seq}`);

describeEachBackend("the outbox", (context) => {
  let outbox: OutboxRepository;
  let replica: string;
  let duty: string;

  beforeAll(() => {
    outbox = createOutboxRepository(context.db);
  });
  beforeEach(async () => {
    duty = newId();
    replica = await registerReplica(context.db);
    await readable();
    await outbox.enter(duty);
  });

  const readable = () => whenReadable(context.db);

  const lease = async (name = duty, as = replica) => (await outbox.take(name, as))!;

  /** Reads from the duty's cursor until there is nothing more, and moves the cursor on. */
  async function readAll(topic: OutboxTopic = "all", limits = PLENTY): Promise<string[]> {
    await readable();
    const { fence, position } = await lease();
    const read: string[] = [];
    for (let after = position; ; ) {
      const page = await outbox.read(topic, after, limits);
      read.push(...names(page));
      if (page.rows.length === 0 && page.position === after) return read;
      after = page.position;
      expect(await outbox.advance(duty, fence, after)).toBe(true);
    }
  }

  it("gives every row once, in the order of transactions, in pages of any size", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.array(fc.nat(3), { maxLength: 12 }), { maxLength: 6 }),
        fc.integer({ min: 1, max: 9 }),
        async (transactions, rows) => {
          duty = newId();
          await readable();
          await outbox.enter(duty);
          const tasks = [newId(), newId(), newId(), newId()].sort();
          const last = new Map<string, number>();
          const expected: string[] = [];
          for (const writes of transactions) {
            const added: [string, number][] = [];
            await context.db.kysely.transaction().execute(async (tx) => {
              for (const n of writes) {
                const task = tasks[n]!;
                const seq = (last.get(task) ?? 0) + 1;
                last.set(task, seq);
                added.push([task, seq]);
                await writeRow(tx, task, seq);
              }
            });
            added.sort(([a, m], [b, n]) => (a < b ? -1 : a > b ? 1 : m - n));
            expected.push(...added.map(([task, seq]) => `${task} ${seq}`));
          }
          expect(await readAll("all", { rows, bytes: 1000 })).toEqual(expected);
          expect(await readAll()).toEqual([]);
        },
      ),
      { numRuns: 20 },
    );
  });

  it("begins a new duty at the present end, and finds it there again", async () => {
    const task = newId();
    await writeRow(context.db.kysely, task, 1);
    const later = newId();
    await readable();
    await outbox.enter(later);
    await writeRow(context.db.kysely, task, 2);
    await outbox.enter(later);
    const { position } = await lease(later);
    await readable();
    expect(names(await outbox.read("all", position, PLENTY))).toEqual([`${task} 2`]);
    await outbox.leave(later);
    expect(await outbox.advance(later, 1, position)).toBe(false);
    expect(await outbox.take(later, replica)).toBeUndefined();
    await outbox.enter(later);
    expect(names(await outbox.read("all", (await lease(later)).position, PLENTY))).toEqual([]);
  });

  it("bounds a page by the bytes of its bodies, but never to nothing", async () => {
    const task = newId();
    for (const [i, bytes] of [5000, 40, 40, 40, 40].entries()) {
      await writeRow(context.db.kysely, task, i + 1, { body: "x".repeat(bytes) });
    }
    await readable();
    let { position } = await lease();
    const pages: string[][] = [];
    for (let more = true; more; ) {
      const page = await outbox.read("all", position, { rows: 10, bytes: 100 });
      expect(page.rows.map(({ body }) => body.length)).toEqual(page.rows.map(({ seq }) => (seq === 1 ? 5000 : 40)));
      pages.push(names(page).map((name) => name.split(" ")[1]!));
      ({ position, more } = page);
    }
    expect(pages).toEqual([["1"], ["2", "3", "4"], ["5"]]);
  });

  it("passes over what a topic does not have", async () => {
    const [pushing, silentTask] = [await writeTask(context.db.kysely), await writeTask(context.db.kysely)];
    const config = create(TaskPushNotificationConfigSchema, { taskId: pushing, id: "hook", url: "http://x/" });
    const configs = createPushConfigRepository(context.db);
    await configs.put("default", config, { now: new Date(), most: 1, from: "now" });
    for (const [i, kind] of [1, 2, 3, 4, 5, 6].entries()) {
      for (const task of [silentTask, pushing]) await writeRow(context.db.kysely, task, i + 2, { kind });
    }
    expect(await readAll("webhooks")).toEqual([`${pushing} 3`, `${pushing} 4`]);
    const { position } = await lease();
    expect(await outbox.read("webhooks", position, PLENTY)).toEqual({ rows: [], position, more: false, held: false });
    const page = await outbox.read("webhooks", { ...position, xid: "0" }, PLENTY);
    expect(new Set(page.rows.map(({ body }) => body.length))).toEqual(new Set([0]));
  });

  it("lets one living replica have a cursor, and refuses what a former one says", async () => {
    const other = await registerReplica(context.db);
    const first = await lease();
    expect(await outbox.take(duty, other)).toBeUndefined();
    await writeRow(context.db.kysely, newId(), 1);
    await readable();
    const { position } = await outbox.read("all", first.position, PLENTY);

    await createLeaseRepository(context.db).release(replica);
    const second = await lease(duty, other);
    expect(second).toEqual({ fence: first.fence + 1, position: first.position });
    expect(await outbox.advance(duty, first.fence, position)).toBe(false);
    await outbox.release(duty, first.fence);
    expect(await outbox.take(duty, replica)).toBeUndefined();
    expect(await outbox.advance(duty, second.fence, position)).toBe(true);
    expect(await outbox.take(duty, other)).toEqual({ fence: second.fence + 1, position });

    // Given back, it is anybody's who lives.
    await outbox.release(duty, second.fence + 1);
    const third = await registerReplica(context.db);
    expect(await outbox.take(duty, replica)).toBeUndefined();
    expect(await outbox.take(duty, third)).toEqual({ fence: second.fence + 2, position });
  });

  it("gives a free cursor to exactly one of many that want it", async () => {
    const replicas = await Promise.all(Array.from({ length: 12 }, () => registerReplica(context.db)));
    const taken = await Promise.all(replicas.map((id) => outbox.take(duty, id)));
    expect(taken.filter((one) => one !== undefined)).toHaveLength(1);
  });

  it("tells how far a duty is behind", async () => {
    const task = newId();
    for (let seq = 1; seq <= 3; seq++) await writeRow(context.db.kysely, task, seq);
    const [lag] = await outbox.lag([duty]);
    expect(lag).toEqual({ duty, rows: 3, seconds: expect.any(Number) });
    expect(lag?.seconds).toBeLessThan(30);
    await readAll();
    expect(await outbox.lag([duty])).toEqual([{ duty, rows: 0, seconds: 0 }]);
  });

  it("goes on where it was after a restore into a cluster that is younger", async () => {
    const { kysely } = context.db;
    await kysely.deleteFrom("outbox_cursors").where("name", "!=", duty).execute();
    const ahead = newId();
    await outbox.enter(ahead);
    const [a, b] = [newId(), newId()].sort() as [string, string];
    for (const [task, seq] of [
      [b, 1],
      [a, 1],
      [b, 2],
      [a, 2],
    ] as const)
      await writeRow(kysely, task, seq);
    await readable();
    for (const [name, rows] of [
      [duty, 2],
      [ahead, 4],
    ] as const) {
      const { fence, position } = await lease(name);
      await outbox.advance(name, fence, (await outbox.read("all", position, { ...PLENTY, rows })).position);
    }
    // As if the dump were of a cluster with many more transactions behind it.
    for (const table of ["task_updates", "outbox_cursors"]) {
      await sql`update ${sql.table(table)} set xid = (xid::text::numeric + 1000000)::text::xid8`.execute(kysely);
    }
    const lost = await writeRow(kysely, newId(), 1).then(async () =>
      outbox.read("all", (await lease()).position, PLENTY),
    );
    expect(names(lost)).toEqual([]);

    const { log, lines } = logLines();
    await mendTransactionNumbers(context.db, log);
    expect(lines).toMatchObject([{ rows: expect.any(Number), cursors: 2 }]);
    await writeRow(kysely, a, 3);
    await readable();
    // In another order where one transaction's number stands for many now, but in order for each task.
    expect(await readAll()).toEqual([`${a} 2`, `${b} 2`, `${a} 3`]);
    expect(names(await outbox.read("all", (await lease(ahead)).position, PLENTY)).at(-1)).toBe(`${a} 3`);
    await mendTransactionNumbers(context.db, log);
    expect(lines).toHaveLength(1);
  });
});
