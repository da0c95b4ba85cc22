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
  await using stack = new AsyncDisposableStack();
  let server = process.env.SIGNALBOX_TEST_DATABASE_URL;
  const origin = server ? "server of SIGNALBOX_TEST_DATABASE_URL" : "embedded-postgres, fsync off";
  if (!server) {
    const embedded = await startEmbeddedPostgres();
    stack.defer(() => embedded.remove());
    server = embedded.url;
  }
  const { url, drop } = await createDatabase(server);
  stack.defer(drop);
  const description = `PostgreSQL ${await versionOf(url)} (${origin})`;
  const kept = stack.move();
  return { url, description, [Symbol.asyncDispose]: () => kept.disposeAsync() };
}

async function versionOf(url: string): Promise<string> {
  const client = new pg.Client(url);
  await client.connect();
  try {
    const { rows } = await client.query<{ server_version: string }>("show server_version");
    return rows[0]?.server_version ?? "";
  } finally {
    await client.end();
  }
}
