/** One PostgreSQL for a whole run of the tests: the one of SIGNALBOX_TEST_DATABASE_URL, or an embedded one. */
import { randomBytes } from "node:crypto";
import pg from "pg";
import { pino } from "pino";
import type { TestProject } from "vitest/node";
import { migrate } from "../../src/store/migrate.ts";
import { openPostgres } from "../../src/store/postgres.ts";
import { startEmbeddedPostgres } from "./embedded-postgres.ts";

declare module "vitest" {
  export interface ProvidedContext {
    /** A server on which tests may make databases. */
    postgresUrl: string;
    /** A database there that is migrated, and that nobody is connected to: to copy it is faster than to migrate another. */
    postgresTemplate: string;
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const given = process.env.SIGNALBOX_TEST_DATABASE_URL;
  const server = given ? undefined : await startEmbeddedPostgres();
  const url = given ?? server!.url;
  const template = `template_${randomBytes(6).toString("hex")}`;
  await administer(url, `create database ${template}`);
  const address = new URL(url);
  address.pathname = `/${template}`;
  const log = pino({ level: "silent" });
  const db = openPostgres({ url: address.href, poolSize: 1, log });
  await migrate(db, log);
  await db.close();
  project.provide("postgresUrl", url);
  project.provide("postgresTemplate", template);
  return () => (server ? server.remove() : administer(url, `drop database ${template} with (force)`));
}

async function administer(url: string, text: string): Promise<void> {
  const client = new pg.Client(url);
  await client.connect();
  try {
    await client.query(text);
  } finally {
    await client.end();
  }
}
