/** Roles: their scopes are those that RPCs ask for, and the table of the documentation shows them. */
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { isRole, ONLY_ADMIN, ROLES, type Role, scopesOf } from "../../../src/domain/identity/roles.ts";
import { ALL_TASKS } from "../../../src/domain/identity/visibility.ts";

const roles = Object.keys(ROLES).filter(isRole);
const scopes = [...new Set([...roles.flatMap((role) => [...scopesOf([role])]), ...ONLY_ADMIN])]
  .filter((scope) => scope !== "*")
  .sort();

/** The table as documentation has it. */
function table(): string {
  const has = (role: Role, scope: string) => {
    const held = scopesOf([role]);
    return held.has(scope) || held.has("*") ? "yes" : "";
  };
  const row = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  return [
    row(["scope", ...roles]),
    row(["---", ...roles.map(() => "---")]),
    ...scopes.map((scope) => row([`\`${scope}\``, ...roles.map((role) => has(role, scope))])),
  ].join("\n");
}

const page = readFileSync(new URL("../../../docs/identity.md", import.meta.url), "utf8");

test("the documentation shows which role has which scope, and what each is for", () => {
  expect(page).toContain(table());
  for (const [role, about] of Object.entries(ROLES)) expect(page).toContain(`| \`${role}\` | ${about} |`);
});

test("whoever calls sees its own alone, unless it sees all", () => {
  const seeAll = roles.filter((role) => scopesOf([role]).has(ALL_TASKS) || scopesOf([role]).has("*"));
  expect(seeAll).toEqual(["viewer", "operator", "admin"]);
});

test("no name but a role's gives anything, and admins hold what there will be", () => {
  expect(scopesOf(["root", "constructor", ""])).toEqual(new Set());
  expect(scopesOf(["admin"])).toEqual(new Set(["*"]));
  expect(scopesOf(["root"], ["tasks.read"])).toEqual(new Set(["tasks.read"]));
});
