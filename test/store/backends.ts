/** Runs a suite on every database that Signalbox has: PGlite, and a real PostgreSQL. */
import { randomBytes } from "node:crypto";
import { rm } from "node:fs/promises";
import pg from "pg";
import { pino } from "pino";
import { afterAll, beforeAll, describe, inject } from "vitest";
import type { Database } from "../../src/store/database.ts";
import { openPglite } from "../../src/store/pglite.ts";
import { openPostgres } from "../../src/store/postgres.ts";
import { pgliteDirectory } from "../setup/pglite-template.ts";

export { pgliteDirectory, temporaryDirectory } from "../setup/pglite-template.ts";

export const silent = pino({ level: "silent" });

export interface BackendContext {
  readonly backend: Database["backend"];
  /** A database of this suite alone, migrated; not before `beforeAll`. */
  readonly db: Database;
}

/** All databases that Signalbox has. */
export const BACKENDS: readonly Database["backend"][] = ["pglite", "postgres"];

/** `empty` leaves the migrations out. */
export function describeEachBackend(
  name: string,
  suite: (context: BackendContext) => void,
  options: { empty?: boolean } = {},
): void {
  describe.each(BACKENDS)(`${name} on %s`, (backend) => {
    const open = backend === "pglite" ? temporaryPglite : temporaryPostgres;
    let opened: { db: Database; remove(): Promise<void> } | undefined;
    beforeAll(async () => {
      opened = await open(options.empty ?? false);
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

async function temporaryPglite(empty: boolean) {
  const dataDir = await pgliteDirectory({ empty });
  const db = await openPglite({ dataDir, log: silent });
  return {
    db,
    async remove() {
      await db.close();
      await rm(dataDir, { recursive: true });
    },
  };
}

async function temporaryPostgres(empty: boolean) {
  const { url, drop } = await createDatabase({ empty });
  const db = openPostgres({ url, poolSize: 5, log: silent });
  return {
    db,
    async remove() {
      await db.close();
      await drop();
    },
  };
}

/** A database on the PostgreSQL of this run, migrated unless it is to be empty; or an empty one on another `server`. */
export async function createDatabase({ empty = false, server }: { empty?: boolean; server?: string } = {}) {
  const name = `test_${randomBytes(6).toString("hex")}`;
  const template = empty || server ? "" : ` template ${inject("postgresTemplate")}`;
  server ??= inject("postgresUrl");
  await administer(server, `create database ${name}${template}`);
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
