/** Documents that are made from code: written, or compared with what would be written. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "../run.ts";

/** A document by its path in the repository; empty when there is none yet. */
export const readDocument = (path: string): string =>
  existsSync(join(ROOT, path)) ? readFileSync(join(ROOT, path), "utf8") : "";

/** A page with a part replaced: what stands between two marks, which stay. Throws when the page does not have them. */
export function withPart(path: string, begin: string, end: string, part: string): string {
  const page = readDocument(path);
  const from = page.indexOf(begin);
  const to = page.indexOf(end);
  if (from < 0 || to < from) throw new Error(`${path} has no place for what is written there: ${begin}…${end}`);
  return `${page.slice(0, from + begin.length)}\n${part}\n\n${page.slice(to)}`;
}

/**
 * Writes the documents. With `--check` among the program's arguments it writes nothing, and makes the program fail when one
 * of them is not what would be written.
 */
export function deliver(documents: Readonly<Record<string, string>>): void {
  if (!process.argv.includes("--check")) {
    for (const [path, text] of Object.entries(documents)) writeFileSync(join(ROOT, path), text);
    return;
  }
  const stale = Object.entries(documents).filter(([path, text]) => readDocument(path) !== text);
  if (stale.length === 0) return;
  for (const [path] of stale) console.error(`${path}: out of date`);
  console.error('Run "npm run draw" and commit the result.');
  process.exitCode = 1;
}
