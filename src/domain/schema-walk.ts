/**
 * Walks over a JSON Schema (2020-12) before it is compiled: finds what would make it unsafe to hold or to run, and makes the copy
 * that is compiled, in which every schema says what it costs to apply it once.
 */
import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import { clip, type FieldViolation } from "./errors.ts";
import { linearPattern } from "./linear-pattern.ts";

/** Largest schema, in bytes of its JSON; how deep it may nest; most schemas in it. */
export const MAX_SCHEMA_BYTES = 65_536;
export const MAX_SCHEMA_DEPTH = 32;
export const MAX_SUBSCHEMAS = 256;

/** The keyword of the copy that holds the cost. */
export const COST_KEYWORD = "signalbox:cost";
const DIALECT = /^https:\/\/json-schema\.org\/draft\/2020-12\/schema#?$/;

/** Keywords whose value is a schema, a list of them, or schemas by name. Those of `IN_PLACE` look at the same value once more. */
const ONE = new Set([
  "additionalProperties",
  "contains",
  "contentSchema",
  "else",
  "if",
  "items",
  "not",
  "propertyNames",
  "then",
  "unevaluatedItems",
  "unevaluatedProperties",
]);
const LIST = new Set(["allOf", "anyOf", "oneOf", "prefixItems"]);
const BY_NAME = new Set(["$defs", "definitions", "dependentSchemas", "patternProperties", "properties"]);
const IN_PLACE = new Set(["allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas"]);
/** Keywords whose schemas may fail without harm; each of their failures is kept as an error until the end, so they cost more. */
const BRANCHES = new Set(["anyOf", "oneOf", "not", "if", "contains"]);
const COST_OF_BRANCH = 10;

export interface WalkedSchema {
  /** With paths that begin at the schema, as `.properties.city.pattern`. Empty: the copy can be compiled. */
  readonly violations: readonly FieldViolation[];
  readonly copy: JsonValue;
}

/** `schema` is JSON, at most MAX_SCHEMA_DEPTH deep. */
export function walkSchema(schema: JsonObject): WalkedSchema {
  const violations: FieldViolation[] = [];
  /** Every schema by its JSON pointer, with the pointers of those that look at the same value. */
  const inPlace = new Map<string, string[]>();
  const anchors = new Set<string>();
  const references: { from: string; to: string; field: string }[] = [];

  const refuse = (field: string, description: string) => violations.push({ field, description });

  function walk(value: JsonValue, pointer: string, field: string): JsonValue {
    inPlace.set(pointer, []);
    if (!isObject(value)) return value;
    let cost = 1;
    const copied = Object.entries(value).flatMap(([keyword, inner]): [string, JsonValue][] => {
      const at = `${field}${step(keyword)}`;
      const child = (below: JsonValue, names: readonly string[], where: string): JsonValue => {
        cost += BRANCHES.has(keyword) ? COST_OF_BRANCH : 1;
        const to = [pointer, keyword, ...names].join("/");
        if (IN_PLACE.has(keyword)) inPlace.get(pointer)!.push(to);
        return walk(below, to, where);
      };
      if (ONE.has(keyword)) return [[keyword, child(inner, [], at)]];
      if (LIST.has(keyword) && Array.isArray(inner)) {
        return [[keyword, inner.map((below, i) => child(below, [String(i)], `${at}[${i}]`))]];
      }
      if (BY_NAME.has(keyword) && isObject(inner)) {
        if (keyword === "patternProperties") for (const name of Object.keys(inner)) checkPattern(name, at);
        const schemas = Object.entries(inner).map(([name, below]): [string, JsonValue] => [
          name,
          child(below, [escapeToken(name)], `${at}${step(name)}`),
        ]);
        return [[keyword, Object.fromEntries(schemas)]];
      }
      cost += nodesOf(inner);
      return isKept(keyword, inner, pointer, at) ? [[keyword, inner]] : [];
    });
    return Object.fromEntries([...copied, [COST_KEYWORD, cost]]);
  }

  /** Checks a keyword that holds no schema. False: it is left out of the copy. */
  function isKept(keyword: string, value: JsonValue, pointer: string, at: string): boolean {
    switch (keyword) {
      case "$schema":
        if (typeof value !== "string" || !DIALECT.test(value)) {
          refuse(at, "only https://json-schema.org/draft/2020-12/schema is spoken here; use it, or leave $schema out");
        }
        return false;
      case "$id":
        if (pointer !== "")
          refuse(at, "a schema inside another has no $id here; refer to it by its place, as #/$defs/name");
        return false;
      case "$async":
        refuse(at, "is no keyword of JSON Schema; leave it out");
        return false;
      case "$anchor":
      case "$dynamicAnchor":
        if (typeof value === "string") anchors.add(value);
        return true;
      case "$ref":
      case "$dynamicRef":
        if (typeof value === "string") references.push({ from: pointer, to: value, field: at });
        return true;
      case "pattern":
        if (typeof value === "string") checkPattern(value, at);
        return true;
      default:
        return true;
    }
  }

  function checkPattern(pattern: string, at: string): void {
    try {
      linearPattern(pattern);
    } catch (error) {
      refuse(at, `"${clip(pattern)}" ${(error as Error).message}`);
    }
  }

  const copy = walk(schema, "", "");
  for (const { from, to, field } of references) {
    const target = pointerOf(to);
    if (target !== undefined && inPlace.has(target)) inPlace.get(from)!.push(target);
    else if (!to.startsWith("#")) refuse(field, "only references inside the schema are followed, as #/$defs/name");
    else if (!anchors.has(to.slice(1))) refuse(field, `there is no schema at "${clip(to)}"`);
  }
  if (inPlace.size > MAX_SUBSCHEMAS) refuse("", `holds ${inPlace.size} schemas; at most ${MAX_SUBSCHEMAS}`);
  else if (violations.length === 0 && hasCycle(inPlace))
    refuse("", "refers to itself without going deeper into the data");
  return { violations, copy };
}

/** Whether a way along the edges comes back to where it was. */
function hasCycle(edges: ReadonlyMap<string, readonly string[]>): boolean {
  const done = new Set<string>();
  const onTheWay = new Set<string>();
  const visit = (node: string): boolean => {
    if (onTheWay.has(node)) return true;
    if (done.has(node)) return false;
    onTheWay.add(node);
    const found = edges.get(node)!.some(visit);
    onTheWay.delete(node);
    done.add(node);
    return found;
  };
  return [...edges.keys()].some(visit);
}

/** The JSON pointer that a reference within the schema holds, in one spelling; undefined when it holds none. */
function pointerOf(reference: string): string | undefined {
  if (reference === "#") return "";
  if (!reference.startsWith("#/")) return undefined;
  try {
    return decodeURIComponent(reference.slice(1));
  } catch {
    return undefined;
  }
}

const escapeToken = (name: string): string => name.replaceAll("~", "~0").replaceAll("/", "~1");

/** A step of a path: `.city`, or `["the city"]` where a name is none that could follow a dot. */
export const step = (name: string): string =>
  /^[\p{L}_$][\p{L}\p{N}_$-]*$/u.test(name) ? `.${name}` : `[${JSON.stringify(name)}]`;

/** How many values a JSON value holds, itself included. */
function nodesOf(value: JsonValue): number {
  if (typeof value !== "object" || value === null) return 1;
  return Object.values(value).reduce((sum: number, inner) => sum + nodesOf(inner), 1);
}

/** Whether a JSON value nests deeper than `most` lists and objects. */
export function isDeeper(value: JsonValue, most: number): boolean {
  if (typeof value !== "object" || value === null) return false;
  return most === 0 || Object.values(value).some((inner) => isDeeper(inner, most - 1));
}

function isObject(value: JsonValue): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
