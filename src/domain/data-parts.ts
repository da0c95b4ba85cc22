/** Data parts of messages and artifacts, and what of them breaks the JSON Schema that they are to fit. Pure. */
import { type JsonObject, type JsonValue, toJson } from "@bufbuild/protobuf";
import { ValueSchema } from "@bufbuild/protobuf/wkt";
import type { Part } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import type { FieldViolation } from "./errors.ts";
import { type CheckBudget, compileSchema } from "./json-schema.ts";

/** A part with data, and where it stands among the parts. */
export interface DataPart {
  readonly index: number;
  readonly data: JsonValue;
}

export function dataParts(parts: readonly Part[]): DataPart[] {
  return parts.flatMap(({ content }, index) =>
    content.case === "data" ? [{ index, data: toJson(ValueSchema, content.value) }] : [],
  );
}

/** What is wrong with data, with paths below `at`, as `message.parts[0].data.city` below `message`. Takes from the budget. */
export function dataViolations(
  schema: JsonObject,
  parts: readonly DataPart[],
  at: string,
  budget: CheckBudget,
): FieldViolation[] {
  const violationsOf = compileSchema(schema);
  return parts.flatMap(({ index, data }) =>
    violationsOf(data, budget).map(({ field, description }) => ({
      field: `${at}.parts[${index}].data${field}`,
      description,
    })),
  );
}
