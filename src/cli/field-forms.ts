/** What may stand in the fields of the contract, as people write them in YAML. Made of the contract, so it is always all of them. */
import { type DescEnum, type DescField, type DescMessage, getOption, ScalarType } from "@bufbuild/protobuf";
import { FieldBehavior, field_behavior } from "../../gen/google/api/field_behavior_pb.ts";

/** What stands in a field: `a list of text`. */
export function formOf(field: DescField): string {
  if (field.fieldKind === "list") return `a list of ${itemForm(field)}`;
  if (field.fieldKind === "map") return `a map of names to ${itemForm(field)}`;
  return itemForm(field);
}

/** What stands in a field that holds one thing, and as each item in one that holds several. */
export function itemForm(field: DescField): string {
  if (field.enum)
    return valueNames(field.enum)
      .join(", ")
      .replace(/, ([^,]*)$/, " or $1");
  if (field.message)
    return (
      FORMS.get(field.message.typeName) ??
      `a map with ${field.message.fields.map(({ jsonName }) => jsonName).join(", ")}`
    );
  switch (field.scalar) {
    case ScalarType.STRING:
      return "text";
    case ScalarType.BOOL:
      return "true or false";
    case ScalarType.BYTES:
      return "bytes in base64";
    case ScalarType.DOUBLE:
    case ScalarType.FLOAT:
      return "a number";
    default:
      return field.jsonName.endsWith("Ms") ? "a whole number of milliseconds" : "a whole number";
  }
}

const FORMS: ReadonlyMap<string, string> = new Map([
  ["google.protobuf.Struct", "a map"],
  ["google.protobuf.Value", "anything"],
  ["google.protobuf.Timestamp", "a time such as 2026-11-27T12:00:00Z"],
]);

/** The values of an enum without its zero, which says nothing. */
const valueNames = ({ values }: DescEnum): string[] =>
  values.filter(({ number }) => number !== 0).map(({ name }) => name);

/** The fields that a file may have, a line each, for the help of a command. */
export function fieldLines(desc: DescMessage): string {
  const given = desc.fields.filter((field) => !getOption(field, field_behavior).includes(FieldBehavior.OUTPUT_ONLY));
  const width = Math.max(...given.map(({ jsonName }) => jsonName.length));
  return given.map((field) => `  ${field.jsonName.padEnd(width)}  ${formOf(field)}`).join("\n");
}
