/** Brings a database to this program's schema, forward only. */
import { type Kysely, sql } from "kysely";
import { type Migration, Migrator } from "kysely/migration";
import type { Logger } from "pino";
import { SignalboxError } from "../domain/errors.ts";
import type { Database } from "./database.ts";
import { sqlState } from "./database-errors.ts";
import { migrations as allMigrations } from "./migrations/index.ts";
import type { Schema } from "./schema.ts";

/**
 * Runs the migrations that the database lacks, all in one transaction. Any number of processes may do so at once: an
 * advisory lock lets one work while the others wait.
 *
 * @throws SignalboxError DATABASE_NEWER when the database has migrations that this program does not know.
 */
export async function migrate(db: Database, log: Logger, migrations: Record<string, Migration> = allMigrations) {
  await db.maintain(async (kysely) => {
    const migrator = new Migrator({
      db: kysely,
      provider: { getMigrations: async () => migrations },
      nameComparator: (a, b) => (a < b ? -1 : a > b ? 1 : 0),
    });
    const { error, results = [] } = await migrator.migrateToLatest();
    if (error !== undefined) throw (await newerDatabase(kysely, migrations)) ?? notOurs(error) ?? error;
    for (const { migrationName } of results) log.info({ migration: migrationName }, "database migrated");
  });
}

/** The refusal, when the database holds what stands in a migration's way: class 42, such as a table of that name. */
function notOurs(error: unknown) {
  if (!sqlState(error)?.startsWith("42")) return undefined;
  return new SignalboxError({
    code: "FAILED_PRECONDITION",
    reason: "MIGRATION_FAILED",
    message:
      `The database could not be brought to this version of Signalbox: ${(error as Error).message}. ` +
      "Does it hold tables of something else? Give Signalbox a database of its own.",
    cause: error,
  });
}

/** The refusal, when it is the database's age that made the migrator fail. */
async function newerDatabase(kysely: Kysely<Schema>, migrations: Record<string, Migration>) {
  const unknown: string[] = [];
  try {
    const { rows } = await sql<{ name: string }>`select name from kysely_migration order by name`.execute(kysely);
    unknown.push(...rows.map((row) => row.name).filter((name) => !(name in migrations)));
  } catch {
    // It failed for another reason, before there was a table to read; the caller tells that one.
  }
  if (unknown.length === 0) return undefined;
  return new SignalboxError({
    code: "FAILED_PRECONDITION",
    reason: "DATABASE_NEWER",
    message:
      `The database was made by a newer Signalbox: this one does not know its migrations ${unknown.join(", ")}. ` +
      `Start that newer version, or give this one another database.`,
  });
}
