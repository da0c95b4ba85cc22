/** Runs a suite on every database that Signalbox has: PGlite, and a real PostgreSQL. */
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { cp, mkdtemp, rename, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import pg from "pg";
import { pino } from "pino";
import { afterAll, beforeAll, describe, inject } from "vitest";
import project from "../../package.json" with { type: "json" };
import type { Database } from "../../src/store/database.ts";
import { migrate } from "../../src/store/migrate.ts";
import { openPglite } from "../../src/store/pglite.ts";
import { openPostgres } from "../../src/store/postgres.ts";

export const silent = pino({ level: "silent" });

export interface BackendContext {
  readonly backend: Database["backend"];
  /** A database of this suite alone, migrated; not before `beforeAll`. */
  readonly db: Database;
}

/** `empty` leaves the migrations out. */
export function describeEachBackend(
  name: string,
  suite: (context: BackendContext) => void,
  options: { empty?: boolean } = {},
): void {
  describe.each([
    ["pglite", temporaryPglite],
    ["postgres", temporaryPostgres],
  ] as const)(`${name} on %s`, (backend, open) => {
    let opened: { db: Database; remove(): Promise<void> } | undefined;
    beforeAll(async () => {
      opened = await open();
      if (!options.empty) await migrate(opened.db, silent);
    });
    afterAll(() => opened?.remove());
    suite({
      backend,
      get db() {
        if (!opened) throw new Error("the database is there within tests and hooks only");
        return opened.db;
      },
    });
  });
}

async function temporaryPglite() {
  const dataDir = await pgliteDirectory();
  const db = await openPglite({ dataDir, log: silent });
  return {
    db,
    async remove() {
      await db.close();
      await rm(dataDir, { recursive: true });
    },
  };
}

/** A data directory in which PGlite has an empty database already: making one takes seconds, a copy does not. */
export async function pgliteDirectory(): Promise<string> {
  const version = project.dependencies["@electric-sql/pglite"];
  const template = fileURLToPath(new URL(`../../node_modules/.cache/signalbox/pglite-${version}`, import.meta.url));
  if (!existsSync(template)) {
    const made = await temporaryDirectory();
    await (await openPglite({ dataDir: made, log: silent })).close();
    // Under another name first, so that the template is there whole or not at all.
    const copy = `${template}.${process.pid}`;
    await cp(join(made, "pglite"), join(copy, "pglite"), { recursive: true });
    await rm(made, { recursive: true });
    // Another process may have been faster; its template is as good.
    await rename(copy, template).catch(() => rm(copy, { recursive: true }));
  }
  const dataDir = await temporaryDirectory();
  await cp(template, dataDir, { recursive: true });
  return dataDir;
}

async function temporaryPostgres() {
  const { url, drop } = await createDatabase();
  const db = openPostgres({ url, poolSize: 5, log: silent });
  return {
    db,
    async remove() {
      await db.close();
      await drop();
    },
  };
}

export function temporaryDirectory(): Promise<string> {
  return mkdtemp(join(tmpdir(), "signalbox-test-"));
}

/** An empty database on the PostgreSQL of this run, or on another server. */
export async function createDatabase(server = inject("postgresUrl")) {
  const name = `test_${randomBytes(6).toString("hex")}`;
  await administer(server, `create database ${name}`);
  const url = new URL(server);
  url.pathname = `/${name}`;
  return { url: url.href, drop: () => administer(server, `drop database ${name} with (force)`) };
}

/** Runs a statement on a connection of its own. */
export async function administer(url: string, text: string): Promise<void> {
  const client = new pg.Client(url);
  await client.connect();
  try {
    await client.query(text);
  } finally {
    await client.end();
  }
}
