/** PostgreSQL for one run: the server of SIGNALBOX_TEST_DATABASE_URL, or one that is started for it. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import pg from "pg";
import { startEmbeddedPostgres } from "../../test/setup/embedded-postgres.ts";
import { createDatabase } from "../../test/store/backends.ts";
import { treeCpuMs } from "./process-tree.ts";

export interface DatabaseServer extends AsyncDisposable {
  /** In words, for people: version, origin, and what it does for durability. */
  readonly description: string;
  /** Makes an empty database and returns its url. It is dropped with this object. */
  createDatabase(): Promise<string>;
  /** Time that it has spent on the processor, in milliseconds; undefined where that is not known. */
  cpuMs(): Promise<number | undefined>;
}

/** The server that is started commits as a fresh installation does, fsync included: the bench compares durable writes. */
export async function openDatabaseServer(): Promise<DatabaseServer> {
  await using stack = new AsyncDisposableStack();
  const given = process.env.SIGNALBOX_TEST_DATABASE_URL;
  let url = given;
  let pid: number | undefined;
  if (!url) {
    const server = await startEmbeddedPostgres({ fsync: true });
    stack.defer(() => server.remove());
    url = server.url;
    pid = await processOf(url);
  }
  const description = await describe(url, given ? "SIGNALBOX_TEST_DATABASE_URL" : "embedded-postgres");
  const owned = stack.move();
  return {
    description,
    async createDatabase() {
      const { url: created, drop } = await createDatabase({ server: url });
      owned.defer(drop);
      return created;
    },
    cpuMs: async () => (pid === undefined ? undefined : treeCpuMs(pid)),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

function describe(url: string, origin: string): Promise<string> {
  return asking(url, async (show) => {
    const durability = `fsync ${await show("fsync")}, synchronous_commit ${await show("synchronous_commit")}`;
    return `PostgreSQL ${await show("server_version")} (${origin}; ${durability})`;
  });
}

/** The process that all of its sessions descend from, when it is on this machine. */
function processOf(url: string): Promise<number> {
  return asking(url, async (show) => {
    const file = join(await show("data_directory"), "postmaster.pid");
    return Number.parseInt(await readFile(file, "utf8"), 10);
  });
}

/** With a function that reads a setting of the server. */
async function asking<T>(url: string, use: (show: (setting: string) => Promise<string>) => Promise<T>): Promise<T> {
  const client = new pg.Client(url);
  await client.connect();
  try {
    return await use(async (setting) => {
      const { rows } = await client.query<Record<string, string>>(`show ${setting}`);
      return rows[0]![setting]!;
    });
  } finally {
    await client.end();
  }
}
