import { pino } from "pino";
import { expect, inject, it } from "vitest";
import { lockDatabase } from "../../src/store/database-lock.ts";
import { connectionTo } from "../../src/store/postgres.ts";
import { administer, createDatabase, silent } from "./backends.ts";

const never = new AbortController().signal;

it("lets one server at a time have a database, and the next when it is gone", async () => {
  const { url, drop } = await createDatabase(inject("postgresUrl"));
  const config = connectionTo(url);
  const first = await lockDatabase(config, silent, never);
  await expect(lockDatabase(config, silent, never, 0)).rejects.toMatchObject({ reason: "DATABASE_IN_USE" });
  const waiting = lockDatabase(config, silent, never);
  await first.release();
  await (await waiting).release();
  await drop();
});

it("takes the lock again when its connection is lost", async () => {
  const { url, drop } = await createDatabase(inject("postgresUrl"));
  const config = connectionTo(url);
  const lost = Promise.withResolvers<void>();
  const log = pino({ level: "warn" }, { write: () => lost.resolve() });
  const lock = await lockDatabase(config, log, never);
  await administer(
    url,
    "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and pid <> pg_backend_pid()",
  );
  await lost.promise;
  // Whoever comes first has it: this one, or, for a moment, the other.
  const other = await lockDatabase(config, silent, never, 0).catch((error: { reason: string }) => error.reason);
  if (typeof other !== "string") await other.release();
  else expect(other).toBe("DATABASE_IN_USE");
  await lock.release();
  await (await lockDatabase(config, silent, never)).release();
  await drop();
});
