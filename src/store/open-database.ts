/** Chooses the database and waits for it. */
import { setTimeout as wait } from "node:timers/promises";
import type { Logger } from "pino";
import { SignalboxError } from "../domain/errors.ts";
import type { Database } from "./database.ts";
import { sqlState } from "./database-errors.ts";
import { openPglite } from "./pglite.ts";
import { openPostgres } from "./postgres.ts";

const FIRST_WAIT_MS = 250;
const LONGEST_WAIT_MS = 10_000;

export interface OpenDatabaseOptions {
  /** A PostgreSQL server. Without it the database is PGlite in `dataDir`. */
  url?: string | undefined;
  dataDir: string;
  /** Connections to PostgreSQL at most. */
  poolSize: number;
  log: Logger;
  /** Ends the waiting for a server that is away. */
  signal: AbortSignal;
}

/**
 * Opens the database. A PostgreSQL server that is away is tried again until it comes or `signal` aborts.
 *
 * @throws SignalboxError DATABASE_REFUSED when trying again cannot help: wrong user, password, name or URL;
 * and what `openPglite` throws.
 */
export async function openDatabase(options: OpenDatabaseOptions): Promise<Database> {
  const { url, dataDir, poolSize, log, signal } = options;
  if (url === undefined) return openPglite({ dataDir, log });

  const server = describe(url);
  const db = openPostgres({ url, poolSize, log });
  try {
    await connect(db, server, log, signal);
    return db;
  } catch (error) {
    await db.close();
    throw error;
  }
}

async function connect(db: Database, server: string, log: Logger, signal: AbortSignal): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    signal.throwIfAborted();
    try {
      await db.query({ name: "hello", text: "select 1" }, []);
      if (attempt > 1) log.info({ server, attempt }, "the database answers");
      return;
    } catch (error) {
      const cause = error instanceof SignalboxError ? error.cause : error;
      const why = cause instanceof Error && cause.message ? cause.message : String(cause);
      if (willNotHelp(cause)) throw refused(`The database at ${server} refuses: ${why}.`);

      const ceiling = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** (attempt - 1));
      const nextMs = Math.round(ceiling / 2 + (ceiling / 2) * Math.random());
      log.warn(
        { server, attempt, nextMs, why },
        `the database at ${server} does not answer; next attempt in ${nextMs} ms`,
      );
      await wait(nextMs, undefined, { signal }).catch(() => signal.throwIfAborted());
    }
  }
}

/** Class 28: user or password; 3D000: no such database; 42501: no right to connect. */
function willNotHelp(cause: unknown): boolean {
  return /^(28|3D000|42501)/.test(sqlState(cause) ?? "");
}

/** The address without user and password. */
function describe(url: string): string {
  let parsed: URL;
  try {
    parsed = new URL(url);
  } catch {
    // Neither the URL nor the error that tells it: both hold the password.
    throw refused("The database URL cannot be read.");
  }
  if (!/^postgres(ql)?:$/.test(parsed.protocol)) throw refused(`The database URL begins with ${parsed.protocol}.`);
  return `${parsed.host || parsed.searchParams.get("host") || "localhost"}${parsed.pathname}`;
}

function refused(why: string): SignalboxError {
  return new SignalboxError({
    code: "FAILED_PRECONDITION",
    reason: "DATABASE_REFUSED",
    message: `${why} Check --database-url (SIGNALBOX_DATABASE_URL): postgres://user:password@host:5432/database`,
  });
}
