/** SPIFFE IDs: one spelling of each, and no other text. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { parseSpiffeId, spiffePrincipal } from "../../../src/domain/identity/spiffe-id.ts";

test("an ID has a trust domain and a path", () => {
  expect(parseSpiffeId("spiffe://mesh.example.com/ns/shop/sa/cart")).toEqual({
    trustDomain: "mesh.example.com",
    path: "ns/shop/sa/cart",
  });
  expect(spiffePrincipal({ trustDomain: "mesh", path: "a/b" })).toBe("spiffe/mesh/a/b");
});

test.each([
  ["another scheme", "https://mesh/a"],
  ["the scheme in another case", "SPIFFE://mesh/a"],
  ["no trust domain", "spiffe:///a"],
  ["the trust domain alone", "spiffe://mesh"],
  ["the trust domain alone, with a slash", "spiffe://mesh/"],
  ["a trust domain in upper case", "spiffe://Mesh/a"],
  ["a port", "spiffe://mesh:8443/a"],
  ["a user", "spiffe://user@mesh/a"],
  ["a query", "spiffe://mesh/a?b=c"],
  ["a fragment", "spiffe://mesh/a#b"],
  ["a percent sign", "spiffe://mesh/a%2Fb"],
  ["an empty segment", "spiffe://mesh/a//b"],
  ["a slash at the end", "spiffe://mesh/a/"],
  ["a segment of one dot", "spiffe://mesh/./a"],
  ["a segment of two dots", "spiffe://mesh/a/../b"],
  ["a line feed at the end", "spiffe://mesh/a\n"],
  ["a letter that is none of ASCII", "spiffe://mesh/ä"],
  ["a trust domain that is too long", `spiffe://${"a".repeat(256)}/a`],
  ["too many characters", `spiffe://mesh/${"a".repeat(600)}`],
])("%s is no ID of a workload", (_, text) => {
  expect(parseSpiffeId(text)).toBeUndefined();
});

test("whatever is read is written the same, and holds nothing that an id must not", () => {
  const pieces = fc.constantFrom(
    "spiffe://",
    "mesh",
    "/",
    "a",
    "..",
    ".",
    ":",
    "%41",
    "@",
    "?",
    "#",
    " ",
    "\n",
    "A",
    "-",
    "_",
  );
  const text = fc.oneof(
    fc.string(),
    fc.array(pieces, { maxLength: 10 }).map((parts) => parts.join("")),
    fc.array(pieces, { maxLength: 8 }).map((parts) => `spiffe://mesh/${parts.join("")}`),
  );
  fc.assert(
    fc.property(text, (uri) => {
      const id = parseSpiffeId(uri);
      if (!id) return;
      expect(`spiffe://${id.trustDomain}/${id.path}`).toBe(uri);
      expect(spiffePrincipal(id)).toMatch(/^spiffe\/[a-z0-9._-]+(\/[A-Za-z0-9._-]+)+$/);
    }),
    { numRuns: 2_000 },
  );
});
