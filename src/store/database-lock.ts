/**
 * One server a PostgreSQL database: a second one would take the first one's running tasks for those of a process that died.
 * The lock belongs to a session of its own, so it is free as soon as its process is gone.
 */
import { setTimeout as wait } from "node:timers/promises";
import pg from "pg";
import type { Logger } from "pino";
import { SignalboxError } from "../domain/errors.ts";

/** Any two numbers that nobody else locks: "SIGN" in ASCII, and one. */
const TRY_LOCK = "select pg_try_advisory_lock(1397311310, 1) as locked";
/** How long the session of a process that has just ended may hold the lock, and the pause between two looks. */
const PREDECESSOR_MS = 10_000;
const PAUSE_MS = 250;

export interface DatabaseLock {
  release(): Promise<void>;
}

/** Throws SignalboxError DATABASE_IN_USE when another server has the database, and still has it after `patienceMs`. */
export async function lockDatabase(
  config: pg.ClientConfig,
  log: Logger,
  signal: AbortSignal,
  patienceMs = PREDECESSOR_MS,
): Promise<DatabaseLock> {
  const end = new AbortController();
  let session = await takeWithin(patienceMs, AbortSignal.any([signal, end.signal]));
  if (!session) throw inUse();

  /** The session, with one that takes its place when the connection is lost. */
  async function keep(): Promise<void> {
    while (!end.signal.aborted) {
      await ended(session as pg.Client);
      if (end.signal.aborted) return;
      log.warn("the connection that holds the database's lock was lost");
      session = await takeWithin(Number.POSITIVE_INFINITY, end.signal);
    }
  }
  const kept = keep().catch((error: unknown) => {
    if (!end.signal.aborted) log.error({ err: error }, "the database's lock could not be taken again");
  });

  async function takeWithin(ms: number, until: AbortSignal): Promise<pg.Client | undefined> {
    const deadline = Date.now() + ms;
    for (;;) {
      until.throwIfAborted();
      const client = await take(config).catch((error: unknown) => {
        log.debug({ err: error }, "no answer about the database's lock");
        return undefined;
      });
      if (client || Date.now() > deadline) return client;
      await wait(PAUSE_MS, undefined, { signal: until });
    }
  }

  return {
    async release() {
      end.abort();
      await session?.end().catch(() => {});
      await kept;
    },
  };
}

/** A session that has the lock, or undefined when another has it. */
async function take(config: pg.ClientConfig): Promise<pg.Client | undefined> {
  const client = new pg.Client(config);
  // A connection that breaks is seen by its end.
  client.on("error", () => {});
  await client.connect();
  const { rows } = await client.query<{ locked: boolean }>(TRY_LOCK);
  if (rows[0]?.locked) return client;
  await client.end();
  return undefined;
}

const ended = (client: pg.Client): Promise<void> => new Promise((resolve) => void client.once("end", resolve));

const inUse = () =>
  new SignalboxError({
    code: "FAILED_PRECONDITION",
    reason: "DATABASE_IN_USE",
    message:
      "Another Signalbox server works on this database. Stop it first, or give this one a database of its own with " +
      "--database-url (SIGNALBOX_DATABASE_URL). Several servers on one database come later.",
  });
