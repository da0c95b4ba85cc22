/** What a database is called where several meet. */
import { expect, onTestFinished, test } from "vitest";
import { installationName } from "../../src/store/installation.ts";
import { openPostgres } from "../../src/store/postgres.ts";
import { administer, createDatabase, silent } from "./backends.ts";

async function nameAt(url: string): Promise<string> {
  const db = openPostgres({ url, poolSize: 1, log: silent });
  try {
    return await installationName(db);
  } finally {
    await db.close();
  }
}

test("all who are connected to a database find one name, and a copy of it has another", async () => {
  const original = await createDatabase();
  onTestFinished(original.drop);
  const name = await nameAt(original.url);
  expect(name).toMatch(/^[0-9a-f]{32}$/);
  expect(await nameAt(original.url)).toBe(name);

  const copy = new URL(original.url);
  copy.pathname += "_copy";
  const server = new URL(original.url);
  server.pathname = "/postgres";
  await administer(server.href, `create database ${copy.pathname.slice(1)} template ${original.url.split("/").at(-1)}`);
  onTestFinished(() => administer(server.href, `drop database ${copy.pathname.slice(1)} with (force)`));
  expect(await nameAt(copy.href)).not.toBe(name);
});

test("where nobody may ask for the cluster's number, there is a name all the same", async () => {
  const { url, drop } = await createDatabase();
  onTestFinished(drop);
  const role = `asks_nothing_${Date.now()}`;
  await administer(
    url,
    `create role ${role} login password 'secret';
     grant select on installation to ${role};
     revoke execute on function pg_control_system() from public`,
  );
  onTestFinished(() => administer(url, `drop owned by ${role}; drop role ${role}`));
  const own = new URL(url);
  own.username = role;
  own.password = "secret";
  const name = await nameAt(own.href);
  expect(name).toMatch(/^[0-9a-f]{32}$/);
  expect(await nameAt(own.href)).toBe(name);
});
