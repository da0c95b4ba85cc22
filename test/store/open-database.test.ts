import { rm } from "node:fs/promises";
import { expect, inject, onTestFinished, test } from "vitest";
import { openDatabase } from "../../src/store/open-database.ts";
import { startEmbeddedPostgres } from "../setup/embedded-postgres.ts";
import { pgliteDirectory, silent } from "./backends.ts";
import { logLines } from "./log-lines.ts";

const forever = new AbortController().signal;
const options = { dataDir: "unused", poolSize: 2, log: silent, signal: forever };

test("without a URL the database is PGlite, in its directory", async () => {
  const dataDir = await pgliteDirectory();
  onTestFinished(() => rm(dataDir, { recursive: true }));
  const db = await openDatabase({ ...options, dataDir });
  expect(db.backend).toBe("pglite");
  await db.ping();
  await expect(openDatabase({ ...options, dataDir })).rejects.toMatchObject({ reason: "DATA_DIRECTORY_LOCKED" });
  await db.close();
});

test("a server that is away is waited for, and the log says so without the password", async () => {
  const server = await startEmbeddedPostgres();
  onTestFinished(() => server.remove());
  await server.stop();
  const { log, lines, until } = logLines();
  const opening = openDatabase({ ...options, url: server.url, log });
  const { host } = new URL(server.url);
  expect(await until("does not answer")).toMatchObject({ server: `${host}/postgres`, attempt: 1 });
  await server.start();
  const db = await opening;
  expect(db.backend).toBe("postgres");
  await db.close();
  expect(lines.at(-1)?.msg).toBe("the database answers");
  expect(JSON.stringify(lines)).not.toContain("password");
});

test("the waiting ends when it is told to", async () => {
  const { log, until } = logLines();
  const stop = new AbortController();
  const opening = openDatabase({ ...options, url: "postgres://u:p@127.0.0.1:1/d", log, signal: stop.signal });
  const ended = expect(opening).rejects.toThrow("told to");
  await until("does not answer");
  stop.abort(new Error("told to"));
  await ended;
});

test.each([
  ["a wrong password", (url: URL) => (url.password = "wrong"), /password authentication failed/],
  ["a user who is none", (url: URL) => (url.username = "stranger"), /password authentication failed/],
  ["a database that is none", (url: URL) => (url.pathname = "/nowhere"), /database "nowhere" does not exist/],
])("%s is told at once", async (_, change, words) => {
  const url = new URL(inject("postgresUrl"));
  change(url);
  const error = await openDatabase({ ...options, url: url.href }).catch((e: unknown) => e as Error);
  expect(error).toMatchObject({ reason: "DATABASE_REFUSED", message: expect.stringMatching(words) });
  expect((error as Error).message).toContain(url.host);
});

test.each(["secret@", "mysql://root:secret@127.0.0.1/d"])("%s is no URL of PostgreSQL", async (url) => {
  const error = await openDatabase({ ...options, url }).catch((e: unknown) => e as Error);
  expect(error).toMatchObject({ reason: "DATABASE_REFUSED" });
  expect((error as Error).message).not.toContain("secret");
});
