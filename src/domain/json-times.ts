/**
 * Timestamps in JSON as A2A has them: always with milliseconds (specification, section 5.6.1). ProtoJSON leaves out a
 * fraction that is zero, which one timestamp in a thousand has.
 */
import type { DescField, DescMessage, JsonObject, JsonValue } from "@bufbuild/protobuf";
import { TimestampSchema } from "@bufbuild/protobuf/wkt";

/** Gives the timestamps of a message's ProtoJSON their milliseconds, in place. Returns `json`. */
export function withMilliseconds(desc: DescMessage, json: JsonValue): JsonValue {
  for (const field of timeFields(desc)) {
    const { [field.jsonName]: value } = json as JsonObject;
    if (value !== undefined) (json as JsonObject)[field.jsonName] = fieldWithMilliseconds(field, value);
  }
  return json;
}

function fieldWithMilliseconds(field: DescField, value: JsonValue): JsonValue {
  if (field.fieldKind === "list") return (value as JsonValue[]).map((item) => inner(field.message!, item));
  return inner(field.message!, value);
}

const inner = (desc: DescMessage, value: JsonValue): JsonValue =>
  desc.typeName === TimestampSchema.typeName
    ? (value as string).replace(/(:\d\d)Z$/, "$1.000Z")
    : withMilliseconds(desc, value);

const known = new Map<DescMessage, readonly DescField[]>();

/** The fields in which a timestamp can stand, however deep. No contract of ours keeps them in maps. */
function timeFields(desc: DescMessage): readonly DescField[] {
  let fields = known.get(desc);
  if (fields === undefined) {
    fields = desc.fields.filter((field) => field.message && field.fieldKind !== "map" && holdsTime(field.message));
    known.set(desc, fields);
  }
  return fields;
}

/** `seen` ends recursion of types. */
function holdsTime(desc: DescMessage, seen = new Set<DescMessage>()): boolean {
  if (desc.typeName === TimestampSchema.typeName) return true;
  if (seen.has(desc)) return false;
  seen.add(desc);
  return desc.fields.some((field) => field.message !== undefined && holdsTime(field.message, seen));
}
