/**
 * The contract is written by hand; this proves that it is the standard's. `test/fixtures/a2a-v1-contract.json` is the
 * table of the A2A v1.0.1 wire contract; the same table is made here from the built descriptor and compared with it.
 */
import { readFileSync } from "node:fs";
import { type DescField, type DescFile, type DescMethod, getOption, hasOption, ScalarType } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { http } from "../../gen/google/api/annotations_pb.ts";
import { FieldBehavior, field_behavior } from "../../gen/google/api/field_behavior_pb.ts";
import type { HttpRule } from "../../gen/google/api/http_pb.ts";
import { file_lf_a2a_v1_a2a } from "../../gen/lf/a2a/v1/a2a_pb.ts";

interface FieldRow {
  name: string;
  number: number;
  type: string;
  /** Its oneof, for a member of one. */
  oneof?: string;
  /** Declared `optional`: presence is tracked. */
  optional?: true;
  /** google.api.field_behavior says REQUIRED. */
  required?: true;
  deprecated?: true;
}

interface MethodRow {
  request: string;
  response: string;
  serverStreaming: boolean;
  /** `VERB /path body=field`, the additional bindings after the first. */
  http: string[];
}

interface Contract {
  package: string;
  enums: Record<string, Record<string, number>>;
  messages: Record<string, FieldRow[]>;
  service: Record<string, MethodRow>;
}

const published = JSON.parse(
  readFileSync(new URL("../fixtures/a2a-v1-contract.json", import.meta.url), "utf8"),
) as Contract;
const built = contractOf(file_lf_a2a_v1_a2a);

test("the package is the standard's", () => {
  expect(built.package).toBe(published.package);
});

test("there are the standard's messages, and no others", () => {
  expect(Object.keys(built.messages).sort()).toEqual(Object.keys(published.messages).sort());
  expect(file_lf_a2a_v1_a2a.messages.flatMap((m) => [...m.nestedMessages, ...m.nestedEnums])).toEqual([]);
  expect(file_lf_a2a_v1_a2a.extensions).toEqual([]);
});

test.each(Object.keys(published.messages))("%s has the standard's fields", (name) => {
  expect(byName(built.messages[name])).toEqual(byName(published.messages[name]));
});

test("the enums are the standard's", () => {
  expect(built.enums).toEqual(published.enums);
});

test("A2AService is the one service", () => {
  expect(file_lf_a2a_v1_a2a.services.map((service) => service.typeName)).toEqual(["lf.a2a.v1.A2AService"]);
});

test("the methods and their routes are the standard's", () => {
  expect(built.service).toEqual(published.service);
});

function contractOf(file: DescFile): Contract {
  const methods = file.services.flatMap((service) => service.methods);
  return {
    package: file.proto.package,
    enums: Object.fromEntries(
      file.enums.map((e) => [e.name, Object.fromEntries(e.values.map((value) => [value.name, value.number]))]),
    ),
    messages: Object.fromEntries(file.messages.map((m) => [m.name, m.fields.map((field) => fieldRow(field))])),
    service: Object.fromEntries(methods.map((method) => [method.name, methodRow(method)])),
  };
}

function fieldRow(field: DescField): FieldRow {
  return {
    name: field.name,
    number: field.number,
    type: typeOf(field),
    ...(field.oneof && { oneof: field.oneof.name }),
    ...(field.proto.proto3Optional && { optional: true as const }),
    ...(getOption(field, field_behavior).includes(FieldBehavior.REQUIRED) && { required: true as const }),
    ...(field.deprecated && { deprecated: true as const }),
  };
}

/** The type as a proto file writes it, names of this package without the package. */
function typeOf(field: DescField): string {
  switch (field.fieldKind) {
    case "scalar":
      return scalarName(field.scalar);
    case "enum":
      return localName(field.enum.typeName);
    case "message":
      return localName(field.message.typeName);
    case "list":
      if (field.listKind === "scalar") return `repeated ${scalarName(field.scalar)}`;
      return `repeated ${localName((field.listKind === "enum" ? field.enum : field.message).typeName)}`;
    case "map": {
      const key = scalarName(field.mapKey);
      if (field.mapKind === "scalar") return `map<${key}, ${scalarName(field.scalar)}>`;
      return `map<${key}, ${localName((field.mapKind === "enum" ? field.enum : field.message).typeName)}>`;
    }
  }
}

function methodRow(method: DescMethod): MethodRow {
  expect(method.methodKind, method.name).toBeOneOf(["unary", "server_streaming"]);
  expect(hasOption(method, http), `${method.name} has a route`).toBe(true);
  const rule = getOption(method, http);
  return {
    request: localName(method.input.typeName),
    response: localName(method.output.typeName),
    serverStreaming: method.methodKind === "server_streaming",
    http: [rule, ...rule.additionalBindings].map(routeOf),
  };
}

function routeOf(rule: HttpRule): string {
  const { case: verb, value } = rule.pattern;
  const path = typeof value === "string" ? value : `${value?.kind} ${value?.path}`;
  return `${verb?.toUpperCase()} ${path}${rule.body ? ` body=${rule.body}` : ""}`;
}

function scalarName(type: ScalarType): string {
  return ScalarType[type].toLowerCase();
}

function localName(typeName: string): string {
  return typeName.replace(/^lf\.a2a\.v1\./, "");
}

/** By name, so that a difference shows as the line that differs; the order of declaration means nothing on the wire. */
function byName(rows: readonly FieldRow[] | undefined) {
  return rows && Object.fromEntries(rows.map(({ name, ...row }) => [name, row]));
}
