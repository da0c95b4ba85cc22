/**
 * Draws docs/routing.svg, and writes the tables of the simulation into docs/routing.md, from what bench/simulation simulates.
 *
 *     node scripts/draw-routing.ts [--check]
 *
 * `--check` writes nothing, and fails when one of the two is not what would be written.
 */
import { simulateAll } from "../bench/simulation/results.ts";
import { deliver, withPart } from "./drawing/documents.ts";
import { simulationPicture } from "./routing/picture.ts";
import { simulationTables } from "./routing/tables.ts";

const PAGE = "docs/routing.md";
/** What the page has around the tables. */
const BEGIN = "<!-- Written by scripts/draw-routing.ts. Change bench/simulation, not these tables. -->\n";
const END = "<!-- End of the tables. -->";

const results = simulateAll();
deliver({
  "docs/routing.svg": simulationPicture(results),
  [PAGE]: withPart(PAGE, BEGIN, END, simulationTables(results)),
});
