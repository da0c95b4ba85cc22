import { create } from "@bufbuild/protobuf";
import fc from "fast-check";
import { type ControlledTransaction, type Kysely, sql } from "kysely";
import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import { TaskPushNotificationConfigSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import type { Database, Statement } from "../../src/store/database.ts";
import { createLeaseRepository } from "../../src/store/lease-repository.ts";
import { mendTransactionNumbers } from "../../src/store/outbox-mend.ts";
import {
  createOutboxRepository,
  type OutboxPage,
  type OutboxRepository,
  type OutboxTopic,
} from "../../src/store/outbox-repository.ts";
import { createPushConfigRepository } from "../../src/store/push-config-repository.ts";
import type { Schema } from "../../src/store/schema.ts";
import { registerReplica } from "../fixtures/replica.ts";
import { describeEachBackend } from "./backends.ts";
import { logLines } from "./log-lines.ts";

const { newId } = systemRuntime();
const PLENTY = { rows: 1000, bytes: 1_000_000 };

/** Adds a row to a log, whatever the task: the outbox looks at nothing else. */
async function write(kysely: Kysely<Schema>, taskId: string, seq: number, { kind = 2, body = "" } = {}): Promise<void> {
  await kysely
    .insertInto("task_updates")
    .values({ workspace_id: "default", task_id: taskId, seq, kind, body: Buffer.from(body), created_at: new Date() })
    .execute();
}

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
    await outbox.enter(duty);
  });

  const lease = async (name = duty, as = replica) => (await outbox.take(name, as))!;

  /** Reads from the duty's cursor until there is nothing more, and moves the cursor on. */
  async function readAll(topic: OutboxTopic = "all", limits = PLENTY): Promise<string[]> {
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
                await write(tx, task, seq);
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
    await write(context.db.kysely, task, 1);
    const later = newId();
    await outbox.enter(later);
    await write(context.db.kysely, task, 2);
    await outbox.enter(later);
    const { position } = await lease(later);
    expect(names(await outbox.read("all", position, PLENTY))).toEqual([`${task} 2`]);
  });

  it("bounds a page by the bytes of its bodies, but never to nothing", async () => {
    const task = newId();
    for (const [i, bytes] of [5000, 40, 40, 40, 40].entries()) {
      await write(context.db.kysely, task, i + 1, { body: "x".repeat(bytes) });
    }
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
    const [pushing, silentTask] = [await storedTask(), await storedTask()];
    const config = create(TaskPushNotificationConfigSchema, { taskId: pushing, id: "hook", url: "http://x/" });
    const configs = createPushConfigRepository(context.db);
    await configs.put("default", config, { now: new Date(), most: 1, from: "now" });
    for (const [i, kind] of [1, 2, 3, 4, 5, 6].entries()) {
      for (const task of [silentTask, pushing]) await write(context.db.kysely, task, i + 2, { kind });
    }
    expect(await readAll("webhooks")).toEqual([`${pushing} 3`, `${pushing} 4`]);
    const { position } = await lease();
    expect(await outbox.read("webhooks", position, PLENTY)).toEqual({ rows: [], position, more: false, held: false });
    const page = await outbox.read("webhooks", { ...position, xid: "0" }, PLENTY);
    expect(new Set(page.rows.map(({ body }) => body.length))).toEqual(new Set([0]));
  });

  async function storedTask(): Promise<string> {
    const taskId = newId();
    await context.db.kysely
      .insertInto("tasks")
      .values({
        workspace_id: "default",
        task_id: taskId,
        context_id: "c",
        agent_id: "a",
        state: 2,
        a2a_state: 2,
        status: Buffer.alloc(0),
        status_at: new Date(),
        last_seq: 1,
        disclosed: true,
        has_push: false,
        created_at: new Date(),
        lease_owner: "nobody",
      })
      .execute();
    await write(context.db.kysely, taskId, 1, { kind: 1 });
    return taskId;
  }

  it("lets one living replica have a cursor, and refuses what a former one says", async () => {
    const other = await registerReplica(context.db);
    const first = await lease();
    expect(await outbox.take(duty, other)).toBeUndefined();
    await write(context.db.kysely, newId(), 1);
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
    for (let seq = 1; seq <= 3; seq++) await write(context.db.kysely, task, seq);
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
      await write(kysely, task, seq);
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
    const lost = await write(kysely, newId(), 1).then(async () => outbox.read("all", (await lease()).position, PLENTY));
    expect(names(lost)).toEqual([]);

    const { log, lines } = logLines();
    await mendTransactionNumbers(context.db, log);
    expect(lines).toMatchObject([{ rows: expect.any(Number), cursors: 2 }]);
    await write(kysely, a, 3);
    // In another order where one transaction's number stands for many now, but in order for each task.
    expect(await readAll()).toEqual([`${a} 2`, `${b} 2`, `${a} 3`]);
    expect(names(await outbox.read("all", (await lease(ahead)).position, PLENTY)).at(-1)).toBe(`${a} 3`);
    await mendTransactionNumbers(context.db, log);
    expect(lines).toHaveLength(1);
  });

  // PGlite has one session: its transactions come one after another.
  describe.runIf(context.backend === "postgres")("beside other transactions", () => {
    const begin = () => context.db.kysely.startTransaction().execute();
    const read = async () => outbox.read("all", (await lease()).position, PLENTY);

    it("reads nothing that a transaction which still runs may come before", async () => {
      const [early, late] = [newId(), newId()];
      const slow = await begin();
      await write(slow, early, 1);
      await write(context.db.kysely, late, 1);
      expect(await read()).toMatchObject({ rows: [], held: true });
      await slow.commit().execute();
      expect(names(await read())).toEqual([`${early} 1`, `${late} 1`]);

      const vain = await begin();
      await write(vain, early, 2);
      await write(context.db.kysely, late, 2);
      await vain.rollback().execute();
      expect(names(await read())).toEqual([`${early} 1`, `${late} 1`, `${late} 2`]);
    });

    it("misses and repeats nothing, however transactions overlap and wherever readers stop", async () => {
      const action = fc.oneof(
        { weight: 4, arbitrary: fc.record({ what: fc.constant("write" as const), at: fc.nat(3) }) },
        { weight: 2, arbitrary: fc.record({ what: fc.constantFrom("commit", "rollback"), at: fc.nat(3) }) },
        {
          weight: 3,
          arbitrary: fc.record({ what: fc.constantFrom("read", "read and die"), at: fc.integer({ min: 1, max: 5 }) }),
        },
      );
      await fc.assert(
        fc.asyncProperty(fc.array(action, { maxLength: 40 }), async (actions) => {
          duty = newId();
          await outbox.enter(duty);
          const open: (ControlledTransaction<Schema> | undefined)[] = [];
          const written: string[][] = [[], [], [], []];
          /** The model: what is committed, and how often the duty got it. */
          const committed = new Set<string>();
          const got: string[] = [];
          let passed = 0;
          let { fence, position } = await lease();
          const take = async (rows: number, dies: boolean) => {
            const page = await outbox.read("all", position, { rows, bytes: 1000 });
            got.splice(passed, got.length, ...names(page));
            // One that dies between its work and the cursor leaves both to the next, who takes the cursor anew.
            if (dies) {
              ({ fence, position } = await lease());
              return;
            }
            expect(await outbox.advance(duty, fence, page.position)).toBe(true);
            passed = got.length;
            position = page.position;
          };
          const end = async (at: number, how: "commit" | "rollback") => {
            await open[at]?.[how]().execute();
            open[at] = undefined;
            if (how === "commit") for (const name of written[at]!) committed.add(name);
            written[at] = [];
          };
          for (const { what, at } of actions) {
            if (what === "write") {
              open[at] ??= await begin();
              const task = newId();
              await write(open[at], task, 1);
              written[at]!.push(`${task} 1`);
            } else if (what === "commit" || what === "rollback") await end(at, what);
            else await take(at, what === "read and die");
            expect(got.filter((name) => !committed.has(name))).toEqual([]);
          }
          for (const at of open.keys()) await end(at, "commit");
          while (got.length < committed.size) await take(7, false);
          expect(new Set(got)).toEqual(committed);
          expect(got).toHaveLength(committed.size);
        }),
        { numRuns: 25, endOnFailure: true },
      );
    });

    it("keeps the order of a task whose row another statement finds changed", async () => {
      // A rescue that has begun, and got its number, before the former owner's last append: it stops at another task.
      const [first, second] = [await storedTask(), await storedTask()].sort() as [string, string];
      const { kysely } = context.db;
      const dead = await registerReplica(context.db);
      await kysely.updateTable("tasks").set({ lease_owner: dead }).where("task_id", "in", [first, second]).execute();
      await createLeaseRepository(context.db).release(dead);
      await sql`
        create function stop_here() returns trigger language plpgsql as $$
        begin perform pg_advisory_xact_lock_shared(4711); return new; end $$`.execute(kysely);
      await sql`create trigger a_stop before update on tasks for each row when (new.fence > old.fence) execute function stop_here()`.execute(
        kysely,
      );
      const gate = await begin();
      await sql`select pg_advisory_xact_lock(4711)`.execute(gate);
      const rescuing = createLeaseRepository(context.db).rescue(replica, 2);
      await waiting(1);
      // Both tasks get a row; the one that the rescue has locked already gets it afterwards.
      const append = (taskId: string) =>
        sql`
          with changed as (
            update tasks set last_seq = 2 where task_id = ${taskId} and last_seq = 1 and fence = 1 returning task_id
          )
          insert into task_updates (workspace_id, task_id, seq, kind, body, created_at)
          select 'default', task_id, 2, 2, '', now() from changed`.execute(kysely);
      const appends = [first, second].map(append);
      await Promise.race(appends);
      await gate.commit().execute();
      await Promise.all([rescuing, ...appends]);
      await createLeaseRepository(context.db).rescue(replica, 2);
      await sql`drop trigger a_stop on tasks`.execute(kysely);
      const read = await readAll();
      for (const task of [first, second]) {
        const seqs = read.filter((name) => name.startsWith(task)).map((name) => Number(name.split(" ")[1]));
        expect(seqs).toEqual([...seqs].sort((m, n) => m - n));
        expect(seqs.length).toBeGreaterThan(1);
      }
    });

    /** Resolves when so many sessions wait for an advisory lock. */
    async function waiting(count: number): Promise<void> {
      for (let seen = 0; seen < count; ) {
        const { rows } = await sql<{ n: number }>`
          select count(*) as n from pg_locks l join pg_database d on d.oid = l.database
          where locktype = 'advisory' and not granted and d.datname = current_database()`.execute(context.db.kysely);
        seen = rows[0]!.n;
      }
    }

    it("reads a grown, analysed log by its index, with a long backlog or none", async () => {
      const { kysely } = context.db;
      await sql`
        insert into task_updates (workspace_id, task_id, seq, kind, body, created_at, xid)
        select 'default', 'grown-' || n / 10, n % 10 + 1, 2, 'x', now(), (n / 100)::text::xid8
        from generate_series(10000, 209999) n`.execute(kysely);
      await sql`analyze task_updates`.execute(kysely);
      for (const topic of ["all", "webhooks"] as const) {
        for (const xid of ["100", "1000", "2099"]) {
          const plan = await planOf((db) =>
            createOutboxRepository(db).read(topic, { xid, workspaceId: "", taskId: "", seq: 0 }, PLENTY),
          );
          expect(plan).not.toMatch(/Seq Scan on task_updates/);
          const scanned = [...plan.matchAll(/(?:Scan|Sort).*rows=(\d+)(?:\.\d+)? loops/g)].map(([, rows]) =>
            Number(rows),
          );
          expect(scanned.length).toBeGreaterThan(2);
          expect(Math.max(...scanned)).toBeLessThan(3 * PLENTY.rows);
        }
      }
      await sql`delete from task_updates where task_id like 'grown-%'`.execute(kysely);
    });

    /** How PostgreSQL runs the statement of `work`. */
    async function planOf(work: (db: Database) => Promise<unknown>): Promise<string> {
      let plan = "";
      const query: Database["query"] = async ({ name, text }: Statement, values) => {
        const explain = { name: `explain-${name}`, text: `explain (analyze, costs off, timing off) ${text}` };
        const rows = await context.db.query(explain, values);
        plan = rows.map((row) => row["QUERY PLAN"]).join("\n");
        return context.db.query({ name, text }, values);
      };
      await work({ ...context.db, query });
      return plan;
    }
  });
});
