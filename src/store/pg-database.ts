/**
 * A Database over node-postgres. PostgreSQL and PGlite share it whole, because both speak PostgreSQL's protocol: only the
 * sockets differ. So both have the same values, errors, prepared statements and transactions.
 */
import { CompiledQuery, Kysely, PostgresDialect, sql } from "kysely";
import pg from "pg";
import type { Logger } from "pino";
import { databaseUnavailable } from "../domain/errors.ts";
import type { Database, Row, Statement } from "./database.ts";
import { isRetryable, isUnavailable, mapDatabaseError } from "./database-errors.ts";
import { noNotifications, openNotifications } from "./notifications.ts";
import { valueTypes } from "./pg-values.ts";
import type { Schema } from "./schema.ts";

const PING_TIMEOUT_MS = 2_000;
/** How often a statement is run that lost against another transaction. */
const MOST_TRIES = 5;

export interface PgDatabaseOptions {
  backend: Database["backend"];
  pool: pg.PoolConfig;
  /**
   * For sessions outside the pool and without its time limits: of `maintain`, and of `listen`. Left out, there is one
   * session only: maintenance shares the pool, and no other process is there to be heard.
   */
  ownSession?: pg.ClientConfig;
  log: Logger;
  /** Called by `close`, after the last connection has ended. */
  onClose?: () => Promise<void>;
}

export function createPgDatabase({ backend, pool, ownSession, log, onClose }: PgDatabaseOptions): Database {
  const sessions = openSessions(pool, log);
  const kysely = sessions.kysely();

  async function query({ name, text }: Statement, values: readonly unknown[]) {
    const session = await sessions.connect();
    try {
      for (let tries = 1; ; tries++) {
        try {
          return (await session.query({ name, text, values: values as unknown[] })).rows;
        } catch (error) {
          if (tries === MOST_TRIES || !isRetryable(error)) throw error;
        }
      }
    } finally {
      session.release();
    }
  }

  let closed: Promise<void> | undefined;
  let readerRole: string | undefined;
  return {
    backend,
    kysely,
    query,
    reading(workspaceId, use) {
      const role = readerRole;
      if (role === undefined) return use({ kysely, query });
      return kysely.transaction().execute(async (tx) => {
        await sql`
          select set_config('signalbox.workspace', ${workspaceId}, true), set_config('role', ${role}, true)`.execute(
          tx,
        );
        return use({
          kysely: tx,
          query: async ({ text }, values) =>
            (await tx.executeQuery<Row>(CompiledQuery.raw(text, values as unknown[]))).rows,
        });
      });
    },
    readAs(role) {
      readerRole = role;
    },
    async maintain(work) {
      if (!ownSession) return work(kysely);
      const own = openSessions({ ...ownSession, max: 1 }, log);
      try {
        return await work(own.kysely());
      } finally {
        await own.close();
      }
    },
    listen: (listener) =>
      ownSession ? openNotifications({ session: ownSession, query, log }, listener) : noNotifications(listener),
    async ping() {
      const late = Promise.withResolvers<never>();
      const timer = setTimeout(
        () => late.reject(databaseUnavailable(new Error(`no answer within ${PING_TIMEOUT_MS} ms`))),
        PING_TIMEOUT_MS,
      );
      try {
        await Promise.race([query({ name: "ping", text: "select 1" }, []), late.promise]);
      } catch (error) {
        throw isUnavailable(error) ? error : databaseUnavailable(error);
      } finally {
        clearTimeout(timer);
      }
    },
    close() {
      closed ??= sessions.close().then(onClose);
      return closed;
    },
  };
}

/** A connection while somebody has it. Its errors are mapped; one that lost its server does not go back to the pool. */
interface Session {
  query(config: string | pg.QueryConfig, values?: unknown[]): Promise<pg.QueryResult>;
  release(discard?: boolean): void;
}

function openSessions(config: pg.PoolConfig, log: Logger) {
  const pool = new pg.Pool({ ...config, types: valueTypes });
  // An error on a connection that nobody uses reaches the pool, one that somebody holds between two statements the
  // client; without listeners either would end the process.
  pool.on("error", (error) => log.warn({ err: error }, "an idle database connection was lost"));
  pool.on("connect", (client) => client.on("error", (error) => log.debug({ err: error }, "database connection lost")));

  let taken = 0;
  let closing = false;
  const idle = Promise.withResolvers<void>();
  const settle = () => {
    if (closing && taken === 0) idle.resolve();
  };

  async function connect(): Promise<Session> {
    if (closing) throw databaseUnavailable(new Error("the database is closed"));
    taken += 1;
    let client: pg.PoolClient;
    try {
      client = await pool.connect();
    } catch (error) {
      taken -= 1;
      settle();
      throw databaseUnavailable(error);
    }
    let broken = false;
    return {
      async query(statement, values) {
        try {
          return await client.query(statement as pg.QueryConfig, values);
        } catch (error) {
          const mapped = mapDatabaseError(error);
          broken ||= isUnavailable(mapped);
          throw mapped;
        }
      },
      release(discard = false) {
        client.release(broken || discard);
        taken -= 1;
        settle();
      },
    };
  }

  /** Waits until every connection is given back, those that are waited for included. */
  async function close(): Promise<void> {
    closing = true;
    settle();
    await idle.promise;
    await pool.end();
  }

  return {
    connect,
    close,
    kysely: () =>
      new Kysely<Schema>({
        dialect: new PostgresDialect({
          pool: { connect: connect as never, end: close, options: pool.options },
        }),
      }),
  };
}
