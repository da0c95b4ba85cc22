/**
 * Protobuf's binary form, as `toBinary` makes it, of messages that are made often. A writer of protobuf-es grows as it
 * writes, and each step is a piece of memory outside the heap, which costs more than the writing; the one here stays as
 * large as it has become. What it has no rule for, such as maps and unknown fields, `toBinary` writes.
 */
import {
  type DescField,
  type DescMessage,
  type JsonObject,
  type JsonValue,
  type MessageShape,
  ScalarType,
  toBinary,
} from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";

/** The bytes of a message, the same as those of `toBinary`. */
export function encode<Desc extends DescMessage>(schema: Desc, message: MessageShape<Desc>): Uint8Array {
  if (!isWritten(schema, message as unknown as Fields)) {
    writer = new BinaryWriter();
    return toBinary(schema, message);
  }
  const bytes = writer.finish();
  if (bytes.length > MAX_KEPT_BYTES) writer = new BinaryWriter();
  return bytes;
}

/** A writer that had to become larger is not kept. */
const MAX_KEPT_BYTES = 64 * 1024;
let writer = new BinaryWriter();

function isWritten(schema: DescMessage, message: Fields): boolean {
  try {
    return encoderOf(schema)(message);
  } catch {
    // toBinary says better what is wrong with a value.
    return false;
  }
}

/** A message seen as its fields by name. */
type Fields = Record<string, unknown> & { $typeName: string; $unknown?: unknown[] };
/** Writes a message, or says false where it has no rule; what it wrote by then is of no use. */
type Encoder = (message: Fields) => boolean;
/** Writes the value of a field, which is set. */
type Write = (value: unknown) => boolean;

const NO_RULE = () => false;

const encoders = new Map<DescMessage, Encoder>();

function encoderOf(schema: DescMessage): Encoder {
  const known = encoders.get(schema);
  if (known) return known;
  const steps: Encoder[] = [];
  const encoder: Encoder = (message) => {
    if (message.$unknown !== undefined || message.$typeName !== schema.typeName) return false;
    for (let i = 0; i < steps.length; i++) if (!steps[i]!(message)) return false;
    return true;
  };
  // Known before its fields are: a type may hold itself.
  encoders.set(schema, encoder);
  for (const field of schema.fields.toSorted((a, b) => a.number - b.number)) steps.push(step(field));
  return encoder;
}

function step(field: DescField): Encoder {
  const { localName } = field;
  const write = writeOf(field);
  if (write === NO_RULE && !field.message) return NO_RULE;
  if (field.oneof) {
    const group = field.oneof.localName;
    return (message) => {
      const chosen = message[group] as { case?: string; value?: unknown };
      return chosen.case !== localName || write(chosen.value);
    };
  }
  switch (field.fieldKind) {
    case "list":
      return (message) => {
        const items = message[localName] as unknown[];
        for (let i = 0; i < items.length; i++) if (!write(items[i])) return false;
        return true;
      };
    case "map":
      return (message) => {
        for (const _ in message[localName] as object) return false;
        return true;
      };
    case "message":
      return (message) => message[localName] === undefined || write(message[localName]);
    default: {
      // An implicit zero stands in the message, an explicit value is there or not.
      const implicit = field.presence === IMPLICIT;
      const isUnset = field.scalar === ScalarType.DOUBLE ? isPositiveZero : isZero;
      return (message) => {
        const value = message[localName];
        if (implicit ? isUnset(value) : value === undefined || !Object.hasOwn(message, localName)) return true;
        return write(value);
      };
    }
  }
}

/** google.protobuf.FeatureSet.FieldPresence.IMPLICIT */
const IMPLICIT = 2;

/** The negative zero of a floating-point number is another value. */
const isPositiveZero = (value: unknown): boolean => Object.is(value, 0);

const isZero = (value: unknown): boolean =>
  value === "" || value === 0 || value === false || value === 0n || (value instanceof Uint8Array && value.length === 0);

function writeOf(field: DescField): Write {
  const { number } = field;
  if (field.fieldKind === "message" && field.message.typeName === STRUCT && !field.delimitedEncoding) {
    return (value) => {
      writer.tag(number, WireType.LengthDelimited).fork();
      if (!writeStruct(value)) return false;
      writer.join();
      return true;
    };
  }
  if (field.message && field.fieldKind !== "map" && !field.delimitedEncoding && !isWellKnown(field.message)) {
    const inner = encoderOf(field.message);
    return (value) => {
      writer.tag(number, WireType.LengthDelimited).fork();
      if (!inner(value as Fields)) return false;
      writer.join();
      return true;
    };
  }
  const type = field.enum ? ScalarType.INT32 : field.scalar;
  if (field.fieldKind === "list" && field.packed) return NO_RULE;
  switch (type) {
    case ScalarType.STRING:
      return (value) => !!writer.tag(number, WireType.LengthDelimited).string(value as string);
    case ScalarType.BYTES:
      return (value) => !!writer.tag(number, WireType.LengthDelimited).bytes(value as Uint8Array);
    case ScalarType.BOOL:
      return (value) => !!writer.tag(number, WireType.Varint).bool(value as boolean);
    case ScalarType.INT32:
      return (value) => !!writer.tag(number, WireType.Varint).int32(value as number);
    case ScalarType.UINT32:
      return (value) => !!writer.tag(number, WireType.Varint).uint32(value as number);
    case ScalarType.DOUBLE:
      return (value) => !!writer.tag(number, WireType.Bit64).double(value as number);
    case ScalarType.INT64:
      return (value) => !!writer.tag(number, WireType.Varint).int64(value as bigint);
    default:
      return NO_RULE;
  }
}

const STRUCT = "google.protobuf.Struct";

/** Free-form data stands in a message as the JSON that it is. Its fields are entries of a map, of which each key and value is written. */
function writeStruct(object: unknown): boolean {
  if (typeof object !== "object" || object === null || "$typeName" in object) return false;
  for (const [key, value] of Object.entries(object as JsonObject)) {
    writer.tag(1, WireType.LengthDelimited).fork();
    writer.tag(1, WireType.LengthDelimited).string(key);
    writer.tag(2, WireType.LengthDelimited).fork();
    if (!writeValue(value)) return false;
    writer.join().join();
  }
  return true;
}

/** google.protobuf.Value: its fields are numbered null, number, string, bool, struct and list. */
function writeValue(value: JsonValue | undefined): boolean {
  switch (typeof value) {
    case "number":
      return Number.isFinite(value) && !!writer.tag(2, WireType.Bit64).double(value);
    case "string":
      return !!writer.tag(3, WireType.LengthDelimited).string(value);
    case "boolean":
      return !!writer.tag(4, WireType.Varint).bool(value);
    case "object":
      break;
    default:
      return false;
  }
  if (value === null) return !!writer.tag(1, WireType.Varint).int32(0);
  writer.tag(Array.isArray(value) ? 6 : 5, WireType.LengthDelimited).fork();
  if (Array.isArray(value)) {
    for (const item of value) {
      writer.tag(1, WireType.LengthDelimited).fork();
      if (!writeValue(item)) return false;
      writer.join();
    }
  } else if (!writeStruct(value)) return false;
  writer.join();
  return true;
}

/** Free-form data and wrappers stand in messages in another form than their own; a timestamp does not. */
const isWellKnown = ({ typeName }: DescMessage): boolean =>
  typeName.startsWith("google.protobuf.") && typeName !== "google.protobuf.Timestamp";
