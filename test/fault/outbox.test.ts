/** Readers of the outbox that are killed between their work and their cursor. */
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { systemRuntime } from "../../src/services/runtime.ts";
import type { Database } from "../../src/store/database.ts";
import { createLeaseRepository } from "../../src/store/lease-repository.ts";
import { migrate } from "../../src/store/migrate.ts";
import { createOutboxRepository } from "../../src/store/outbox-repository.ts";
import { openPostgres } from "../../src/store/postgres.ts";
import { whenReadable, writeRow } from "../fixtures/log-rows.ts";
import { registerReplica } from "../fixtures/replica.ts";
import { createDatabase, silent } from "../store/backends.ts";

const { newId } = systemRuntime();
const READER = fileURLToPath(new URL("./outbox-reader.ts", import.meta.url));

let url: string;
let db: Database;
let drop: () => Promise<void>;

beforeAll(async () => {
  ({ url, drop } = await createDatabase());
  db = openPostgres({ url, poolSize: 5, log: silent });
  await migrate(db, silent);
});
afterAll(async () => {
  await db.close();
  await drop();
});

/** The batches that a reader got until it was killed. */
async function readUntilKilled(duty: string, batches: number, rows: number): Promise<string[][]> {
  const replica = await registerReplica(db);
  const args = [READER, url, replica, duty, String(batches), String(rows)];
  const { signal, stdout } = await new Promise<{ signal: unknown; stdout: string }>((resolve) =>
    execFile(process.execPath, args, { timeout: 25_000 }, (error, stdout) =>
      resolve({ signal: error?.signal, stdout }),
    ),
  );
  expect(signal).toBe("SIGKILL");
  // Its lease runs out.
  await createLeaseRepository(db).release(replica);
  return stdout
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as string[]);
}

test("the next reader gets the last batch of the one before, and then the rest", async () => {
  const duty = newId();
  const outbox = createOutboxRepository(db);
  await whenReadable(db);
  await outbox.enter(duty);
  const { position } = (await outbox.take(duty, await registerReplica(db)))!;
  await outbox.release(duty, 2);
  for (let n = 0; n < 60; n++) await writeRow(db.kysely, newId(), 1);
  await whenReadable(db);
  const all = (await outbox.read("all", position, { rows: 100, bytes: 1000 })).rows.map((row) => `${row.taskId} 1`);
  expect(all).toHaveLength(60);

  let done = 0;
  for (const [batches, rows] of [
    [3, 7],
    [1, 4],
    [2, 11],
    [3, 5],
  ] as const) {
    const got = await readUntilKilled(duty, batches, rows);
    const each = Array.from({ length: batches }, (_, n) => all.slice(done + n * rows, done + (n + 1) * rows));
    expect(got).toEqual(each);
    // The last one was handled, and its cursor was not moved.
    done += (batches - 1) * rows;
  }
  expect(done).toBe(2 * 7 + 11 + 2 * 5);
});
