/** JSON Schemas (2020-12) of messages as ProtoJSON writes them. */
import { type DescEnum, type DescField, type DescMessage, getOption, hasOption, ScalarType } from "@bufbuild/protobuf";
import { FieldBehavior, field_behavior } from "../../gen/google/api/field_behavior_pb.ts";

export type Json = { [key: string]: unknown };

/** Collects the schemas of all messages and enums that are asked for, and of what they hold. */
export interface Schemas {
  /** A reference to the schema of a message, or the schema itself of one that ProtoJSON writes in a form of its own. */
  message(desc: DescMessage): Json;
  /** The schema of one field. */
  field(desc: DescField): Json;
  /** By name, sorted. */
  all(): Json;
}

export function createSchemas(comments: ReadonlyMap<string, string>): Schemas {
  const schemas = new Map<string, Json>();
  const described = (name: string, schema: Json): Json => {
    const description = comments.get(name);
    return description === undefined ? schema : { ...schema, description };
  };
  const reference = (typeName: string): Json => ({ $ref: `#/components/schemas/${typeName}` });

  function message(desc: DescMessage): Json {
    const wellKnown = WELL_KNOWN[desc.typeName];
    if (wellKnown) return wellKnown;
    if (!schemas.has(desc.typeName)) {
      // Known before its fields are: a type may hold itself.
      schemas.set(desc.typeName, {});
      const required = desc.fields.filter(isRequired).map((each) => each.jsonName);
      schemas.set(
        desc.typeName,
        described(desc.typeName, {
          type: "object",
          properties: Object.fromEntries(desc.fields.map((each) => [each.jsonName, field(each)])),
          ...(required.length > 0 && { required }),
        }),
      );
    }
    return reference(desc.typeName);
  }

  function enumeration(desc: DescEnum): Json {
    if (desc.typeName === "google.protobuf.NullValue") return { type: "null" };
    if (!schemas.has(desc.typeName)) {
      const told = desc.values.flatMap(({ name }) => {
        const comment = comments.get(`${desc.typeName}.${name}`);
        return comment === undefined ? [] : [`- \`${name}\`: ${comment.replaceAll("\n\n", " ")}`];
      });
      const description = [comments.get(desc.typeName), told.join("\n")].filter(Boolean).join("\n\n");
      const names = desc.values.map(({ name }) => name);
      schemas.set(desc.typeName, { type: "string", enum: names, ...(description !== "" && { description }) });
    }
    return reference(desc.typeName);
  }

  function field(desc: DescField): Json {
    const name = `${desc.parent.typeName}.${desc.name}`;
    const behavior = hasOption(desc, field_behavior) ? getOption(desc, field_behavior) : [];
    const readOnly = behavior.includes(FieldBehavior.OUTPUT_ONLY) ? { readOnly: true } : {};
    return described(name, { ...fieldShape(desc), ...readOnly });
  }

  function fieldShape(desc: DescField): Json {
    switch (desc.fieldKind) {
      case "list":
        return { type: "array", items: valueShape(desc.listKind === "scalar" ? desc.scalar : desc) };
      case "map":
        return { type: "object", additionalProperties: valueShape(desc.mapKind === "scalar" ? desc.scalar : desc) };
      default:
        return valueShape(desc.fieldKind === "scalar" ? desc.scalar : desc);
    }
  }

  function valueShape(value: ScalarType | { enum?: DescEnum | undefined; message?: DescMessage | undefined }): Json {
    if (typeof value === "number") return SCALARS[value];
    return value.enum ? enumeration(value.enum) : message(value.message!);
  }

  return {
    message,
    field,
    all: () => Object.fromEntries([...schemas].sort(([a], [b]) => (a < b ? -1 : 1))),
  };
}

export const isRequired = (desc: DescField): boolean =>
  hasOption(desc, field_behavior) && getOption(desc, field_behavior).includes(FieldBehavior.REQUIRED);

/** Whole numbers of 64 bits are texts, because many languages would round them. */
const INT64: Json = { type: "string", format: "int64", pattern: "^-?\\d{1,19}$" };
const UINT64: Json = { type: "string", format: "uint64", pattern: "^\\d{1,20}$" };
const INT32: Json = { type: "integer", format: "int32" };
const UINT32: Json = { type: "integer", format: "uint32", minimum: 0 };
const SPECIAL_NUMBERS = { type: "string", enum: ["NaN", "Infinity", "-Infinity"] };

const SCALARS: Record<ScalarType, Json> = {
  [ScalarType.BOOL]: { type: "boolean" },
  [ScalarType.STRING]: { type: "string" },
  [ScalarType.BYTES]: { type: "string", contentEncoding: "base64" },
  [ScalarType.DOUBLE]: { oneOf: [{ type: "number", format: "double" }, SPECIAL_NUMBERS] },
  [ScalarType.FLOAT]: { oneOf: [{ type: "number", format: "float" }, SPECIAL_NUMBERS] },
  [ScalarType.INT32]: INT32,
  [ScalarType.SINT32]: INT32,
  [ScalarType.SFIXED32]: INT32,
  [ScalarType.UINT32]: UINT32,
  [ScalarType.FIXED32]: UINT32,
  [ScalarType.INT64]: INT64,
  [ScalarType.SINT64]: INT64,
  [ScalarType.SFIXED64]: INT64,
  [ScalarType.UINT64]: UINT64,
  [ScalarType.FIXED64]: UINT64,
};

/** Messages that ProtoJSON writes in a form of their own. */
const WELL_KNOWN: Record<string, Json> = {
  "google.protobuf.Timestamp": { type: "string", format: "date-time" },
  "google.protobuf.Duration": { type: "string", pattern: "^-?\\d+(\\.\\d{1,9})?s$" },
  "google.protobuf.FieldMask": { type: "string" },
  "google.protobuf.Struct": { type: "object", additionalProperties: true },
  // Any JSON.
  "google.protobuf.Value": {},
  "google.protobuf.ListValue": { type: "array", items: {} },
  "google.protobuf.Empty": { type: "object" },
  "google.protobuf.Any": {
    type: "object",
    properties: { "@type": { type: "string" } },
    required: ["@type"],
    additionalProperties: true,
  },
};
