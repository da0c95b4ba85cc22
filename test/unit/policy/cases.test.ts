/** The cases of `cases/`: every operator, scope, precedence and phase, in the format of `signalbox policy test`. */
import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { readPolicyCases, runPolicyCases } from "../../../src/domain/policy/cases.ts";
import { compilePolicy } from "../../../src/domain/policy/compile.ts";
import { readPolicy } from "../../../src/domain/policy/read.ts";

const FOLDER = new URL("cases/", import.meta.url);

describe.each(readdirSync(FOLDER))("%s", (file) => {
  const read = readPolicyCases(readFileSync(new URL(file, FOLDER), "utf8"), file);
  if ("problems" in read) throw new Error(JSON.stringify(read.problems, null, 2));
  const { policy, cases } = read.cases;
  if (typeof policy === "string") throw new Error("the cases here hold their policies");
  // As it comes from another thread.
  const compiled = compilePolicy([structuredClone(policy)]);
  test.each(runPolicyCases(compiled, cases))("$line: $name", ({ difference }) => {
    expect(difference).toBe("");
  });
});

describe("cases", () => {
  test("say what is wrong with them, and where", () => {
    const text =
      "policy: {version: 2}\ncases:\n  - {name: a, facts: {agnt_id: x, cost: -1}, expect: {efect: DENY}}\n  - {phase: EARLY}\n";
    const read = readPolicyCases(text, "cases.yaml");
    expect("problems" in read && read.problems.map(({ line, column, path }) => [line, column, path])).toEqual([
      [1, 19, "version"],
      [3, 23, "cases[0].facts.agnt_id"],
      [3, 35, "cases[0].facts.cost"],
      [3, 54, "cases[0].expect"],
      [3, 55, "cases[0].expect.efect"],
      [4, 5, "cases[1]"],
      [4, 5, "cases[1]"],
      [4, 13, "cases[1].phase"],
    ]);
  });

  test("say what came of them otherwise than expected", () => {
    const read = readPolicyCases(
      'policy: p.yaml\ncases: [{name: a, facts: {agent_id: b}, expect: {effect: ALLOW, rules: ["rules[7]"]}}]',
      "cases.yaml",
    );
    if ("problems" in read) throw new Error(JSON.stringify(read.problems));
    expect(read.cases.policy).toBe("p.yaml");
    const policy = readPolicy("version: 1\nrules: [{effect: DENY, when: {agent_id: b}}]");
    if ("problems" in policy) throw new Error(JSON.stringify(policy.problems));
    expect(runPolicyCases(compilePolicy([policy.document]), read.cases.cases)).toMatchObject([
      { passed: false, difference: "expected ALLOW by rules[7], but it is DENY by rules[0]" },
    ]);
  });
});
