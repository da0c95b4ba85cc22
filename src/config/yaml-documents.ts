/** Reads files of several YAML documents, keeping where each value stands. JSON is YAML too. */
import { isMap, isPair, isScalar, LineCounter, type Node, parseAllDocuments } from "yaml";
import type { ConfigProblem } from "./config-error.ts";

/** The names and numbers that lead to a value. */
export type YamlPath = readonly (string | number)[];

export interface YamlDocument {
  readonly value: unknown;
  /** Where the value at a path stands, by its name where it has one: `fleet.yaml:3:5`. Of a path that leads nowhere, its last part that does. */
  where(path: YamlPath): string;
}

/** The documents that are not empty. What is no YAML goes to `problems`. `file` is what mistakes call the text. */
export function readYamlDocuments(text: string, file: string, problems: ConfigProblem[]): YamlDocument[] {
  const lineCounter = new LineCounter();
  const at = (offset: number): string => {
    const { line, col } = lineCounter.linePos(offset);
    return `${file}:${line}:${col}`;
  };
  const parsed = parseAllDocuments(text, { lineCounter, prettyErrors: false });
  const documents: YamlDocument[] = [];
  for (const document of Array.isArray(parsed) ? parsed : []) {
    for (const { pos, message } of [...document.errors, ...document.warnings]) {
      problems.push({ where: at(pos[0]), message: `This is no valid YAML: ${message}.`.replace(/\.\.$/, ".") });
    }
    if (document.errors.length > 0) continue;
    let value: unknown;
    try {
      value = document.toJS();
    } catch (error) {
      // Aliases that hold each other, or very many of them.
      problems.push({ where: at(document.range[0]), message: `${(error as Error).message}.`.replace(/\.\.$/, ".") });
      continue;
    }
    if (value === null || value === undefined) continue;
    const start = document.contents?.range?.[0] ?? document.range[0];
    documents.push({ value, where: (path) => at(offsetOf(document.contents, path) ?? start) });
  }
  return documents;
}

function offsetOf(root: Node | null, path: YamlPath): number | undefined {
  let node: unknown = root;
  let offset = root?.range?.[0];
  for (const step of path) {
    if (isMap(node)) {
      const pair = node.items.find(({ key }) => isScalar(key) && String(key.value) === String(step));
      if (!isPair(pair)) return offset;
      offset = (pair.key as Node).range?.[0] ?? offset;
      node = pair.value;
    } else {
      const item = (node as { items?: readonly unknown[] } | undefined)?.items?.[Number(step)];
      if (item === undefined) return offset;
      offset = (item as Node).range?.[0] ?? offset;
      node = item;
    }
  }
  return offset;
}
