/**
 * What is signed of an agent card (A2A specification, section 8.4.1): its ProtoJSON without `signatures`, in canonical JSON. Fields
 * that are REQUIRED stand in it always, those that are `optional` where they were set, and others where they say something. Pure.
 */
import { type DescMessage, getOption, hasOption, type JsonObject, type JsonValue, toJson } from "@bufbuild/protobuf";
import { FieldBehavior, field_behavior } from "../../gen/google/api/field_behavior_pb.ts";
import { type AgentCard, AgentCardSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { canonicalJson } from "./canonical-json.ts";

/** A card as it is served and signed, without its signatures. */
export function cardPayload(card: AgentCard): JsonObject {
  const { signatures: _, ...payload } = toJson(AgentCardSchema, card) as JsonObject;
  return withRequired(AgentCardSchema, payload);
}

/**
 * The texts that the signature of a card may be over, each once. The specification's is the first. The SDKs of A2A 1.0 leave out all
 * that is empty, also where it is REQUIRED. Where the card is known as its agent served it, with fields that this version does not
 * know, signers may have meant those too.
 */
export function signedTexts(card: AgentCard, served?: JsonObject): string[] {
  const payload = cardPayload(card);
  const forms = [payload, withoutEmpty(payload) ?? {}];
  if (served) {
    const { signatures: _, ...rest } = served;
    forms.push(rest, withRequired(AgentCardSchema, withoutDefaults(AgentCardSchema, rest)), withoutEmpty(rest) ?? {});
  }
  return [...new Set(forms.map(canonicalJson))];
}

const isRequired = (field: DescMessage["fields"][number]): boolean =>
  hasOption(field, field_behavior) && getOption(field, field_behavior).includes(FieldBehavior.REQUIRED);

/** Data without a contract is as it is. */
const isFreeForm = ({ typeName }: DescMessage): boolean => typeName.startsWith("google.protobuf.");

/** Adds what is REQUIRED and empty: ProtoJSON leaves it out. */
function withRequired(schema: DescMessage, json: JsonObject): JsonObject {
  if (isFreeForm(schema)) return json;
  const whole: JsonObject = { ...json };
  for (const field of schema.fields) {
    const value = whole[field.jsonName];
    if (value !== undefined) whole[field.jsonName] = below(field, value, withRequired);
    else if (isRequired(field)) {
      const empty = emptyOf(field);
      if (empty !== undefined) whole[field.jsonName] = empty;
    }
  }
  return whole;
}

/** Takes away what says no more than if it were not there. What is not known stays. */
function withoutDefaults(schema: DescMessage, json: JsonObject): JsonObject {
  if (isFreeForm(schema)) return json;
  const known = new Map(schema.fields.map((field) => [field.jsonName, field]));
  return Object.fromEntries(
    Object.entries(json).flatMap(([name, value]): [string, JsonValue][] => {
      const field = known.get(name);
      if (!field) return [[name, value]];
      if (value === null) return [];
      const hasPresence = field.fieldKind === "message" || field.oneof !== undefined || field.proto.proto3Optional;
      if (!hasPresence && !isRequired(field) && isDefault(value)) return [];
      return [[name, below(field, value, withoutDefaults)]];
    }),
  );
}

type Walk = (schema: DescMessage, json: JsonObject) => JsonObject;

const isRecord = (value: JsonValue): value is JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** The same of the messages that a field holds. */
function below(field: DescMessage["fields"][number], value: JsonValue, walk: Walk): JsonValue {
  const { message } = field;
  if (!message) return value;
  const one = (item: JsonValue) => (isRecord(item) ? walk(message, item) : item);
  if (field.fieldKind === "list") return Array.isArray(value) ? value.map(one) : value;
  if (field.fieldKind !== "map") return one(value);
  return isRecord(value) ? Object.fromEntries(Object.entries(value).map(([key, item]) => [key, one(item)])) : value;
}

function emptyOf(field: DescMessage["fields"][number]): JsonValue | undefined {
  switch (field.fieldKind) {
    case "list":
      return [];
    case "map":
      return {};
    case "scalar":
      return typeof field.getDefaultValue() === "boolean" ? false : "";
    default:
      return undefined;
  }
}

const isDefault = (value: JsonValue): boolean =>
  value === "" ||
  value === false ||
  value === 0 ||
  (typeof value === "object" && Object.keys(value ?? {}).length === 0);

/** Undefined where nothing is left. */
function withoutEmpty<T extends JsonValue>(value: T): T | undefined;
function withoutEmpty(value: JsonValue): JsonValue | undefined {
  if (value === "" || value === null) return undefined;
  if (Array.isArray(value)) {
    const items = value.map((item) => withoutEmpty(item)).filter((item) => item !== undefined);
    return items.length > 0 ? items : undefined;
  }
  if (typeof value !== "object") return value;
  const entries = Object.entries(value).flatMap(([name, item]): [string, JsonValue][] => {
    const left = withoutEmpty(item);
    return left === undefined ? [] : [[name, left]];
  });
  return entries.length > 0 ? Object.fromEntries(entries) : undefined;
}
