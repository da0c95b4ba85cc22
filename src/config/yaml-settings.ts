/** Reads settings from YAML, keeping where each of them stands. */
import { type Document, isAlias, isMap, isScalar, LineCounter, type Node, parseDocument } from "yaml";
import { nearest } from "../domain/nearest.ts";
import type { ConfigProblem } from "./config-error.ts";
import { environmentName, flagName, isSettingKey, SETTING_KEYS, type SettingKey } from "./settings.ts";

/** A value as one source gives it. */
export interface Given {
  value: unknown;
  /** `signalbox.yaml:3:9`, `SIGNALBOX_HTTP_PORT` or `--http-port`. */
  where: string;
}

/** Settings lie two levels deep; one more is followed to name what is wrong. Bounds a file that contains itself. */
const MAX_DEPTH = 3;

/**
 * The settings that the text of a YAML file gives. Levels may be nested or joined by dots: `http: {port: 1}` is
 * `http.port: 1`. `file` is the name by which mistakes call the file. What is no setting goes to `problems`.
 */
export function readYaml(text: string, file: string, problems: ConfigProblem[]): Map<SettingKey, Given> {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const at = (offset: number): string => {
    const { line, col } = lines.linePos(offset);
    return `${file}:${line}:${col}`;
  };
  for (const { pos, message } of [...document.errors, ...document.warnings]) {
    problems.push({ where: at(pos[0]), message: `This is no valid YAML: ${message}.`.replace(/\.\.$/, ".") });
  }
  // A tree with holes would only give mistakes that follow from the first.
  if (document.errors.length > 0) return new Map();

  const found = new Map<SettingKey, Given>();
  const visit = (node: Node | null, path: string, offset: number, depth: number): void => {
    const value = isAlias(node) ? (node.resolve(document) ?? null) : node;
    const inner = path === "" || isSection(path) || (isMap(value) && value.items.length > 0 && depth < MAX_DEPTH);
    if (isMap(value) && inner && !isSettingKey(path)) {
      for (const { key, value: child } of value.items) {
        const keyNode = key as Node;
        const name = isScalar(keyNode) ? String(keyNode.value) : String(keyNode);
        const keyOffset = keyNode.range?.[0] ?? offset;
        visit(child as Node | null, path === "" ? name : `${path}.${name}`, keyOffset, depth + 1);
      }
    } else if (isSettingKey(path) && path !== "config") {
      const given: Given = { value: plain(value, document), where: at(node?.range?.[0] ?? offset) };
      if (found.has(path)) problems.push({ where: given.where, message: `${path} is given twice. Keep one of them.` });
      else if (given.value === null) {
        problems.push({ where: at(offset), message: `${path} has no value. Give it one, or remove the line.` });
      } else found.set(path, given);
    } else if (path === "") {
      if (!isEmpty(value))
        problems.push({ where: at(0), message: "The file must hold settings, as `http.port: 8080`." });
    } else if (!(isSection(path) && isEmpty(value))) {
      problems.push({ where: at(offset), message: notASetting(path) });
    }
  };
  visit(document.contents, "", 0, 0);
  return found;
}

/** A section whose lines are all commented out has the value null. */
const isEmpty = (node: Node | null): boolean => node === null || (isScalar(node) && node.value === null);

const isSection = (path: string): boolean => SETTING_KEYS.some((key) => key.startsWith(`${path}.`));

const plain = (node: Node | null, document: Document): unknown => (node === null ? null : node.toJS(document));

function notASetting(path: string): string {
  if (path === "config") {
    return `config cannot be set in the file itself. Use ${flagName(path)} or ${environmentName(path)}.`;
  }
  if (isSection(path)) {
    const keys = SETTING_KEYS.filter((key) => key.startsWith(`${path}.`));
    return `${path} is a section, not a setting. In it are ${keys.join(", ")}.`;
  }
  return `There is no setting ${path}. ${guess(path, SETTING_KEYS)}`;
}

/** What to do about a name that is none: the nearest that is, or where to find them all. */
export function guess(name: string, candidates: readonly string[]): string {
  const meant = nearest(name, candidates, Math.max(2, Math.floor(name.length / 3)));
  return meant ? `Did you mean ${meant}?` : "`signalbox serve --help` lists them all.";
}
