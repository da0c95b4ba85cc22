/** A PostgreSQL database for one run: on the server of SIGNALBOX_TEST_DATABASE_URL, or on one that is started for it. */
import pg from "pg";
import { startEmbeddedPostgres } from "../../test/setup/embedded-postgres.ts";
import { createDatabase } from "../../test/store/backends.ts";

export interface ScratchDatabase extends AsyncDisposable {
  readonly url: string;
  /** In words, for people. */
  readonly description: string;
}

export async function createScratchDatabase(): Promise<ScratchDatabase> {
  const given = process.env.SIGNALBOX_TEST_DATABASE_URL;
  if (given) {
    const { url, drop } = await createDatabase(given);
    return { url, description: await describe(url, "SIGNALBOX_TEST_DATABASE_URL"), [Symbol.asyncDispose]: drop };
  }
  const server = await startEmbeddedPostgres();
  const description = await describe(server.url, "embedded-postgres, fsync off");
  return { url: server.url, description, [Symbol.asyncDispose]: () => server.remove() };
}

async function describe(url: string, origin: string): Promise<string> {
  const client = new pg.Client(url);
  await client.connect();
  try {
    const { rows } = await client.query<{ server_version: string }>("show server_version");
    return `PostgreSQL ${rows[0]?.server_version} (${origin})`;
  } finally {
    await client.end();
  }
}
