/** Free-form data: google.protobuf.Struct and Value, which hold what JSON holds and, in binary, what it cannot. */
import type { JsonValue } from "@bufbuild/protobuf";
import type { Value } from "@bufbuild/protobuf/wkt";

/** Whether all numbers can be written as JSON: NaN and the infinities cannot, so no JSON client could read them. */
export function isFiniteJson(value: JsonValue): boolean {
  if (typeof value === "number") return Number.isFinite(value);
  if (typeof value !== "object" || value === null) return true;
  return Array.isArray(value) ? value.every(isFiniteJson) : Object.values(value).every(isFiniteJson);
}

/** The same for the message google.protobuf.Value. */
export function isFiniteValue({ kind }: Value): boolean {
  switch (kind.case) {
    case "numberValue":
      return Number.isFinite(kind.value);
    case "listValue":
      return kind.value.values.every(isFiniteValue);
    case "structValue":
      return Object.values(kind.value.fields).every(isFiniteValue);
    default:
      return true;
  }
}
