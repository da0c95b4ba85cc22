/**
 * Bundles the command `signalbox` with what it imports into dist/bin/: a process that reads a few files starts in half the time
 * of one that reads two thousand. PGlite stays a package, because it finds its WebAssembly beside itself.
 *
 *     node scripts/bundle.ts
 */
import { mkdir, readdir, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { rolldown } from "rolldown";
import { ROOT } from "./run.ts";

const FOLDER = join(ROOT, "dist", "bin");

/** The command, and what it starts as threads of its own. */
const ENTRIES = {
  main: "src/main.ts",
  "pglite-worker": "src/store/pglite-worker.ts",
  "policy-reader-worker": "src/services/policy-reader-worker.ts",
};
/** What decides how the bundle comes out. */
const SOURCES = ["src", "gen", "package-lock.json", "scripts/bundle.ts"];

/** The bundled command. */
export const COMMAND: string = join(FOLDER, "main.js");

/** Bundles the command anew, and removes what an earlier bundle left. */
async function bundle(): Promise<void> {
  const build = await rolldown({
    input: ENTRIES,
    cwd: ROOT,
    platform: "node",
    // pg looks for pg-native, which nobody has installed here.
    external: [/^@electric-sql\/pglite/, "pg-native"],
    logLevel: "warn",
  });
  const { output } = await build.generate({
    format: "esm",
    entryFileNames: "[name].js",
    chunkFileNames: "[name]-[hash].js",
  });
  await build.close();
  await mkdir(FOLDER, { recursive: true });
  // The command last, each whole or not at all: another process may be starting one.
  for (const file of output.toSorted((a, b) => Number(a.fileName === "main.js") - Number(b.fileName === "main.js"))) {
    const path = join(FOLDER, file.fileName);
    await writeFile(`${path}.${process.pid}`, file.type === "chunk" ? file.code : file.source);
    await rename(`${path}.${process.pid}`, path);
  }
  const names = new Set(output.map(({ fileName }) => fileName));
  for (const name of await readdir(FOLDER)) if (!names.has(name)) await rm(join(FOLDER, name), { force: true });
}

/** Bundles the command unless that was done since its sources have changed. */
export async function bundleIfChanged(): Promise<void> {
  const [made, changed] = [await changedAt([COMMAND]), await changedAt(SOURCES.map((name) => join(ROOT, name)))];
  if (made < changed) await bundle();
}

/** When the youngest of some files and of what is in some folders was changed, in milliseconds since 1970; 0 for none. */
async function changedAt(paths: readonly string[]): Promise<number> {
  const times = paths.map(async (path) => {
    const found = await stat(path).catch(() => undefined);
    if (!found?.isDirectory()) return found?.mtimeMs ?? 0;
    const names = await readdir(path);
    return Math.max(found.mtimeMs, await changedAt(names.map((name) => join(path, name))));
  });
  return Math.max(0, ...(await Promise.all(times)));
}

if (import.meta.main) await bundle();
