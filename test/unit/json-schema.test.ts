/** What is a schema, what is refused as one, and what is said of data that break it. */
import { isDeepStrictEqual } from "node:util";
import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test, vi } from "vitest";
import { checkBudget, compileSchema, schemaViolations } from "../../src/domain/json-schema.ts";
import { linearPattern } from "../../src/domain/linear-pattern.ts";

const fieldsOf = (schema: JsonObject) => schemaViolations(schema, "capability.inputSchema").map(({ field }) => field);
const broken = (schema: JsonObject, data: JsonValue) => compileSchema(schema)(data).map(({ field }) => field);

const TREE: JsonObject = {
  $id: "https://example.com/tree",
  $schema: "https://json-schema.org/draft/2020-12/schema",
  $ref: "#/$defs/node",
  $defs: {
    node: {
      type: "object",
      properties: { "left/right": { type: "array", items: { $ref: "#/$defs/node" } }, leaf: { $ref: "#leaf" } },
    },
    leaf: { $anchor: "leaf", type: "integer" },
  },
};

describe("a schema", () => {
  test.each<[string, JsonObject]>([
    ["nothing asked", {}],
    ["references, an anchor, a dialect and an id", TREE],
    ["a place written in another way", { $ref: "#/%24defs/a~1b", $defs: { "a/b": true } }],
    ["formats and keywords that nobody knows", { format: "no-such-format", "x-mine": { deep: [1] }, type: "string" }],
    ["properties that have the names of keywords", { properties: { $ref: { type: "string" }, $id: {}, allOf: {} } }],
    ["data that look like references", { enum: [{ $ref: "https://example.com" }], default: { $ref: "#/nowhere" } }],
  ])("is taken: %s", (_, schema) => {
    expect(schemaViolations(schema, "s")).toEqual([]);
  });

  test.each<[string, JsonObject, string]>([
    ["an unknown type", { properties: { city: { type: "strin" } } }, ".properties.city.type"],
    ["a list where a schema should be", { items: [{}] }, ".items"],
    ["a reference to nothing", { properties: { "a b": { $ref: "#/$defs/x" } } }, '.properties["a b"].$ref'],
    ["a reference to what is no schema", { $ref: "#/x-mine", "x-mine": { type: "string" } }, ".$ref"],
    ["a reference to elsewhere", { allOf: [{}, { $ref: "https://example.com/schema" }] }, ".allOf[1].$ref"],
    ["a reference to another file", { $ref: "other.json#/a" }, ".$ref"],
    ["an anchor that is not there", { $dynamicRef: "#meta" }, ".$dynamicRef"],
    ["an id inside", { $defs: { a: { $id: "https://example.com/a" } } }, ".$defs.a.$id"],
    ["another dialect", { $schema: "http://json-schema.org/draft-07/schema#" }, ".$schema"],
    ["a check that waits", { $async: true }, ".$async"],
    ["look-around", { properties: { a: { pattern: "(?=a)b" } } }, ".properties.a.pattern"],
    ["a back-reference", { patternProperties: { "(a)\\1": {} } }, ".patternProperties"],
    ["a long pattern", { pattern: "a".repeat(257) }, ".pattern"],
    ["a pattern that repeats repetitions", { pattern: "((a{1,50}){1,10}b){1,2}" }, ".pattern"],
    ["a circle", { $ref: "#" }, ""],
    ["a longer circle", { $ref: "#/$defs/a", $defs: { a: { anyOf: [{ not: { $ref: "#/$defs/a" } }] } } }, ""],
    ["a keyword that Ajv refuses", { nullable: true }, ""],
    ["too many schemas", { allOf: Array.from({ length: 300 }, () => ({})) }, ""],
    ["too many bytes", { description: "é".repeat(33_000) }, ""],
  ])("is refused: %s", (_, schema, path) => {
    expect(fieldsOf(schema)).toEqual([`capability.inputSchema${path}`]);
  });

  test("is refused: too deep, however deep it is", () => {
    let schema: JsonObject = {};
    for (let depth = 0; depth < 5000; depth++) schema = { not: schema };
    expect(fieldsOf(schema)).toEqual(["capability.inputSchema"]);
  });

  test("names all that is wrong with it, as far as it is read", () => {
    expect(fieldsOf({ properties: { a: { pattern: "(" }, b: { $ref: "#/c" } } })).toEqual([
      "capability.inputSchema.properties.a.pattern",
      "capability.inputSchema.properties.b.$ref",
    ]);
  });

  test("never makes anything but violations, whatever JSON it is", () => {
    const keyword = fc.constantFrom(
      "$ref",
      "$defs",
      "type",
      "items",
      "properties",
      "pattern",
      "allOf",
      "not",
      "enum",
      "$id",
    );
    const { schema } = fc.letrec<{ schema: JsonObject; value: JsonValue }>((tie) => ({
      value: fc.oneof(
        { maxDepth: 4 },
        fc.constantFrom<JsonValue>("string", "#", "#/$defs/a", "(", "a+", 1, true, null),
        fc.array(tie("value"), { maxLength: 3 }),
        tie("schema"),
      ),
      schema: fc.dictionary(fc.oneof(keyword, fc.constantFrom("a", "__proto__", "constructor")), tie("value"), {
        maxKeys: 4,
      }),
    }));
    fc.assert(
      fc.property(schema, fc.jsonValue(), (schema, data) => {
        if (schemaViolations(schema, "s").length > 0) return;
        expect(compileSchema(schema)(data as JsonValue)).toBeInstanceOf(Array);
      }),
    );
  });
});

describe("data", () => {
  const JOURNEY: JsonObject = {
    type: "object",
    required: ["city", "days"],
    additionalProperties: false,
    properties: {
      city: { type: "string", pattern: "^[A-Z]" },
      days: { type: "integer", minimum: 1 },
      class: { enum: ["first", "second"] },
      stops: { type: "array", uniqueItems: true, items: { type: "object", properties: { "the name": { const: 1 } } } },
    },
  };

  test("fit", () => {
    expect(broken(JOURNEY, { city: "Lisbon", days: 3, stops: [{ "the name": 1 }, {}] })).toEqual([]);
    expect(broken(TREE, { "left/right": [{ leaf: 1 }, { "left/right": [] }] })).toEqual([]);
  });

  test("do not fit, with the path of each fault and the way to mend it", () => {
    const check = compileSchema(JOURNEY);
    expect(check({ city: "lisbon", class: "third", stops: [{ "the name": 2 }], "what else": 1 })).toEqual([
      { field: ".days", description: "is required" },
      { field: '["what else"]', description: "is not known to the schema; leave it out" },
      { field: ".city", description: 'must match pattern "^[A-Z]"' },
      { field: ".class", description: 'must be one of ["first","second"]' },
      { field: '.stops[0]["the name"]', description: "must be 1" },
    ]);
    expect(check("Lisbon")).toEqual([{ field: "", description: "must be object" }]);
    expect(broken(TREE, { "left/right": [{ leaf: "x" }] })).toEqual(['["left/right"][0].leaf']);
  });

  test("are told so many faults at most, and of long names only the beginning", () => {
    const many = Object.fromEntries(Array.from({ length: 1000 }, (_, i) => [`${"x".repeat(500)}${i}`, 1]));
    const violations = compileSchema(JOURNEY)({ ...many, city: "A", days: 1 });
    expect(violations.length).toBeLessThanOrEqual(16);
    for (const { field } of violations) expect(field.length).toBeLessThan(200);
  });

  test("the check of a schema object is made once", () => {
    expect(compileSchema(JOURNEY)).toBe(compileSchema(JOURNEY));
    expect(() => compileSchema({ type: "strin" })).toThrow();
  });

  test("items are unique as JSON is equal", () => {
    const value = fc.jsonValue({ maxDepth: 2 });
    const unique: JsonObject = { uniqueItems: true };
    const isEqual = (a: unknown, b: unknown): boolean => {
      if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return a === b;
      if (Array.isArray(a) !== Array.isArray(b)) return false;
      const keys = Object.keys(a);
      const at = (of: object, key: string) => (of as Record<string, unknown>)[key];
      return (
        keys.length === Object.keys(b).length && keys.every((k) => Object.hasOwn(b, k) && isEqual(at(a, k), at(b, k)))
      );
    };
    fc.assert(
      fc.property(fc.array(value, { maxLength: 6 }), (items) => {
        const repeats = items.some((item, i) => items.slice(0, i).some((other) => isEqual(item, other)));
        expect(broken(unique, items as JsonValue)).toEqual(repeats ? [""] : []);
      }),
    );
  });

  const tooMuch = [{ field: "", description: expect.stringContaining("send less") }];

  test("that branch without end are given up", () => {
    const level = (i: number): JsonObject => ({
      anyOf: [{ $ref: `#/$defs/a${i + 1}` }, { $ref: `#/$defs/a${i + 1}` }],
    });
    const $defs = Object.fromEntries(Array.from({ length: 60 }, (_, i) => [`a${i}`, level(i)]));
    const schema: JsonObject = { $ref: "#/$defs/a0", $defs: { ...$defs, a60: { type: "string" } } };
    expect(schemaViolations(schema, "s")).toEqual([]);
    expect(compileSchema(schema)(1)).toEqual(tooMuch);
  });

  test("that are large under many patterns are given up", () => {
    const schema: JsonObject = { allOf: Array.from({ length: 200 }, (_, i) => ({ pattern: `^(a|b)*${i}?` })) };
    expect(compileSchema(schema)("ab".repeat(100_000))).toEqual(tooMuch);
    expect(compileSchema(schema)("ab".repeat(100))).toEqual([]);
  });

  test("that would be compared each with each are compared once", () => {
    const items = Array.from({ length: 50_000 }, (_, i) => ({ i }));
    expect(compileSchema({ uniqueItems: true })(items)).toEqual([]);
  });

  test("of very many properties are given up before they have been listed often", () => {
    const data = Object.fromEntries(Array.from({ length: 100_000 }, (_, i) => [`k${i}`, i]));
    const objects = Array.from({ length: 10 }, (_, i) => ({ [`a${i}`]: 1 }));
    const anyOf = Array.from({ length: 22 }, () => ({ enum: objects }));
    const nested = Array.from({ length: 22 }, () => ({ enum: objects.map((below) => ({ below })) }));
    const seen = vi.spyOn(Object, "keys");
    try {
      expect(compileSchema({ anyOf })(data)).toEqual(tooMuch);
      expect(compileSchema({ anyOf: nested })({ below: data })).toEqual(tooMuch);
      const listed = seen.mock.calls.filter(([value]) => value === data).length;
      expect(listed).toBeLessThan(12);
    } finally {
      seen.mockRestore();
    }
  });

  test("are equal to allowed values as JSON is equal", () => {
    const value = fc.jsonValue({ maxDepth: 2 });
    fc.assert(
      fc.property(fc.array(value, { minLength: 1, maxLength: 4 }), value, fc.boolean(), (allowed, other, isOne) => {
        const data = JSON.parse(JSON.stringify(isOne ? allowed[0] : other)) as JsonValue;
        const fits = allowed.some((each) => isDeepStrictEqual(JSON.parse(JSON.stringify(each)), data));
        expect(broken({ enum: allowed } as JsonObject, data)).toEqual(fits ? [] : [""]);
        expect(broken({ anyOf: allowed.map((each) => ({ const: each })) } as JsonObject, data).length === 0).toBe(fits);
      }),
    );
  });

  test("of one message share what their checks may cost", () => {
    const check = compileSchema({ items: { type: "integer" } });
    const data = Array.from({ length: 100_000 }, (_, i) => i);
    const budget = checkBudget();
    const found = Array.from({ length: 20 }, () => check(data, budget));
    expect(found[0]).toEqual([]);
    expect(found.at(-1)).toEqual(tooMuch);
    expect(check(data)).toEqual([]);
  });
});

describe("a pattern", () => {
  test("matches what JavaScript's matches", () => {
    const patterns = ["^[a-c]+$", "(a|b)*c", "^\\w+@\\w+\\.\\w{2,3}$", "\\d{2}", "^.{3}$", "b\\b", "[^a]", "\\u0061"];
    const text = fc.string({ unit: fc.constantFrom("a", "b", "c", "@", ".", "1", "2", " ", "é"), maxLength: 12 });
    fc.assert(
      fc.property(fc.constantFrom(...patterns), text, (pattern, text) => {
        expect(linearPattern(pattern).test(text)).toBe(new RegExp(pattern, "u").test(text));
      }),
    );
  });

  test("that backtracking would never end is decided", () => {
    expect(linearPattern("^(a+)+$").test(`${"a".repeat(50_000)}!`)).toBe(false);
  });
});
