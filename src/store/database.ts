/**
 * One face for PostgreSQL and PGlite. Repositories use `kysely` for everything but the hot statements, which are plain
 * named statements: they are prepared once per connection and cost no building.
 */
import type { Kysely } from "kysely";
import type { Schema } from "./schema.ts";

/** A statement with a name: prepared once on each connection of PostgreSQL. The name must be unique to the text. */
export interface Statement {
  name: string;
  text: string;
}

/** A row as the driver gives it: int8 as number, timestamptz as Date, bytea as Uint8Array, json parsed. */
export type Row = Record<string, unknown>;

/** Hears what other replicas tell. Neither method may throw. */
export interface NotificationListener {
  /** A replica, this one included, has told something. */
  onHint(payload: string): void;
  /** What was told until now may have been missed: the way on which it comes was made, or lost. */
  onGap(connected: boolean): void;
}

export interface Notifications {
  /** Whether what is told now is heard here. */
  readonly connected: boolean;
  /** Tells all who listen, this replica included. At most 7,999 bytes. Rejects as `query` does. */
  notify(payload: string): Promise<void>;
  /** Hears no more. Needs no answer of the database. */
  close(): Promise<void>;
}

/** What reads the rows of one workspace. */
export interface Reader {
  readonly kysely: Kysely<Schema>;
  query(statement: Statement, values: readonly unknown[]): Promise<Row[]>;
}

export interface Database {
  readonly backend: "postgres" | "pglite";
  readonly kysely: Kysely<Schema>;
  /**
   * Runs a hot statement in its own transaction. Errors of this and of `kysely` are mapped by `mapDatabaseError`: a
   * database that cannot be reached becomes SignalboxError DATABASE_UNAVAILABLE; anything else is rethrown.
   */
  query(statement: Statement, values: readonly unknown[]): Promise<Row[]>;
  /**
   * Reads what is one workspace's, in one transaction that changes nothing. Where row-level security is there (`raiseWall`), it sees
   * no row of any other workspace, whatever a statement asks for. Costs two round trips more than without.
   */
  reading<T>(workspaceId: string, use: (reader: Reader) => Promise<T>): Promise<T>;
  /** The role in which it reads from now on; undefined: in that of its connection, and without a transaction. */
  readAs(role: string | undefined): void;
  /**
   * Runs migrations and other long work on a Kysely without time limits; on PostgreSQL it has a connection of its own.
   */
  maintain<T>(work: (kysely: Kysely<Schema>) => Promise<T>): Promise<T>;
  /** Begins to hear what the replicas on this database tell each other. On PGlite there is nobody to hear. */
  listen(listener: NotificationListener): Notifications;
  /** Resolves when the database answers; rejects with DATABASE_UNAVAILABLE otherwise. Never waits longer than 2 s. */
  ping(): Promise<void>;
  /** Waits for running statements, then closes every connection. */
  close(): Promise<void>;
}
