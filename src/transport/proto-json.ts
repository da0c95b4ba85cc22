/**
 * ProtoJSON in and out, for the JSON bindings. Unknown fields of A2A's messages are ignored (A2A specification, section
 * 5.7), those of our own are refused: whoever misspells a filter must not get everything. Whatever does not fit is
 * INVALID_ARGUMENT and names the field by its path.
 */
import {
  create,
  type DescEnum,
  type DescField,
  type DescMessage,
  fromJson,
  getOption,
  hasOption,
  type JsonObject,
  type JsonValue,
  type Message,
  toJson,
} from "@bufbuild/protobuf";
import { FieldBehavior, field_behavior } from "../../gen/google/api/field_behavior_pb.ts";
import { detailRegistry } from "../domain/error-details.ts";
import { clip, invalidArgument, type SignalboxError } from "../domain/errors.ts";
import { withMilliseconds } from "../domain/json-times.ts";
import { suggestion } from "../domain/nearest.ts";
import { MAX_JSON_MESSAGE_DEPTH } from "../domain/nesting.ts";

/** How deep objects and arrays may nest in JSON text, read or not. */
export const MAX_JSON_DEPTH = 100;

const readOptions = { recursionLimit: MAX_JSON_MESSAGE_DEPTH };

const utf8 = new TextDecoder("utf-8", { fatal: true });
const [QUOTE, BACKSLASH, OPEN_ARRAY, CLOSE_ARRAY, OPEN_OBJECT, CLOSE_OBJECT] = Buffer.from('"\\[]{}');

/** Reads JSON text. Throws INVALID_ARGUMENT for what is no UTF-8, no JSON, or nested deeper than MAX_JSON_DEPTH. */
export function parseJson(bytes: Buffer): JsonValue {
  if (nestsDeeperThan(MAX_JSON_DEPTH, bytes)) {
    throw badBody(`The JSON is nested deeper than ${MAX_JSON_DEPTH} levels.`);
  }
  const text = decodeText(bytes);
  try {
    return JSON.parse(text);
  } catch (error) {
    throw badBody(`The body is no JSON: ${clip((error as Error).message, 256)}`, error);
  }
}

/** Reads UTF-8. Throws INVALID_ARGUMENT for what is none. */
export function decodeText(bytes: Buffer): string {
  try {
    return utf8.decode(bytes);
  } catch (error) {
    throw badBody("The body is not valid UTF-8.", error);
  }
}

/** Counts brackets outside of strings, before any parser recurses into them. Takes text that is no JSON, too. */
function nestsDeeperThan(limit: number, bytes: Buffer): boolean {
  let depth = 0;
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i];
    if (byte === QUOTE) {
      i = endOfString(bytes, i + 1);
    } else if (byte === OPEN_OBJECT || byte === OPEN_ARRAY) {
      if (++depth > limit) return true;
    } else if (byte === CLOSE_OBJECT || byte === CLOSE_ARRAY) {
      depth--;
    }
  }
  return false;
}

const SHORT_STRING = 64;

/** The index of the quote that ends the string whose content begins at `start`; the end of the text if none does. */
function endOfString(bytes: Buffer, start: number): number {
  // Most strings are short, and looking for their end here is faster than asking the runtime.
  const near = Math.min(bytes.length, start + SHORT_STRING);
  for (let i = start; i < near; i++) {
    if (bytes[i] === QUOTE) return i;
    if (bytes[i] === BACKSLASH) i++;
  }
  let from = start;
  for (;;) {
    const quote = bytes.indexOf(QUOTE!, from);
    if (quote < 0) return bytes.length;
    let backslashes = 0;
    while (quote - backslashes > start && bytes[quote - backslashes - 1] === BACKSLASH) backslashes++;
    if (backslashes % 2 === 0) return quote;
    from = quote + 1;
  }
}

/** Reads a message. Throws INVALID_ARGUMENT with the path of the first field that does not fit. */
export function messageFromJson(desc: DescMessage, json: JsonValue): Message {
  try {
    // Not with ignoreUnknownFields: that would also swallow enum values that do not exist.
    return fromJson(desc, json, readOptions);
  } catch {
    const known = knownObject(desc, json, "");
    try {
      return fromJson(desc, known, readOptions);
    } catch (error) {
      throw badField("", error);
    }
  }
}

/** Whether a message, or a service, is ours: what it does not know is refused. */
export const isOurs = ({ typeName }: { typeName: string }): boolean => typeName.startsWith("signalbox.v1.");

/** The same object without the fields that A2A's messages do not know. Throws INVALID_ARGUMENT at the first bad value. */
function knownObject(desc: DescMessage, json: JsonValue, path: string): JsonObject {
  if (!isObject(json)) {
    throw invalidArgument([{ field: path, description: `expected a JSON object for ${desc.name}` }]);
  }
  const known: JsonObject = {};
  for (const [key, value] of Object.entries(json)) {
    const field = fieldOf(desc, key);
    if (field === undefined) {
      if (isOurs(desc)) throw unknownField(desc, key, path);
    } else {
      known[key] = knownValue(desc, field, key, value, path === "" ? field.jsonName : `${path}.${field.jsonName}`);
    }
  }
  return known;
}

function unknownField(desc: DescMessage, key: string, path: string): SignalboxError {
  const names = desc.fields.map(({ jsonName }) => jsonName);
  const description = `is no field of ${desc.name}. ${suggestion(clip(key), names)}`;
  return invalidArgument([{ field: path === "" ? clip(key) : `${path}.${clip(key)}`, description }]);
}

function knownValue(desc: DescMessage, field: DescField, key: string, value: JsonValue, path: string): JsonValue {
  const inner = field.message;
  if (value !== null && inner !== undefined && !isWellKnown(inner)) {
    if (field.fieldKind === "message") return knownObject(inner, value, path);
    if (field.fieldKind === "list" && Array.isArray(value)) {
      return value.map((item, index) => knownObject(inner, item, `${path}[${index}]`));
    }
    if (field.fieldKind === "map" && isObject(value)) {
      const entries = Object.entries(value);
      return Object.fromEntries(entries.map(([k, v]) => [k, knownObject(inner, v, `${path}["${clip(k)}"]`)]));
    }
  }
  const full = field.enum && isOurs(field.enum) ? withPrefix(field.enum, value, path) : value;
  try {
    fromJson(desc, { [key]: full }, readOptions);
  } catch (error) {
    throw badField(path, error);
  }
  return full;
}

/** The value of one of our enums, or a list of them, by its whole name where it was given without what all names begin with. */
function withPrefix(desc: DescEnum, value: JsonValue, path: string): JsonValue {
  if (Array.isArray(value)) return value.map((item, index) => withPrefix(desc, item, `${path}[${index}]`));
  if (typeof value !== "string") return value;
  const prefix = (desc.sharedPrefix ?? "").toUpperCase();
  const named = desc.values.find(({ name }) => name === value || name === prefix + value);
  if (named) return named.name;
  const choices = desc.values.filter(({ number }) => number !== 0).map(({ name }) => name.slice(prefix.length));
  const description = `"${clip(value)}" is no ${desc.name}. There are ${choices.join(", ")}.`;
  throw invalidArgument([{ field: path, description }]);
}

const fieldTables = new WeakMap<DescMessage, Map<string, DescField>>();

/** A field by its JSON name or its proto name. */
export function fieldOf(desc: DescMessage, name: string): DescField | undefined {
  let table = fieldTables.get(desc);
  if (table === undefined) {
    table = new Map(desc.fields.flatMap((field) => [[field.name, field] as const, [field.jsonName, field] as const]));
    fieldTables.set(desc, table);
  }
  return table.get(name);
}

export function isObject(json: JsonValue | undefined): json is JsonObject {
  return typeof json === "object" && json !== null && !Array.isArray(json);
}

function isWellKnown(desc: DescMessage): boolean {
  return desc.typeName.startsWith("google.protobuf.");
}

const badBody = (description: string, cause?: unknown) => invalidArgument([{ field: "", description }], cause);

const badField = (path: string, error: unknown) =>
  invalidArgument([{ field: path, description: clip(describe(path, (error as Error).message), 256) }], error);

/** Protobuf-es names a field by its full name, in front of what is wrong with it. Where the path is known, that says it. */
function describe(path: string, message: string): string {
  const [, kind, name, what] = /^cannot decode (?:(\w+) )?(\S+) from JSON:? (.*)$/s.exec(message) ?? [];
  if (name === undefined || what === undefined) return message;
  if (path === "") return `${name}: ${what}`;
  return kind === "enum" || kind === "message" ? `not a valid ${name.split(".").at(-1)}: ${what}` : what;
}

/**
 * Makes the writer for the answers of one RPC. The answer's own fields that the contract marks REQUIRED are always
 * there, empty or zero too: a page of ListTasks says `"tasks": []` and `"nextPageToken": ""` (section 3.1.4). Within the
 * answer, empty fields are left out as ProtoJSON does; but one of our own of which all is REQUIRED tells counts, and has
 * each 0 within it. Timestamps always have milliseconds.
 */
export function responseWriter(desc: DescMessage): (message: Message) => JsonValue {
  const names = desc.fields.filter(isRequired).map((field) => field.jsonName);
  const empty = names.length === 0 ? {} : toJson(desc, create(desc), { alwaysEmitImplicit: true });
  const required = Object.entries(empty as JsonObject).filter(([name]) => names.includes(name));
  const options = { registry: detailRegistry, alwaysEmitImplicit: isOurs(desc) && names.length === desc.fields.length };
  return (message) => {
    const json = withMilliseconds(desc, toJson(desc, message, options));
    if (required.length > 0 && isObject(json)) {
      for (const [name, value] of required) json[name] ??= value;
    }
    return json;
  };
}

function isRequired(field: DescField): boolean {
  return hasOption(field, field_behavior) && getOption(field, field_behavior).includes(FieldBehavior.REQUIRED);
}
