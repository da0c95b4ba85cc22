/** Makes messages of the contract of what users write in YAML. Every mistake is told with its line, its field, and what may stand there. */
import {
  type DescField,
  type DescMessage,
  fromJson,
  type JsonObject,
  type JsonValue,
  type MessageShape,
  ScalarType,
} from "@bufbuild/protobuf";
import type { Command } from "commander";
import type { ConfigProblem } from "../config/config-error.ts";
import { readYamlDocuments, type YamlPath } from "../config/yaml-documents.ts";
import type { FieldViolation } from "../domain/errors.ts";
import { suggestion } from "../domain/nearest.ts";
import { formOf, itemForm } from "./field-forms.ts";
import { readGivenFile } from "./server-call.ts";

/** One thing that a file describes, as it stands there. */
export interface Described {
  /** `Capability`. */
  readonly kind: string;
  /** Under the names of the contract, in the form of JSON. */
  readonly fields: JsonObject;
  /** Where a field, or something below it, stands. */
  where(path?: YamlPath): string;
}

/** What is made of the one thing that a file holds. A file with mistakes ends the command, which names all of them. */
export function readOne<T>(
  command: Command,
  path: string,
  kind: string,
  make: (described: Described, problems: ConfigProblem[]) => T | undefined,
): T {
  const problems: ConfigProblem[] = [];
  const documents = readYamlDocuments(readGivenFile(command, path).toString(), path, problems);
  const [document] = documents;
  let made: T | undefined;
  if (document && documents.length === 1 && isObject(document.value)) {
    made = make({ kind, fields: document.value, where: (at = []) => document.where(at) }, problems);
  } else if (problems.length === 0) {
    const message = `must be one map of the fields of a ${kind}; --help names them.`;
    problems.push({ where: documents.at(-1)?.where([]) ?? path, message });
  }
  if (made !== undefined && problems.length === 0) return made;
  const lines = problems.map(({ where, message }) => `  ${where}: ${message}`);
  return command.error(`error: ${path} holds no ${kind.toLowerCase()}:\n${lines.join("\n")}`);
}

/** Makes a message of what is described; undefined when something of it is wrong, which is then among `problems`. */
export function decode<Desc extends DescMessage>(
  desc: Desc,
  described: Described,
  problems: ConfigProblem[],
): MessageShape<Desc> | undefined {
  const found = problems.length;
  checkMessage(desc, described.fields, [], { described, problems });
  if (problems.length > found) return undefined;
  try {
    return fromJson(desc, described.fields);
  } catch (error) {
    problems.push({ where: described.where(), message: `${(error as Error).message}.` });
    return undefined;
  }
}

interface Check {
  readonly described: Described;
  readonly problems: ConfigProblem[];
}

/** Looks at each field for itself, so that each mistake has its own place. */
function checkMessage(desc: DescMessage, json: JsonObject, at: YamlPath, check: Check): void {
  const firstOf = new Map<unknown, string>();
  for (const [key, value] of Object.entries(json)) {
    const path = [...at, key];
    const field = desc.fields.find(({ name, jsonName }) => key === jsonName || key === name);
    if (!field) {
      const names = desc.fields.map(({ jsonName }) => jsonName);
      const owner = at.length === 0 ? check.described.kind : textOf(at);
      tell(check, path, `${owner} has no ${key}. ${suggestion(key, names)}`);
      continue;
    }
    // As if it was not there.
    if (value === null) continue;
    // Of a oneof one may be said, and each field under one of its two names.
    const place = field.oneof ?? field;
    const before = firstOf.get(place);
    if (before !== undefined)
      tell(check, path, `${textOf(path)}: cannot stand beside ${before}; leave one of them out.`);
    firstOf.set(place, key);
    checkField(field, value, path, check);
  }
}

function checkField(field: DescField, value: JsonValue, path: YamlPath, check: Check): void {
  if (field.fieldKind === "list" && Array.isArray(value)) {
    for (const [i, item] of value.entries()) checkItem(field, item, [item], [...path, i], check);
  } else if (field.fieldKind === "map" && isObject(value)) {
    for (const [name, item] of Object.entries(value)) checkItem(field, item, { [name]: item }, [...path, name], check);
  } else if (field.fieldKind === "list" || field.fieldKind === "map") {
    tell(check, path, `${textOf(path)}: must be ${formOf(field)}.`);
  } else {
    checkItem(field, value, value, path, check);
  }
}

/** `whole` is what the field would hold if it held nothing but the item. */
function checkItem(field: DescField, item: JsonValue, whole: JsonValue, path: YamlPath, check: Check): void {
  const { message, parent } = field;
  if (message && !message.typeName.startsWith("google.protobuf.") && isObject(item)) {
    checkMessage(message, item, path, check);
    return;
  }
  try {
    fromJson(parent, { [field.jsonName]: whole });
  } catch {
    const isUnquoted = field.scalar === ScalarType.STRING && (typeof item === "number" || typeof item === "boolean");
    const remedy = isUnquoted ? ` Put it in quotes: "${item}".` : "";
    tell(check, path, `${textOf(path)}: must be ${itemForm(field)}.${remedy}`);
  }
}

const tell = ({ described, problems }: Check, path: YamlPath, message: string) =>
  problems.push({ where: described.where(path), message });

/** `serviceLevel.maxLatencyMs`, `examples[1]`. */
const textOf = (path: YamlPath): string =>
  path.map((step, i) => (typeof step === "number" ? `[${step}]` : i === 0 ? step : `.${step}`)).join("");

/** Violations of the domain's rules, each at its line. */
export function addViolations(
  described: Described,
  violations: readonly FieldViolation[],
  problems: ConfigProblem[],
  prefix: YamlPath = [],
): void {
  for (const { field, description } of violations) {
    const path = [...field.matchAll(/\["((?:[^"\\]|\\.)*)"\]|\[(\d+)\]|([^.[\]]+)/g)].map(([, quoted, index, name]) =>
      index === undefined ? (quoted ?? name!) : Number(index),
    );
    const named = field.replace(/^\./, "");
    problems.push({ where: described.where([...prefix, ...path]), message: `${named}: ${description}.` });
  }
}

export const isObject = (value: unknown): value is JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value);
