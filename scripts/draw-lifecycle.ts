/**
 * Draws docs/task-lifecycle.svg, and writes the table of transitions into docs/task-lifecycle.md, from the states and the
 * transitions of src/domain/task-state.ts.
 *
 *     node scripts/draw-lifecycle.ts [--check]
 *
 * `--check` writes nothing, and fails when one of the two is not what would be written.
 */
import { deliver, withPart } from "./drawing/documents.ts";
import { lifecyclePicture } from "./lifecycle/picture.ts";
import { waysTable } from "./lifecycle/ways.ts";

const PAGE = "docs/task-lifecycle.md";
/** What the page has around the table. */
const BEGIN = "<!-- Written by scripts/draw-lifecycle.ts. Change scripts/lifecycle/ways.ts, not this table. -->\n";
const END = "<!-- End of the table. -->";

deliver({
  "docs/task-lifecycle.svg": lifecyclePicture(),
  [PAGE]: withPart(PAGE, BEGIN, END, waysTable()),
});
