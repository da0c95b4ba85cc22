/** What is encoded here is what protobuf-es would have encoded, byte for byte, for messages of every shape. */
import {
  create,
  type DescField,
  type DescMessage,
  fromBinary,
  type JsonObject,
  type Message,
  ScalarType,
  toBinary,
} from "@bufbuild/protobuf";
import { TimestampSchema } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { A2AService, SendMessageResponseSchema, TaskSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { RegistryService } from "../../gen/signalbox/v1/registry_pb.ts";
import { RoutingService } from "../../gen/signalbox/v1/routing_pb.ts";
import { TaskService } from "../../gen/signalbox/v1/task_pb.ts";
import { encode } from "../../src/domain/encode.ts";

const methods = [A2AService, RegistryService, RoutingService, TaskService].flatMap((service) => [...service.methods]);
const schemas = [...new Set(methods.flatMap(({ input, output }) => [input, output]))];

describe("every message of our services", () => {
  test.each(schemas.map((schema) => [schema.typeName, schema] as const))("%s", (_, schema) => {
    fc.assert(
      fc.property(messageOf(schema, 4), (message) => {
        expect(Buffer.from(encode(schema, message)).equals(toBinary(schema, message))).toBe(true);
      }),
    );
  });
});

test("unknown fields go on with their message", () => {
  const known = toBinary(TaskSchema, create(TaskSchema, { id: "t" }));
  const message = fromBinary(TaskSchema, Buffer.concat([known, Buffer.from([0xfa, 0x7f, 1, 65])]));
  expect(Buffer.from(encode(TaskSchema, message))).toEqual(Buffer.from(toBinary(TaskSchema, message)));
});

test("a large message, and a small one after it", () => {
  for (const size of [1, 100_000, 1]) {
    const task = create(TaskSchema, { id: "x".repeat(size), history: [{ messageId: "ü".repeat(size) }] });
    const message = create(SendMessageResponseSchema, { payload: { case: "task", value: task } });
    expect(
      Buffer.from(encode(SendMessageResponseSchema, message)).equals(toBinary(SendMessageResponseSchema, message)),
    ).toBe(true);
  }
});

test("what cannot be encoded is an error, as ever, and harms nothing", () => {
  const broken = create(TaskSchema, { id: "t", status: { state: "no number" as never } });
  expect(() => encode(TaskSchema, broken)).toThrow("lf.a2a.v1.TaskStatus.state");
  const task = create(TaskSchema, { id: "t" });
  expect(Buffer.from(encode(TaskSchema, task)).equals(toBinary(TaskSchema, task))).toBe(true);
});

/** Messages with any of their fields, `depth` levels deep. */
function messageOf(schema: DescMessage, depth: number): fc.Arbitrary<Message> {
  if (schema.typeName === TimestampSchema.typeName) {
    return fc
      .record({ seconds: fc.bigInt(-62135596800n, 253402300799n), nanos: fc.nat(999_999_999) })
      .map((init) => create(schema, init as never));
  }
  const fields = schema.fields.filter((field) => depth > 0 || !field.message);
  const given = fc.tuple(...fields.map((field) => fc.option(anyValueOf(field, depth - 1), { nil: undefined })));
  return given.map((values) => {
    const init: Record<string, unknown> = {};
    values.forEach((value, i) => {
      const { oneof, localName } = fields[i]!;
      if (value === undefined) return;
      if (oneof) init[oneof.localName] = { case: localName, value };
      else init[localName] = value;
    });
    return create(schema, init as never);
  });
}

function anyValueOf(field: DescField, depth: number): fc.Arbitrary<unknown> {
  const one = singleOf(field, depth);
  if (field.fieldKind === "list") return fc.array(one, { maxLength: 3 });
  if (field.fieldKind === "map") return fc.dictionary(fc.string(), one, { maxKeys: 2, noNullPrototype: true });
  return one;
}

function singleOf(field: DescField, depth: number): fc.Arbitrary<unknown> {
  if (field.message?.typeName === "google.protobuf.Struct")
    return fc.dictionary(fc.string(), fc.jsonValue({ maxDepth: 3 }), {
      noNullPrototype: true,
    }) as fc.Arbitrary<JsonObject>;
  if (field.message) return messageOf(field.message, depth);
  if (field.enum) return fc.constantFrom(...field.enum.values.map(({ number }) => number));
  switch (field.scalar) {
    case ScalarType.STRING:
      return fc.oneof(fc.string({ unit: "grapheme" }), fc.string({ minLength: 30, maxLength: 40 }));
    case ScalarType.BYTES:
      return fc.uint8Array();
    case ScalarType.BOOL:
      return fc.boolean();
    case ScalarType.INT64:
      return fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n);
    case ScalarType.INT32:
      return fc.oneof(fc.integer(), fc.constant(-0));
    case ScalarType.UINT32:
      return fc.nat(2 ** 32 - 1);
    case ScalarType.DOUBLE:
      return fc.oneof(fc.double(), fc.constantFrom(0, -0, Number.NaN, Number.POSITIVE_INFINITY));
    default:
      return fc.nat(1000);
  }
}
