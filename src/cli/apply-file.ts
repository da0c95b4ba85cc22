/**
 * What a file for `signalbox apply` says: lists under `agents`, `capabilities` and `rollouts`, or documents with `kind` as
 * kubectl has them. Every mistake is found, each with its line, before anything is sent.
 */
import type { JsonObject } from "@bufbuild/protobuf";
import type { ConfigProblem } from "../config/config-error.ts";
import { readYamlDocuments, type YamlDocument, type YamlPath } from "../config/yaml-documents.ts";
import { suggestion } from "../domain/nearest.ts";
import { type Described, isObject } from "./described.ts";

const KINDS = ["Agent", "Capability", "Rollout"] as const;
type Kind = (typeof KINDS)[number];

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
