/** A PostgreSQL server as Database. */
import type { Logger } from "pino";
import type { Database } from "./database.ts";
import { createPgDatabase } from "./pg-database.ts";

const CONNECT_TIMEOUT_MS = 5_000;
const STATEMENT_TIMEOUT_MS = 30_000;
/** Longer than the server's own limit, so it strikes only when the server or the way to it is gone without a word. */
const SILENCE_TIMEOUT_MS = STATEMENT_TIMEOUT_MS + 5_000;
/** Long, because a connection keeps its prepared statements. */
const IDLE_TIMEOUT_MS = 300_000;

export interface PostgresOptions {
  /** postgres://user:password@host:port/database, with the parameters that libpq knows. */
  url: string;
  /** Connections at most. */
  poolSize: number;
  log: Logger;
}

/** Connects on first use. */
export function openPostgres({ url, poolSize, log }: PostgresOptions): Database {
  const connection = connectionTo(url);
  return createPgDatabase({
    backend: "postgres",
    pool: {
      ...connection,
      max: poolSize,
      idleTimeoutMillis: IDLE_TIMEOUT_MS,
      statement_timeout: STATEMENT_TIMEOUT_MS,
      query_timeout: SILENCE_TIMEOUT_MS,
    },
    ownSession: connection,
    log,
  });
}

/** How every connection to a server is made. */
const connectionTo = (url: string) => ({
  ...connectTo(url),
  application_name: "signalbox",
  connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
  keepAlive: true,
  keepAliveInitialDelayMillis: 10_000,
});

/**
 * The settings of a session. After ANALYZE on grown tables the planner would take a batched `update ... from unnest` for
 * a hash join over the whole table; random_page_cost of memory and solid disks keeps it on the index. On a small table it
 * would take it too, and lock the rows in no order.
 */
function connectTo(url: string): { connectionString: string } {
  const parsed = new URL(url);
  // What the operator wrote comes last and so wins.
  const options = ["-c random_page_cost=1.1 -c enable_hashjoin=off", parsed.searchParams.get("options")]
    .filter(Boolean)
    .join(" ");
  parsed.searchParams.set("options", options);
  return { connectionString: parsed.href };
}
