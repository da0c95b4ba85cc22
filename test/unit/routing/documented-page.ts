/** Reads docs/routing.md, whose numbers tests reckon with. */
import { readFileSync } from "node:fs";

const PAGE = readFileSync(new URL("../../../docs/routing.md", import.meta.url), "utf8");

/** From a heading to the next. */
export function sectionOf(heading: string): string {
  const [, section] = PAGE.split(`\n## ${heading}\n`);
  if (section === undefined) throw new Error(`docs/routing.md has no section "${heading}"`);
  return section.split("\n## ")[0]!;
}

/** The cells of the table whose first line begins so, without its headings. */
export function rowsAfter(text: string, begin: string): string[][] {
  const lines = text.split("\n");
  const first = lines.findIndex((line) => line.startsWith(begin));
  const rest = lines.slice(first + 2);
  return rest.slice(0, rest.indexOf("")).map((line) =>
    line
      .split("|")
      .slice(1, -1)
      .map((cell) => cell.trim().replaceAll("`", "")),
  );
}
