/**
 * What a file for `signalbox apply` says: lists under `agents`, `capabilities` and `rollouts`, or documents with `kind` as
 * kubectl has them. Every mistake is found, each with its line, before anything is sent.
 */
import {
  type DescField,
  type DescMessage,
  fromJson,
  type JsonObject,
  type JsonValue,
  type Message,
} from "@bufbuild/protobuf";
import type { ConfigProblem } from "../config/config-error.ts";
import { readYamlDocuments, type YamlDocument, type YamlPath } from "../config/yaml-documents.ts";
import type { FieldViolation } from "../domain/errors.ts";
import { suggestion } from "../domain/nearest.ts";

export const KINDS = ["Agent", "Capability", "Rollout"] as const;
export type Kind = (typeof KINDS)[number];

/** One thing that a file describes, as it stands there. */
export interface Described {
  readonly kind: Kind;
  /** Under the names of the contract, in the form of JSON. */
  readonly fields: JsonObject;
  /** Where a field, or something below it, stands. */
  where(path?: YamlPath): string;
}

const SECTIONS: ReadonlyMap<string, Kind> = new Map([
  ["agents", "Agent"],
  ["capabilities", "Capability"],
  ["rollouts", "Rollout"],
]);

/** What `metadata.name` is called in each kind. */
const NAME_FIELD: Record<Kind, string> = { Agent: "agentId", Capability: "capabilityId", Rollout: "capabilityId" };

/** What a text describes, in its order. */
export function readDescribed(text: string, file: string, problems: ConfigProblem[]): Described[] {
  return readYamlDocuments(text, file, problems).flatMap((document) => {
    const { value } = document;
    if (!isObject(value)) {
      problems.push({ where: document.where([]), message: "A document must be a map, as `agents: [...]`." });
      return [];
    }
    return "kind" in value ? ofKind(document, value, problems) : ofSections(document, value, problems);
  });
}

function ofSections(document: YamlDocument, value: JsonObject, problems: ConfigProblem[]): Described[] {
  return Object.entries(value).flatMap(([section, items]) => {
    const kind = SECTIONS.get(section);
    if (!kind) {
      const known = [...SECTIONS.keys()];
      problems.push({
        where: document.where([section]),
        message: `There is no section ${section}. ${suggestion(section, known)}`,
      });
      return [];
    }
    // A section whose lines are all commented out.
    if (items === null) return [];
    if (!Array.isArray(items)) {
      problems.push({ where: document.where([section]), message: `${section} must be a list.` });
      return [];
    }
    return items.flatMap((fields, index) => {
      const at: YamlPath = [section, index];
      if (isObject(fields)) return [{ kind, fields, where: (path = []) => document.where([...at, ...path]) }];
      problems.push({ where: document.where(at), message: `An entry of ${section} must be a map.` });
      return [];
    });
  });
}

function ofKind(document: YamlDocument, value: JsonObject, problems: ConfigProblem[]): Described[] {
  const found = problems.length;
  const refuse = (path: YamlPath, message: string) => problems.push({ where: document.where(path), message });
  const { apiVersion = "signalbox/v1", kind, metadata = {}, spec = {}, ...others } = value;
  const known = KINDS.find((each) => each === kind);
  if (!known) refuse(["kind"], `There is no kind ${String(kind)}. ${suggestion(String(kind), KINDS)}`);
  if (apiVersion !== "signalbox/v1") refuse(["apiVersion"], "apiVersion must be signalbox/v1; it can be left out.");
  if (!isObject(metadata)) refuse(["metadata"], "metadata must be a map, as {name: writer}.");
  if (!isObject(spec)) refuse(["spec"], "spec must be a map: what there is to say of it.");
  for (const name of Object.keys(others)) {
    refuse([name], `${name} does not belong here: a document has kind, metadata.name and spec.`);
  }
  for (const name of isObject(metadata) ? Object.keys(metadata) : []) {
    if (name !== "name") refuse(["metadata", name], `metadata has a name only; ${name} is not known.`);
  }
  if (!known || problems.length > found) return [];
  const { name } = metadata as JsonObject;
  const field = NAME_FIELD[known];
  const fields = { ...(name !== undefined && { [field]: name }), ...(spec as JsonObject) };
  const where = ([first, ...rest]: YamlPath = []) => {
    if (first === undefined) return document.where([]);
    return document.where(first === field && name !== undefined ? ["metadata", "name"] : ["spec", first, ...rest]);
  };
  return [{ kind: known, fields, where }];
}

/** Makes a message of what is described; undefined when something of it is wrong, which is then among `problems`. */
export function decode<T extends Message>(
  desc: DescMessage,
  described: Described,
  problems: ConfigProblem[],
): T | undefined {
  const found = problems.length;
  check(desc, described.fields, [], described, problems);
  if (problems.length > found) return undefined;
  try {
    return fromJson(desc, described.fields) as T;
  } catch (error) {
    problems.push({ where: described.where(), message: `${(error as Error).message}.` });
    return undefined;
  }
}

/** Looks at each field for itself, so that each mistake has its own place. */
function check(
  desc: DescMessage,
  json: JsonObject,
  at: YamlPath,
  described: Described,
  problems: ConfigProblem[],
): void {
  for (const [key, value] of Object.entries(json)) {
    const path = [...at, key];
    const field = desc.fields.find(({ name, jsonName }) => key === jsonName || key === name);
    if (!field) {
      const names = desc.fields.map(({ jsonName }) => jsonName);
      problems.push({
        where: described.where(path),
        message: `${at.length === 0 ? described.kind : desc.name} has no ${key}. ${suggestion(key, names)}`,
      });
    } else {
      checkValue(desc, field, key, value, path, described, problems);
    }
  }
}

function checkValue(
  desc: DescMessage,
  field: DescField,
  key: string,
  value: JsonValue,
  path: YamlPath,
  described: Described,
  problems: ConfigProblem[],
): void {
  const inner = field.message;
  if (inner && !inner.typeName.startsWith("google.protobuf.")) {
    if (field.fieldKind === "message" && isObject(value)) {
      check(inner, value, path, described, problems);
      return;
    }
    if (field.fieldKind === "list" && Array.isArray(value)) {
      value.forEach((item, i) => {
        if (isObject(item)) check(inner, item, [...path, i], described, problems);
        else problems.push({ where: described.where([...path, i]), message: `must be a map: a ${inner.name}.` });
      });
      return;
    }
  }
  try {
    fromJson(desc, { [key]: value });
  } catch (error) {
    // Protobuf-es names the field by its full name, in front of what is wrong with it.
    const [, what = ""] = /from JSON:? (.*)$/s.exec((error as Error).message) ?? [];
    problems.push({ where: described.where(path), message: `${key}: ${what || (error as Error).message}.` });
  }
}

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

const isObject = (value: unknown): value is JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value);
