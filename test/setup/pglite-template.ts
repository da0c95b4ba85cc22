/**
 * Data directories in which PGlite has a database already, migrated or empty. To make one takes seconds, to copy one does not:
 * each is made once for its version of PGlite and of the migrations, and kept beside the packages.
 */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { cp, mkdir, mkdtemp, rename, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { pino } from "pino";
import project from "../../package.json" with { type: "json" };
import { migrate } from "../../src/store/migrate.ts";
import { openPglite } from "../../src/store/pglite.ts";

const run = promisify(execFile);
const silent = pino({ level: "silent" });
const pathOf = (relative: string) => fileURLToPath(new URL(`../../${relative}`, import.meta.url));
const CACHE = pathOf("node_modules/.cache/signalbox");

/** A new data directory with a database: migrated, or with `empty` without any table. */
export async function pgliteDirectory({ empty = false } = {}): Promise<string> {
  const kind = empty ? "empty" : migrationsDigest();
  const template = join(CACHE, `pglite-${project.dependencies["@electric-sql/pglite"]}-${kind}`);
  if (!existsSync(template)) await make(template, empty);
  const dataDir = await temporaryDirectory();
  await copy(template, dataDir);
  return dataDir;
}

export const temporaryDirectory = (): Promise<string> => mkdtemp(join(tmpdir(), "signalbox-test-"));

async function make(template: string, empty: boolean): Promise<void> {
  const made = await temporaryDirectory();
  const db = await openPglite({ dataDir: made, log: silent });
  if (!empty) await migrate(db, silent);
  await db.close();
  // Under another name first, so that the template is there whole or not at all.
  const other = `${template}.${process.pid}`;
  await mkdir(other, { recursive: true });
  await copy(join(made, "pglite"), join(other, "pglite"));
  await rm(made, { recursive: true });
  // Another process may have been faster; its template is as good.
  await rename(other, template).catch(() => rm(other, { recursive: true }));
}

/** A thousand small files: the system's own command is several times as fast as Node, and does not block it. */
async function copy(from: string, to: string): Promise<void> {
  if (process.platform === "win32") return cp(from, to, { recursive: true });
  await run("cp", ["-R", existsSync(to) ? `${from}/.` : from, to]);
}

function migrationsDigest(): string {
  const folder = pathOf("src/store/migrations");
  const sum = createHash("sha256");
  for (const name of readdirSync(folder).sort()) sum.update(readFileSync(join(folder, name)));
  return sum.digest("hex").slice(0, 16);
}
