/** PostgreSQL for one run: the server of SIGNALBOX_TEST_DATABASE_URL, or one that is started for it. */
import pg from "pg";
import { startEmbeddedPostgres } from "../../test/setup/embedded-postgres.ts";
import { createDatabase } from "../../test/store/backends.ts";

export interface DatabaseServer extends AsyncDisposable {
  /** In words, for people: version, origin, and what it does for durability. */
  readonly description: string;
  /** Makes an empty database and returns its url. It is dropped with this object. */
  createDatabase(): Promise<string>;
}

/** The server that is started commits as a fresh installation does, fsync included: the bench compares durable writes. */
export async function openDatabaseServer(): Promise<DatabaseServer> {
  await using stack = new AsyncDisposableStack();
  const given = process.env.SIGNALBOX_TEST_DATABASE_URL;
  let url = given;
  if (!url) {
    const server = await startEmbeddedPostgres({ fsync: true });
    stack.defer(() => server.remove());
    url = server.url;
  }
  const description = await describe(url, given ? "SIGNALBOX_TEST_DATABASE_URL" : "embedded-postgres");
  const owned = stack.move();
  return {
    description,
    async createDatabase() {
      const { url: created, drop } = await createDatabase(url);
      owned.defer(drop);
      return created;
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function describe(url: string, origin: string): Promise<string> {
  const client = new pg.Client(url);
  await client.connect();
  try {
    const show = async (setting: string) =>
      (await client.query<Record<string, string>>(`show ${setting}`)).rows[0]?.[setting];
    const durability = `fsync ${await show("fsync")}, synchronous_commit ${await show("synchronous_commit")}`;
    return `PostgreSQL ${await show("server_version")} (${origin}; ${durability})`;
  } finally {
    await client.end();
  }
}
