/** What the claims of a token say of who acts, and of what it may do. */
import { expect, test } from "vitest";
import { knownScopes } from "../../../src/domain/identity/known-scopes.ts";
import { actorsOf, grantOf, subjectOf } from "../../../src/domain/identity/token-claims.ts";

const ISSUER = "https://id.example";
const ISSUERS = new Set([ISSUER, "http://127.0.0.1:9"]);
const NAMES = { workspace: "workspace", roles: "roles", scopes: "scope" };
const SCOPES = knownScopes();

const grant = (claims: object) => grantOf({ ...claims }, NAMES, SCOPES);
const actors = (act: unknown) => actorsOf(ISSUER, { act }, ISSUERS);

test("who acts now comes first, then whoever had acted before", () => {
  expect(actorsOf(ISSUER, {}, ISSUERS)).toEqual([]);
  expect(actors({ sub: "planner", act: { sub: "front", iss: "https://other.example" } })).toEqual([
    "jwt/id.example/planner",
    "jwt/other.example/front",
  ]);
  expect(actors({ sub: "planner", iss: "http://127.0.0.1:9" })).toEqual(["jwt/127.0.0.1%3A9/planner"]);
});

test.each([
  ["no object", "planner"],
  ["a list", [{ sub: "planner" }]],
  ["null", null],
  ["no subject", { iss: ISSUER }],
  ["a subject that is no text", { sub: 7 }],
  ["an issuer that is no address", { sub: "a", iss: "accounts" }],
  ["an issuer over http that is none of ours", { sub: "a", iss: "http://id.example" }],
  ["an actor before it that is none", { sub: "a", act: "b" }],
])("an actor that is %s is refused", (_, act) => {
  expect(() => actors(act)).toThrow(/act/);
});

const chain = (length: number, sub = "a"): object => {
  let act: object = { sub };
  for (let i = 1; i < length; i++) act = { sub, act };
  return act;
};

test("a chain has ten actors at most, and 2048 characters", () => {
  expect(actors(chain(10))).toHaveLength(10);
  expect(() => actors(chain(11))).toThrow(/more than 10 actors/);
  expect(() => actors(chain(5_000))).toThrow(/more than 10 actors/);
  expect(() => actors(chain(10, "a".repeat(400)))).toThrow(/too long/);
});

test("a subject must be there", () => {
  expect(subjectOf(ISSUER, { sub: "ann" })).toBe("jwt/id.example/ann");
  for (const sub of [undefined, "", 7, null, "a".repeat(600)]) {
    expect(() => subjectOf(ISSUER, { sub })).toThrow(/sub/);
  }
});

test("without a workspace a token says nothing of what it may do", () => {
  expect(grant({ roles: ["admin"], scope: "tasks.read" })).toBeUndefined();
});

test.each([
  ["a list", ["default"]],
  ["null", null],
  ["upper case", "Default"],
  ["a path", "a/b"],
  ["no text", ""],
])("a workspace that is %s is refused", (_, workspace) => {
  expect(() => grant({ workspace })).toThrow(/workspace/);
});

test("roles and scopes are lists, or texts of words; what nobody knows gives nothing", () => {
  expect(grant({ workspace: "w", roles: ["viewer", "root", 7, "viewer", "toString"] })).toEqual({
    workspaceId: "w",
    roles: ["viewer"],
    scopes: [],
  });
  expect(grant({ workspace: "w", roles: "caller  agent", scope: "openid tasks.read agents.write" })).toEqual({
    workspaceId: "w",
    roles: ["caller", "agent"],
    scopes: ["tasks.read", "agents.write"],
  });
  expect(grant({ workspace: "w", scope: { "tasks.read": true } })?.scopes).toEqual([]);
});

test("no token gives all scopes at once", () => {
  expect(grant({ workspace: "w", scope: ["*", "tasks.*"] })?.scopes).toEqual([]);
  expect(grant({ workspace: "w", scope: "* tasks.read" })?.scopes).toEqual(["tasks.read"]);
});

test("claims of other names do not count", () => {
  const names = { workspace: "https://example.com/ws", roles: "https://example.com/roles", scopes: "scp" };
  const claims = {
    "https://example.com/ws": "w",
    workspace: "x",
    "https://example.com/roles": ["viewer"],
    scp: ["tasks.read"],
  };
  expect(grantOf(claims, names, SCOPES)).toEqual({ workspaceId: "w", roles: ["viewer"], scopes: ["tasks.read"] });
  expect(grantOf({}, { ...names, workspace: "constructor" }, SCOPES)).toBeUndefined();
});
