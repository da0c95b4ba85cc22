/**
 * JSON Schema (2020-12) by Ajv: whether a schema can be used, and whether data fit it. Schemas and data come from others, so
 * neither may keep the process busy: patterns run in linear time, references stay inside the schema, formats are not
 * checked, and every check has a budget.
 */
import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import { _, Name } from "ajv";
import { Ajv2020, type ErrorObject, type ValidateFunction } from "ajv/dist/2020.js";
import { clip, type FieldViolation } from "./errors.ts";
import { linearPattern } from "./linear-pattern.ts";
import { COST_KEYWORD, isDeeper, MAX_SCHEMA_BYTES, MAX_SCHEMA_DEPTH, step, walkSchema } from "./schema-walk.ts";

/**
 * What checks may cost together: a schema applied once to a small value is 1 or a little more, some 50 nanoseconds. In all some
 * 50 milliseconds, for which nothing else goes on.
 */
const MAX_COST = 1_000_000;
/** The same for finding all violations after the first: large data that are wrong everywhere are not worth more. */
const MAX_COST_OF_ALL = 10_000;
/** Violations told at most. */
const MAX_VIOLATIONS = 16;
/** What a violation repeats of a schema or of data, in characters. */
const MAX_ECHO_LENGTH = 256;

/** What it takes to see one property of an object, of a small one and of one that is kept as a table. */
const COST_OF_PROPERTY = 4;
const COST_IN_TABLE = 10;
const LEAST_TABLE = 1_000;
/** What it takes to make the text of one value. */
const COST_OF_TEXT = 5;

/** What checks may still cost. */
export interface CheckBudget {
  left: number;
}

/** What the checks of one message, or of one answer, may cost together. */
export const checkBudget = (): CheckBudget => ({ left: MAX_COST });

/** The budget of the check that runs: checks are synchronous, so there is one at a time. */
let budget: CheckBudget = { left: Number.POSITIVE_INFINITY };

class BudgetSpent extends Error {}

function spend(cost: number): void {
  budget.left -= cost;
  if (budget.left < 0) throw new BudgetSpent();
}

/**
 * Tells which violations data have; none when they fit. Paths begin at the data: `.city`, `.stops[0]["the name"]`, or empty.
 * Takes what it costs from the budget; without one it has one of its own.
 */
export type SchemaCheck = (data: JsonValue, budget?: CheckBudget) => FieldViolation[];

/**
 * What keeps a schema from being used, with paths below `field`: it is larger than 64 KiB, nests deeper than 32 levels, holds
 * more than 256 schemas, is not of the dialect 2020-12, refers outside itself or to nothing, has a pattern that is not
 * taken, or does not compile.
 */
export function schemaViolations(schema: JsonObject, field: string): FieldViolation[] {
  return faultsOf(schema).map(({ field: at, description }) => ({ field: field + at, description }));
}

function faultsOf(schema: JsonObject): readonly FieldViolation[] {
  if (isDeeper(schema, MAX_SCHEMA_DEPTH)) {
    return [{ field: "", description: `is nested deeper than ${MAX_SCHEMA_DEPTH} levels` }];
  }
  if (Buffer.byteLength(JSON.stringify(schema)) > MAX_SCHEMA_BYTES) {
    return [{ field: "", description: `is larger than ${MAX_SCHEMA_BYTES} bytes` }];
  }
  const { violations, copy } = walkSchema(schema);
  if (violations.length > 0) return violations.slice(0, MAX_VIOLATIONS);
  dialect ??= new Ajv2020({ ...OPTIONS, meta: true });
  budget = { left: Number.POSITIVE_INFINITY };
  if (!dialect.validateSchema(schema)) return violationsOf(dialect.errors ?? [], schema).slice(0, 1);
  try {
    compile(copy, false);
    return [];
  } catch (error) {
    return [{ field: "", description: `does not compile: ${clip((error as Error).message, MAX_ECHO_LENGTH)}` }];
  }
}

const checks = new WeakMap<JsonObject, SchemaCheck>();

/**
 * The check of a schema without violations; kept for as long as the schema object. Throws an Error for a schema that does not
 * compile. Data that take too much to check are a violation too.
 */
export function compileSchema(schema: JsonObject): SchemaCheck {
  let check = checks.get(schema);
  if (!check) {
    check = createCheck(walkSchema(schema).copy);
    checks.set(schema, check);
  }
  return check;
}

function createCheck(copy: JsonValue): SchemaCheck {
  const first = compile(copy, false);
  let all: ValidateFunction | undefined;
  return (data, from = checkBudget()) => {
    const found = run(first, data, from);
    if (found === undefined) {
      return [{ field: "", description: "takes too much to check against the schema; send less at a time" }];
    }
    if (found.length === 0) return [];
    // Only who is wrong pays for a complete list, and only a short one is worth making.
    all ??= compile(copy, true);
    return violationsOf(run(all, data, { left: MAX_COST_OF_ALL }) ?? found, data);
  };
}

/** The errors of one check; undefined when its budget was spent, or the schema goes round without end. */
function run(validate: ValidateFunction, data: JsonValue, from: CheckBudget): readonly ErrorObject[] | undefined {
  budget = from;
  try {
    return validate(data) ? [] : (validate.errors ?? []);
  } catch (error) {
    if (error instanceof BudgetSpent || error instanceof RangeError) return undefined;
    throw error;
  }
}

/** Compiles patterns for Ajv, and lets each use of one cost what it may cost. */
function countedPattern(pattern: string): { test(text: string): boolean } {
  const compiled = linearPattern(pattern);
  const costOfCharacter = Math.ceil(compiled.size / 16);
  return {
    test(text) {
      spend(1 + text.length * costOfCharacter);
      return compiled.test(text);
    },
  };
}
// What Ajv would put into code that it writes to a file; it writes none.
countedPattern.code = "countedPattern";

const OPTIONS = {
  strict: false,
  logger: false,
  validateFormats: false,
  validateSchema: false,
  meta: false,
  // A reference is a call, so that what it leads to is not written out at each place that refers to it.
  inlineRefs: false,
  // Optimized code is no faster to run here, and takes several times longer to make.
  code: { optimize: false, regExp: countedPattern as typeof countedPattern & RegExpEngine },
} as const;

type RegExpEngine = (pattern: string, unicode: string) => RegExp;

let dialect: Ajv2020 | undefined;

/** Every schema gets an Ajv of its own, because an Ajv keeps all that it ever compiled. */
function compile(copy: JsonValue, allErrors: boolean): ValidateFunction {
  const ajv = new Ajv2020({ ...OPTIONS, allErrors });
  ajv.addKeyword({
    keyword: COST_KEYWORD,
    schemaType: "number",
    errors: false,
    validate(cost: number, data: JsonValue) {
      spend(cost + sizeOf(data));
      return true;
    },
  });
  payFirst(ajv);
  // Ajv compares every item with every other.
  ajv.removeKeyword("uniqueItems");
  ajv.addKeyword({
    keyword: "uniqueItems",
    type: "array",
    schemaType: "boolean",
    error: { message: "must NOT have duplicate items" },
    validate: (unique: boolean, items: JsonValue[]) => !unique || new Set(items.map(canonical)).size === items.length,
  });
  // Ajv lists the properties of data anew for each value that it compares them with.
  replace(ajv, "enum", "allowedValues", (allowed: JsonValue[], data) => allowed.some((value) => isEqual(value, data)));
  replace(ajv, "const", "allowedValue", isEqual);
  return ajv.compile(copy as JsonObject);
}

/** Puts our own check in the place of one of Ajv's. `param` is what its errors call the keyword's value. */
function replace<T>(ajv: Ajv2020, keyword: string, param: string, validate: (value: T, data: JsonValue) => boolean) {
  ajv.removeKeyword(keyword);
  const params = ({ schemaCode }: { schemaCode: unknown }) => _`{${new Name(param)}: ${schemaCode as Name}}`;
  ajv.addKeyword({ keyword, error: { message: "must be an allowed value", params }, validate });
}

/** Whether a value of a schema and data are equal as JSON. */
function isEqual(value: JsonValue, data: JsonValue): boolean {
  if (typeof value !== "object" || value === null || typeof data !== "object" || data === null) return value === data;
  if (Array.isArray(value) || Array.isArray(data)) {
    if (!Array.isArray(value) || !Array.isArray(data) || value.length !== data.length) return false;
    spend(value.length);
    return value.every((item, i) => isEqual(item, data[i]!));
  }
  spend(1 + sizeOf(data));
  const names = Object.keys(value);
  if (names.length !== Object.keys(data).length) return false;
  return names.every((name) => Object.hasOwn(data, name) && isEqual(value[name]!, data[name]!));
}

/** Lets a schema pay before it is applied: Ajv would come to our keyword after those that apply further schemas. */
function payFirst({ RULES }: Ajv2020): void {
  const group = RULES.rules.find(({ rules }) => rules.some(({ keyword }) => keyword === COST_KEYWORD))!;
  const rule = group.rules.find(({ keyword }) => keyword === COST_KEYWORD)!;
  group.rules.splice(group.rules.indexOf(rule), 1);
  RULES.rules.unshift({ rules: [rule] });
}

/** What keywords that look at a whole value cost beside their schema. */
function sizeOf(data: JsonValue): number {
  if (typeof data === "string") return data.length >> 6;
  if (typeof data !== "object" || data === null) return 0;
  if (Array.isArray(data)) return data.length;
  const properties = Object.keys(data).length;
  return properties * (properties < LEAST_TABLE ? COST_OF_PROPERTY : COST_IN_TABLE);
}

/** A text that is the same for equal values and for no others. */
function canonical(value: JsonValue): string {
  spend(COST_OF_TEXT + sizeOf(value));
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  const keys = Object.keys(value).sort();
  return `{${keys.map((key) => `${JSON.stringify(key)}:${canonical(value[key]!)}`).join(",")}}`;
}

function violationsOf(errors: readonly ErrorObject[], data: JsonValue): FieldViolation[] {
  const told = new Map<string, FieldViolation>();
  for (const error of errors) {
    const violation = violationOf(error, data);
    told.set(`${violation.field} ${violation.description}`, violation);
    if (told.size === MAX_VIOLATIONS) break;
  }
  return [...told.values()];
}

function violationOf({ keyword, instancePath, params, message }: ErrorObject, data: JsonValue): FieldViolation {
  const at = pathOf(instancePath, data);
  const inside = (name: unknown) => `${at}${step(clip(String(name)))}`;
  switch (keyword) {
    case "required":
      return { field: inside(params.missingProperty), description: "is required" };
    case "additionalProperties":
      return { field: inside(params.additionalProperty), description: "is not known to the schema; leave it out" };
    case "unevaluatedProperties":
      return { field: inside(params.unevaluatedProperty), description: "is not known to the schema; leave it out" };
    case "enum":
      return { field: at, description: `must be one of ${echo(params.allowedValues)}` };
    case "const":
      return { field: at, description: `must be ${echo(params.allowedValue)}` };
    default:
      return { field: at, description: clip(message ?? `breaks "${keyword}"`, MAX_ECHO_LENGTH) };
  }
}

const echo = (value: unknown): string => clip(JSON.stringify(value), MAX_ECHO_LENGTH);

/** A JSON pointer into `data` as a path. */
function pathOf(pointer: string, data: JsonValue): string {
  let at: JsonValue | undefined = data;
  let path = "";
  for (const token of pointer.split("/").slice(1)) {
    const name = token.replaceAll("~1", "/").replaceAll("~0", "~");
    path += Array.isArray(at) ? `[${name}]` : step(clip(name));
    at = (at as Record<string, JsonValue> | undefined)?.[name];
  }
  return path;
}
