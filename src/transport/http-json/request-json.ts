/**
 * Puts a request together from path, query and body, as one ProtoJSON object. The decoder of that object then checks
 * all three alike.
 */
import { type DescField, getOption, hasOption, type JsonObject, type JsonValue, ScalarType } from "@bufbuild/protobuf";
import { isWrapperDesc } from "@bufbuild/protobuf/wkt";
import { FieldBehavior, field_behavior } from "../../../gen/google/api/field_behavior_pb.ts";
import { clip, invalidArgument, type SignalboxError } from "../../domain/errors.ts";
import { suggestion } from "../../domain/nearest.ts";
import { VERSION_PARAMETER } from "../http-call.ts";
import { fieldOf, isObject, isOurs, MAX_JSON_DEPTH } from "../proto-json.ts";
import { type FieldPath, type Route, resolveFieldPath } from "./routes.ts";

/**
 * `pathValues` are percent-encoded; `body` is undefined when the request has none. The path wins over the body; query
 * parameters count for what neither of them binds. Others are refused by our own services, and ignored by A2A's.
 * Throws INVALID_ARGUMENT naming the field.
 */
export function requestJson(
  route: Route,
  pathValues: readonly string[],
  query: URLSearchParams,
  body: JsonValue | undefined,
): JsonValue {
  if (route.body === "request" && body !== undefined && !isObject(body)) {
    throw badValue([], "The body has to be a JSON object.");
  }
  const json: JsonObject = route.body === "request" ? ((body as JsonObject | undefined) ?? {}) : {};
  if (query.size > 0) addQuery(json, route, query);
  if (typeof route.body === "object") {
    json[route.body.jsonName] = body ?? {};
    // Who names no mask changes what the body names (AIP-134), and not the rest.
    if (route.httpMethod === "PATCH" && !json.updateMask) json.updateMask = maskOf(route.body, body);
  }
  route.pathFields.forEach((fields, index) => {
    setField(json, fields, jsonOf(fields, [decodeSegment(fields, pathValues[index]!)]));
  });
  return json;
}

/** Names the fields that a body holds, but for those that no update can change. */
function maskOf(resource: DescField, body: JsonValue | undefined): string {
  const named = isObject(body) ? Object.keys(body).flatMap((key) => fieldOf(resource.message!, key) ?? []) : [];
  return named
    .filter(isChangeable)
    .map(({ jsonName }) => jsonName)
    .join(",");
}

function isChangeable(field: DescField): boolean {
  if (field.name === "etag") return false;
  const behaviors = hasOption(field, field_behavior) ? getOption(field, field_behavior) : [];
  return !behaviors.includes(FieldBehavior.OUTPUT_ONLY) && !behaviors.includes(FieldBehavior.IDENTIFIER);
}

function addQuery(json: JsonObject, route: Route, query: URLSearchParams): void {
  const bound = new Set(route.pathFields.map(pathName));
  for (const name of new Set(query.keys())) {
    const names = name.split(".");
    const fields = names.length > MAX_JSON_DEPTH ? undefined : resolveFieldPath(route.rpc.method.input, names);
    const isInBody = route.body === "request" || fields?.[0] === route.body;
    if (fields !== undefined && !isInBody && !bound.has(pathName(fields))) {
      setField(json, fields, jsonOf(fields, query.getAll(name)));
    } else if (isOurs(route.rpc.service) && name.toLowerCase() !== VERSION_PARAMETER) {
      throw invalidArgument([{ field: clip(name), description: notAParameter(route, name, fields, bound) }]);
    }
  }
}

function notAParameter({ rpc, body }: Route, name: string, fields: FieldPath | undefined, bound: Set<string>): string {
  if (fields && bound.has(pathName(fields))) return "is said by the path, and cannot be a query parameter, too";
  if (body === "request") return `is no query parameter: ${rpc.method.name} takes all it is told from the body`;
  if (fields) return `is no query parameter: give ${fields[0]!.jsonName} as the body`;
  const free = rpc.method.input.fields.filter((field) => field !== body && !bound.has(field.jsonName));
  return `is no query parameter of ${rpc.method.name}. ${suggestion(
    clip(name),
    free.map(({ jsonName }) => jsonName),
  )}`;
}

/** Sets a field deep in `json`, over whatever is there under its JSON or its proto name. */
function setField(json: JsonObject, fields: FieldPath, value: JsonValue): void {
  let holder = json;
  fields.forEach((field, index) => {
    const present = holder[field.jsonName] ?? holder[field.name] ?? undefined;
    delete holder[field.name];
    if (index === fields.length - 1) {
      holder[field.jsonName] = value;
      return;
    }
    if (present !== undefined && !isObject(present))
      throw badValue(fields.slice(0, index + 1), "expected a JSON object");
    const inner = present ?? {};
    holder[field.jsonName] = inner;
    holder = inner;
  });
}

/** What ProtoJSON writes for a field that was given as text, once or (lists) more often. */
function jsonOf(fields: FieldPath, texts: readonly string[]): JsonValue {
  const field = fields.at(-1)!;
  if (field.fieldKind === "list") {
    // Repeated parameters and commas are both allowed (A2A specification, section 11.5).
    return texts.flatMap((text) => text.split(",")).map((text) => jsonOfText(field, fields, text));
  }
  if (texts.length !== 1) throw badValue(fields, "given more than once");
  return jsonOfText(field, fields, texts[0]!);
}

function jsonOfText(field: DescField, fields: FieldPath, text: string): JsonValue {
  if (field.fieldKind === "map") throw badValue(fields, "a map cannot be given in an address");
  if (field.enum !== undefined) return /^-?\d+$/.test(text) ? Number(text) : text;
  if (field.message === undefined) return field.scalar === ScalarType.BOOL ? boolOf(fields, text) : text;
  switch (field.message.typeName) {
    case "google.protobuf.Timestamp":
    case "google.protobuf.Duration":
      return text;
    case "google.protobuf.FieldMask":
      // ProtoJSON has camelCase paths; people write what they see in the proto, too.
      return text.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
  }
  if (isWrapperDesc(field.message)) return jsonOfText(field.message.fields[0]!, fields, text);
  throw badValue(fields, "an object cannot be given in an address; name one of its fields");
}

function boolOf(fields: FieldPath, text: string): boolean {
  if (text === "true") return true;
  if (text === "false") return false;
  throw badValue(fields, `expected true or false, got "${clip(text)}"`);
}

function decodeSegment(fields: FieldPath, encoded: string): string {
  try {
    return decodeURIComponent(encoded);
  } catch (error) {
    throw badValue(fields, `"${clip(encoded)}" is not valid percent-encoding`, error);
  }
}

const pathName = (fields: FieldPath): string => fields.map((field) => field.jsonName).join(".");

const badValue = (fields: FieldPath, description: string, cause?: unknown): SignalboxError =>
  invalidArgument([{ field: pathName(fields), description }], cause);
