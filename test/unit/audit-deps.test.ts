/** What the look at dependencies finds, and that it finds something where something is wrong. */
import { describe, expect, test } from "vitest";
import { isAllowed, knownVulnerabilities, lockFileProblems } from "../../scripts/audit-deps.ts";

const good = { version: "1.0.0", integrity: "sha512-abc", license: "MIT" };
const of = (each: object, path = "node_modules/a", allowed = {}) => lockFileProblems({ "": {}, [path]: each }, allowed);

describe("the lock file", () => {
  test("is as it should be", () => {
    expect(of(good)).toEqual([]);
    expect(of({ ...good, hasInstallScript: true }, "node_modules/a", { a: true })).toEqual([]);
    expect(of({ ...good, license: "GPL-3.0", dev: true })).toEqual([]);
    expect(of({ link: true })).toEqual([]);
  });

  test.each<[string, object, string]>([
    ["no integrity", { integrity: undefined }, "no integrity"],
    ["a weak one", { integrity: "sha1-abc" }, "SHA-512"],
    ["an address", { resolved: "https://elsewhere.example.com/a.tgz" }, "elsewhere.example.com"],
    ["a script that nobody allowed", { hasInstallScript: true }, "allowScripts"],
    ["another licence", { license: "GPL-3.0-only" }, "GPL-3.0-only"],
    ["no licence", { license: undefined }, "none that is named"],
  ])("has a package with %s", (_, wrong, words) => {
    const problems = of({ ...good, ...wrong }, "node_modules/b/node_modules/@s/a");
    expect(problems).toEqual([expect.stringContaining(words)]);
    expect(problems[0]).toContain("@s/a@1.0.0");
  });

  test("has no package that scripts are allowed of", () => {
    expect(of(good, "node_modules/a", { gone: true })).toEqual([expect.stringContaining("gone")]);
  });
});

test("an expression of licences is allowed where one can keep to what is allowed", () => {
  expect(["MIT", "(MIT OR GPL-2.0)", "MIT AND ISC"].map(isAllowed)).toEqual([true, true, true]);
  expect(["GPL-2.0", "MIT AND GPL-2.0", "", undefined].map(isAllowed)).toEqual([false, false, false, false]);
});

describe("what npm says", () => {
  test("of vulnerabilities is told, each", () => {
    const vulnerabilities = { a: { severity: "high", range: "<2" } };
    expect(knownVulnerabilities(JSON.stringify({ vulnerabilities }))).toEqual({
      problems: ["a <2 is known to be vulnerable (high)."],
      unasked: [],
    });
    expect(knownVulnerabilities('{"vulnerabilities":{}}')).toEqual({ problems: [], unasked: [] });
  });

  test.each(["", "not found", '{"message":"405 Method Not Allowed"}', '{"error":{"summary":"no audit"}}'])(
    "when it could not ask (%j) is no all-clear",
    (written) => {
      const { problems, unasked } = knownVulnerabilities(written);
      expect([problems, unasked.length]).toEqual([[], 1]);
    },
  );
});
