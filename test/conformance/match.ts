/** How what came is compared: with what a case expects of it, and with what came through another binding. */
import type { JsonObject, JsonValue } from "@bufbuild/protobuf";

const UUID = /[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/g;
/** As ProtoJSON writes a time of whole milliseconds. */
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z$/;

/** What may stand in an expectation for a value that is not known beforehand. */
const MATCHERS: Readonly<Record<string, (actual: JsonValue | undefined) => boolean>> = {
  "<id>": (actual) => typeof actual === "string" && actual.replace(UUID, "") === "" && actual !== "",
  "<time>": (actual) => typeof actual === "string" && TIME.test(actual),
  "<text>": (actual) => typeof actual === "string" && actual !== "",
  "<absent>": (actual) => actual === undefined,
};

/**
 * Where `actual` is not what is expected; empty when it is. Objects may hold more than is expected, lists may not.
 */
export function mismatches(expected: JsonValue, actual: JsonValue | undefined, path = ""): string[] {
  const matcher = typeof expected === "string" ? MATCHERS[expected] : undefined;
  if (matcher) return matcher(actual) ? [] : [`${path}: expected ${expected}, got ${JSON.stringify(actual)}`];
  if (Array.isArray(expected)) {
    if (!Array.isArray(actual)) return [`${path}: expected a list, got ${JSON.stringify(actual)}`];
    const count = `${path}: expected ${expected.length} items, got ${actual.length}: ${JSON.stringify(actual)}`;
    if (expected.length !== actual.length) return [count];
    return expected.flatMap((item, index) => mismatches(item, actual[index], `${path}[${index}]`));
  }
  if (isObject(expected)) {
    if (!isObject(actual)) return [`${path}: expected an object, got ${JSON.stringify(actual)}`];
    return Object.entries(expected).flatMap(([key, value]) => mismatches(value, actual[key], `${path}.${key}`));
  }
  return expected === actual
    ? []
    : [`${path}: expected ${JSON.stringify(expected)}, got ${JSON.stringify(actual ?? null)}`];
}

/** Puts variables where `$name` stands. Throws for a name that no step captured. */
export function substitute<T>(value: T, variables: ReadonlyMap<string, JsonValue>): T {
  return mapStrings(value as JsonValue, (text) => {
    const read = (name: string): JsonValue => {
      const known = variables.get(name);
      if (known === undefined) throw new Error(`$${name} is not captured by any step before`);
      return known;
    };
    const whole = /^\$(\w+)$/.exec(text)?.[1];
    return whole ? read(whole) : text.replace(/\$(\w+)/g, (_, name: string) => String(read(name)));
  }) as T;
}

/** The value at a path such as `task.artifacts.0.name`. Throws when there is none. */
export function valueAt(json: JsonValue, path: string): JsonValue {
  let value: JsonValue | undefined = json;
  for (const key of path.split("."))
    value = isObject(value) ? value[key] : Array.isArray(value) ? value[+key] : undefined;
  if (value === undefined) throw new Error(`there is nothing to capture at ${path} in ${JSON.stringify(json)}`);
  return value;
}

/**
 * The same with names in place of what differs from run to run, and without what was measured: ids are numbered as they
 * appear, so that it still shows where the same one stands twice.
 */
export function normalize(json: JsonValue): JsonValue {
  const names = new Map<string, string>();
  const rename = (id: string) => {
    if (!names.has(id)) names.set(id, `id-${names.size + 1}`);
    return names.get(id)!;
  };
  return mapStrings(json, (text, key) => {
    if (TIME.test(text)) return "time";
    if (key === "nextPageToken" || key === "cursor") return text === "" ? "" : "token";
    return text.replace(UUID, rename);
  });
}

/** What depends on what came before, and is absent where nothing did. */
const MEASURED: ReadonlySet<string> = new Set([
  "deletedCount",
  "errorRate",
  "inFlight",
  "latencyMs",
  "latencyP50Ms",
  "latencyP95Ms",
  "score",
  "seed",
]);

/** Visits strings in an order that does not depend on that of the keys. */
function mapStrings(json: JsonValue, map: (text: string, key: string) => JsonValue, key = ""): JsonValue {
  if (typeof json === "string") return map(json, key);
  if (Array.isArray(json)) return json.map((item) => mapStrings(item, map, key));
  if (!isObject(json)) return json;
  const entries = Object.entries(json)
    .filter(([name]) => !MEASURED.has(name))
    .sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries.map(([name, value]) => [name, mapStrings(value, map, name)]));
}

function isObject(json: JsonValue | undefined): json is JsonObject {
  return typeof json === "object" && json !== null && !Array.isArray(json);
}
