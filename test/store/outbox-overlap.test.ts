/** The outbox beside transactions that overlap. PostgreSQL only: PGlite has one session, and no two at once. */
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import { type ControlledTransaction, sql } from "kysely";
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { statusUpdate } from "../../src/domain/agent-report.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import type { Database } from "../../src/store/database.ts";
import { createLeaseRepository } from "../../src/store/lease-repository.ts";
import { migrate } from "../../src/store/migrate.ts";
import { createOutboxRepository, type OutboxPage, type OutboxRepository } from "../../src/store/outbox-repository.ts";
import { openPostgres } from "../../src/store/postgres.ts";
import type { Schema } from "../../src/store/schema.ts";
import { createTaskStore } from "../../src/store/task-store.ts";
import { whenReadable, writeRow, writeTask } from "../fixtures/log-rows.ts";
import { registerReplica } from "../fixtures/replica.ts";
import { headerOf } from "../fixtures/task-header.ts";
import { createDatabase, silent } from "./backends.ts";

const { newId } = systemRuntime();
const PLENTY = { rows: 1000, bytes: 1_000_000 };

let db: Database;
let drop: () => Promise<void>;
let outbox: OutboxRepository;
let replica: string;
let duty: string;

beforeAll(async () => {
  const { url, drop: remove } = await createDatabase();
  drop = remove;
  db = openPostgres({ url, poolSize: 8, log: silent });
  await migrate(db, silent);
  outbox = createOutboxRepository(db);
});
afterAll(async () => {
  await db.close();
  await drop();
});
beforeEach(async () => {
  duty = newId();
  replica = await registerReplica(db);
  await readable();
  await outbox.enter(duty);
});

const lease = async () => (await outbox.take(duty, replica))!;
const begin = () => db.kysely.startTransaction().execute();
const read = async () => outbox.read("all", (await lease()).position, PLENTY);
const readable = () => whenReadable(db);
const names = ({ rows }: OutboxPage) => rows.map((row) => `${row.taskId} ${row.seq}`);

it("reads nothing that a transaction which still runs may come before", async () => {
  const [early, late] = [newId(), newId()];
  const slow = await begin();
  await writeRow(slow, early, 1);
  await writeRow(db.kysely, late, 1);
  expect(await read()).toMatchObject({ rows: [], held: true });
  await slow.commit().execute();
  await readable();
  expect(names(await read())).toEqual([`${early} 1`, `${late} 1`]);

  const vain = await begin();
  await writeRow(vain, early, 2);
  await writeRow(db.kysely, late, 2);
  await vain.rollback().execute();
  await readable();
  expect(names(await read())).toEqual([`${early} 1`, `${late} 1`, `${late} 2`]);
});

it("misses and repeats nothing, however transactions overlap and wherever readers stop", async () => {
  const action = fc.oneof(
    { weight: 6, arbitrary: fc.record({ what: fc.constant("write alone"), at: fc.constant(0) }) },
    { weight: 4, arbitrary: fc.record({ what: fc.constant("write"), at: fc.nat(3) }) },
    { weight: 2, arbitrary: fc.record({ what: fc.constantFrom("commit", "rollback"), at: fc.nat(3) }) },
    {
      weight: 3,
      arbitrary: fc.record({ what: fc.constantFrom("read", "read and die"), at: fc.integer({ min: 1, max: 3 }) }),
    },
  );
  await fc.assert(
    fc.asyncProperty(fc.array(action, { maxLength: 60 }), async (actions) => {
      duty = newId();
      await readable();
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
        const task = newId();
        if (what === "write alone") {
          await writeRow(db.kysely, task, 1);
          committed.add(`${task} 1`);
        } else if (what === "write") {
          open[at] ??= await begin();
          await writeRow(open[at], task, 1);
          written[at]!.push(`${task} 1`);
        } else if (what === "commit" || what === "rollback") await end(at, what);
        else await take(at, what === "read and die");
        expect(got.filter((name) => !committed.has(name))).toEqual([]);
      }
      for (const at of open.keys()) await end(at, "commit");
      await readable();
      for (let left = committed.size; left > 0; left--) await take(7, false);
      expect(new Set(got)).toEqual(committed);
      expect(got).toHaveLength(committed.size);
    }),
    { numRuns: 25, endOnFailure: true },
  );
});

it("keeps the order of a task whose row another statement finds changed", async () => {
  const { kysely } = db;
  const leases = createLeaseRepository(db);
  const former = await registerReplica(db);
  const tasks = [await writeTask(kysely, former), await writeTask(kysely, former)];
  await leases.release(former);
  // A rescue is stopped between its two tasks: it has its transaction's number, and has yet to look at the other task.
  const gate = await begin();
  await sql`select pg_advisory_xact_lock(1)`.execute(gate);
  await sql`
    create function wait_at_gate() returns trigger language plpgsql as $$
    begin perform pg_advisory_xact_lock_shared(1); return new; end $$`.execute(kysely);
  await sql`
    create trigger a_gate before update on tasks for each row when (new.fence > old.fence)
    execute function wait_at_gate()`.execute(kysely);
  const rescuing = leases.rescue(replica, 2);
  await someoneWaitsAtGate();
  // The former owner's last words. Of the task that is locked already they come too late.
  const appends = tasks.map(async (taskId) => {
    const store = createTaskStore(db, { maxWaiting: 1, replicaId: () => former });
    const status = statusUpdate(
      headerOf({ taskId }),
      { state: TaskState.WORKING, timestamp: timestampFromDate(new Date()) },
      "a test",
    );
    const append = { workspaceId: "default", taskId, expectedSeq: 1, fence: 1, updates: [status], at: new Date() };
    return (await store.append(append)) !== undefined;
  });
  expect(await Promise.race(appends)).toBe(true);
  await gate.commit().execute();
  await rescuing;
  expect((await Promise.all(appends)).sort()).toEqual([false, true]);
  await leases.rescue(replica, 2);

  await readable();
  const rows = names(await read());
  for (const taskId of tasks) {
    const seqs = rows.filter((name) => name.startsWith(taskId)).map((name) => Number(name.split(" ")[1]));
    expect([
      [1, 2],
      [1, 2, 3],
    ]).toContainEqual(seqs);
  }
});

async function someoneWaitsAtGate(): Promise<void> {
  for (let waiting = 0; waiting === 0; ) {
    const { rows } = await sql<{ count: number }>`
      select count(*) as count from pg_locks l join pg_database d on d.oid = l.database
      where l.locktype = 'advisory' and not l.granted and d.datname = current_database()`.execute(db.kysely);
    waiting = rows[0]!.count;
  }
}
