/**
 * Draws docs/task-lifecycle.svg, and writes the table of transitions into docs/task-lifecycle.md, from the states and the
 * transitions of src/domain/task-state.ts.
 *
 *     node scripts/draw-lifecycle.ts [--check]
 *
 * `--check` writes nothing, and fails when one of the two is not what would be written.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { lifecyclePicture } from "./lifecycle/picture.ts";
import { waysTable } from "./lifecycle/ways.ts";
import { ROOT } from "./run.ts";

const PICTURE = "docs/task-lifecycle.svg";
const PAGE = "docs/task-lifecycle.md";
/** What the page has around the table. */
const BEGIN = "<!-- Written by scripts/draw-lifecycle.ts. Change scripts/lifecycle/ways.ts, not this table. -->\n";
const END = "<!-- End of the table. -->";

/** The page with the table as it should be. */
function withTable(page: string): string {
  const [begin, end] = [page.indexOf(BEGIN), page.indexOf(END)];
  if (begin < 0 || end < begin) throw new Error(`${PAGE} has no place for the table: ${BEGIN}…${END}`);
  return `${page.slice(0, begin + BEGIN.length)}\n${waysTable()}\n\n${page.slice(end)}`;
}

const read = (path: string): string => readFileSync(join(ROOT, path), "utf8");

const files = { [PICTURE]: lifecyclePicture(), [PAGE]: withTable(read(PAGE)) };
if (process.argv.includes("--check")) {
  const stale = Object.entries(files).filter(([path, text]) => read(path) !== text);
  for (const [path] of stale) console.error(`${path}: out of date`);
  if (stale.length > 0) {
    console.error('Run "npm run draw" and commit the result.');
    process.exitCode = 1;
  }
} else {
  for (const [path, text] of Object.entries(files)) writeFileSync(join(ROOT, path), text);
}
