/** docs/policy.md is what the code does: its example is the one that is tested, and its facts are those that there are. */
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { FACTS, type FactInfo } from "../../../src/domain/policy/fact-table.ts";
import { readPolicy } from "../../../src/domain/policy/read.ts";

const PAGE = readFileSync(new URL("../../../docs/policy.md", import.meta.url), "utf8");

test("the example of the page is read", () => {
  const [, example] = /```yaml\n(version: 1\n[^`]+)```/.exec(PAGE) ?? [];
  expect(readPolicy(example!)).toMatchObject({
    document: { rules: [{}, {}], budgets: [{ limits: [{ units: 100_000_000 }] }] },
  });
});

test("the table of facts is that of the program", () => {
  const [, section] = PAGE.split("\n## Facts\n");
  const rows = [...section!.split("\n## ")[0]!.matchAll(/^\| `([^`]+)`\s*\|[^|]*\| (\w+)\s*\| (.+?)\s*\|$/gm)];
  const documented = rows.map(([, name, from]) => [name, from]).filter(([name]) => name !== "labels.<key>");
  const facts = Object.entries<FactInfo>(FACTS).map(([name, { from }]) => [name, from]);
  expect(documented.toSorted()).toEqual(facts.toSorted());
});
