/**
 * Whether a message holds every field that its contract calls REQUIRED (google.api.field_behavior). Each message type is
 * compiled once into a function that visits only what can be wrong; a message without fault costs no allocation.
 */
import {
  type DescField,
  type DescMessage,
  type DescOneof,
  getOption,
  hasOption,
  type JsonObject,
  type MessageShape,
  ScalarType,
} from "@bufbuild/protobuf";
import type { Value } from "@bufbuild/protobuf/wkt";
import { FieldBehavior, field_behavior } from "../../gen/google/api/field_behavior_pb.ts";
import type { FieldViolation } from "./errors.ts";
import { isFiniteJson, isFiniteValue } from "./free-form.ts";

/** Lists that the contract requires to be there, but that may sensibly be empty. Required maps may always be empty. */
const MAY_BE_EMPTY: ReadonlySet<string> = new Set([
  "lf.a2a.v1.AgentCard.skills",
  "lf.a2a.v1.AgentCard.default_input_modes",
  "lf.a2a.v1.AgentCard.default_output_modes",
  "lf.a2a.v1.AgentSkill.tags",
]);

/** Oneofs of which one member must be set: no field option can say so. */
const REQUIRED_ONEOFS: ReadonlySet<string> = new Set([
  "lf.a2a.v1.Part.content",
  "lf.a2a.v1.SendMessageResponse.payload",
  "lf.a2a.v1.StreamResponse.payload",
]);

/** Data without a contract of its own: its numbers must be such that every binding can write them. */
const FREE_FORM: ReadonlyMap<string, Check> = new Map<string, Check>([
  ["google.protobuf.Struct", (data) => (isFiniteJson(data as JsonObject) ? undefined : NOT_FINITE)],
  ["google.protobuf.Value", (data) => (isFiniteValue(data as unknown as Value) ? undefined : NOT_FINITE)],
]);
const NOT_FINITE: FieldViolation[] = [{ field: "", description: "holds NaN or an infinity, which JSON cannot carry" }];

/** Deeper nesting than this is a fault of its own; no message of the contract comes near it. */
const MAX_DEPTH = 100;

/** Enough to mend a request by. A list of a million faulty items must not make an answer of a million lines. */
const MAX_VIOLATIONS = 16;

/**
 * What is missing in `message`, with paths as `message.parts[0]` in the names of ProtoJSON. Empty when nothing is.
 * A REQUIRED string must not be empty, a REQUIRED enum not be its zero value, a REQUIRED list hold an item, a REQUIRED
 * message be there; numbers and booleans have no empty value. Nested messages are checked wherever they stand, and
 * free-form data for numbers that JSON does not have.
 */
export function missingFields<Desc extends DescMessage>(schema: Desc, message: MessageShape<Desc>): FieldViolation[] {
  return checkOf(schema)?.(message as Fields, 0) ?? [];
}

/** A message seen as its fields by name. */
type Fields = Record<string, unknown>;
/** Finds what is missing in a message, with paths that begin at it; undefined when nothing is. */
type Check = (message: Fields, depth: number) => FieldViolation[] | undefined;

const checks = new Map<DescMessage, Check | undefined>();

function checkOf(schema: DescMessage): Check | undefined {
  const freeForm = FREE_FORM.get(schema.typeName);
  if (freeForm) return freeForm;
  if (!checks.has(schema)) checks.set(schema, compile(schema));
  return checks.get(schema);
}

function compile(schema: DescMessage): Check | undefined {
  if (!canMiss(schema, new Set())) return undefined;
  const steps = [...schema.fields.map(compileField), ...schema.oneofs.map(compileOneof)].filter((step) => !!step);
  return (message, depth) => {
    if (depth > MAX_DEPTH) return [{ field: "", description: `is nested deeper than ${MAX_DEPTH} messages` }];
    let found: FieldViolation[] | undefined;
    for (const step of steps) found = join(found, step(message, depth));
    return found;
  };
}

function join(found: FieldViolation[] | undefined, more: FieldViolation[] | undefined): FieldViolation[] | undefined {
  if (!found || !more) return found ?? more;
  for (const violation of more) if (!isFull(found)) found.push(violation);
  return found;
}

const isFull = (found: FieldViolation[] | undefined): boolean => found !== undefined && found.length >= MAX_VIOLATIONS;

/** Whether something that can be wrong stands anywhere in a message of this type. `seen` ends recursion of types. */
function canMiss(schema: DescMessage, seen: Set<DescMessage>): boolean {
  if (FREE_FORM.has(schema.typeName)) return true;
  if (seen.has(schema)) return false;
  seen.add(schema);
  return (
    schema.oneofs.some((oneof) => REQUIRED_ONEOFS.has(`${schema.typeName}.${oneof.name}`)) ||
    schema.fields.some((field) => isRequired(field) || (field.message !== undefined && canMiss(field.message, seen)))
  );
}

function isRequired(field: DescField): boolean {
  return hasOption(field, field_behavior) && getOption(field, field_behavior).includes(FieldBehavior.REQUIRED);
}

function compileOneof(oneof: DescOneof): Check | undefined {
  if (!REQUIRED_ONEOFS.has(`${oneof.parent.typeName}.${oneof.name}`)) return undefined;
  const description = `needs one of ${oneof.fields.map((field) => field.jsonName).join(", ")}`;
  return (message) => {
    const chosen = message[oneof.localName] as { case: string | undefined };
    return chosen.case === undefined ? [{ field: "", description }] : undefined;
  };
}

function compileField(field: DescField): Check | undefined {
  const isMissing = isRequired(field) ? emptiness(field) : undefined;
  const nested = field.message && canMiss(field.message, new Set()) ? descent(field, field.message) : undefined;
  if (!isMissing && !nested) return undefined;
  const read = reader(field);
  const description = remedy(field);
  return (message, depth) => {
    const value = read(message);
    if (isMissing?.(value)) return [{ field: field.jsonName, description }];
    return value === undefined ? undefined : nested?.(value, depth + 1);
  };
}

/** How to get the value of a field, undefined when it is unset. */
function reader(field: DescField): (message: Fields) => unknown {
  const { localName, oneof } = field;
  if (!oneof) return (message) => message[localName];
  const group = oneof.localName;
  return (message) => {
    const chosen = message[group] as { case: string | undefined; value?: unknown };
    return chosen.case === localName ? chosen.value : undefined;
  };
}

/** Tells whether the value of a REQUIRED field is missing; undefined when every value of its type will do. */
function emptiness(field: DescField): ((value: unknown) => boolean) | undefined {
  switch (field.fieldKind) {
    case "message":
      return (value) => value === undefined;
    case "list":
      return MAY_BE_EMPTY.has(`${field.parent.typeName}.${field.name}`)
        ? undefined
        : (value) => (value as unknown[]).length === 0;
    case "enum":
      return (value) => value === undefined || value === 0;
    case "scalar":
      return field.scalar === ScalarType.BYTES
        ? (value) => value === undefined || (value as Uint8Array).length === 0
        : (value) => value === undefined || value === "";
    default:
      return undefined;
  }
}

function remedy(field: DescField): string {
  if (field.fieldKind === "list") return "is required: at least one item";
  if (field.fieldKind !== "enum") return "is required";
  const names = field.enum.values.filter((value) => value.number !== 0).map((value) => value.name);
  return `is required: one of ${names.join(", ")}`;
}

/** Checks the messages that a field holds, and puts the field's name before what is found in them. */
function descent(field: DescField, type: DescMessage): (value: unknown, depth: number) => FieldViolation[] | undefined {
  const { jsonName } = field;
  // Looked up at the first message, not now: a type may hold itself.
  let check: Check | undefined;
  const look: Check = (message, depth) => {
    check ??= checkOf(type);
    return check?.(message, depth);
  };
  if (field.fieldKind === "message") {
    return (value, depth) => {
      const below = look(value as Fields, depth);
      return below && within(jsonName, below);
    };
  }
  if (field.fieldKind === "list") {
    return (value, depth) => {
      const items = value as Fields[];
      let found: FieldViolation[] | undefined;
      for (let i = 0; i < items.length && !isFull(found); i++) {
        const below = look(items[i]!, depth);
        if (below) found = join(found, within(`${jsonName}[${i}]`, below));
      }
      return found;
    };
  }
  return (value, depth) => {
    let found: FieldViolation[] | undefined;
    for (const [key, item] of Object.entries(value as Record<string, Fields>)) {
      const below = isFull(found) ? undefined : look(item, depth);
      if (below) found = join(found, within(`${jsonName}[${JSON.stringify(key)}]`, below));
    }
    return found;
  };
}

function within(path: string, found: FieldViolation[]): FieldViolation[] {
  return found.map(({ field, description }) => ({ field: field === "" ? path : `${path}.${field}`, description }));
}
