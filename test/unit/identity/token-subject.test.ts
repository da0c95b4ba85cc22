/** Ids of those whom tokens name: no two share one, and none can be taken for something else. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { subjectId } from "../../../src/domain/identity/token-subject.ts";

test.each([
  ["https://id.example.com", "ann", "jwt/id.example.com/ann"],
  ["https://id.example.com/realms/prod", "ann@example.com", "jwt/id.example.com/realms/prod/ann@example.com"],
  ["https://tenant.example/", "auth0|5f7c", "jwt/tenant.example//auth0%7C5f7c"],
  ["http://127.0.0.1:8080", "ann", "jwt/127.0.0.1%3A8080/ann"],
  ["https://id.example", "a/b:c *\n%é", "jwt/id.example/a%2Fb%3Ac%20%2A%0A%25%C3%A9"],
])("%s and %j", (issuer, subject, id) => {
  expect(subjectId(issuer, subject)).toBe(id);
});

test.each([
  ["an issuer that is no address", "id.example", "ann"],
  ["another scheme", "urn:issuer", "ann"],
  ["no subject", "https://id.example", ""],
  ["half a surrogate pair", "https://id.example", "a\ud800"],
  ["a subject that is too long", "https://id.example", "a".repeat(512)],
  ["one that is too long when it is encoded", "https://id.example", "é".repeat(90)],
])("%s has no id", (_, issuer, subject) => {
  expect(subjectId(issuer, subject)).toBeUndefined();
});

const pieces = fc.constantFrom(
  "a",
  "b",
  "/",
  "%",
  "%2F",
  ":",
  ".",
  "é",
  "\u0065\u0301",
  " ",
  "*",
  "\0",
  "\u2028",
  "|",
  "//",
);
const subject = fc.oneof(
  fc.string({ unit: "binary", maxLength: 20 }),
  fc.array(pieces, { minLength: 1, maxLength: 6 }).map((parts) => parts.join("")),
);
const issuer = fc
  .array(fc.constantFrom("a", "b", "/", "%2F", ":8443", ".", "é"), { minLength: 1, maxLength: 6 })
  .map((parts) => `https://id${parts.join("")}`);

test("two subjects share no id, whatever their issuers", () => {
  fc.assert(
    fc.property(issuer, subject, issuer, subject, (issuerA, a, issuerB, b) => {
      const [one, other] = [subjectId(issuerA, a), subjectId(issuerB, b)];
      if (one !== undefined) expect(one === other).toBe(issuerA === issuerB && a === b);
    }),
    { numRuns: 5_000 },
  );
});

test("an id holds what an id may, and no more than 512 characters", () => {
  fc.assert(
    fc.property(issuer, fc.string({ unit: "binary", maxLength: 300 }), (from, sub) => {
      const id = subjectId(from, sub);
      if (id === undefined) return;
      expect(id).toMatch(/^jwt\/[A-Za-z0-9._~@%/-]+$/);
      expect(id.length).toBeLessThanOrEqual(512);
    }),
    { numRuns: 2_000 },
  );
});
