/**
 * YAML as a tree of plain values that know where they stand, for documents that others wrote. It is read piece by piece, and
 * given up as soon as it is beyond its bounds: what is too deep or has too many nodes is never built. Aliases are followed and
 * counted with what they stand for, so a small text cannot become a large tree. The types of YAML's core schema; no tags of one's
 * own, no merge keys.
 */
import {
  Composer,
  type CST,
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  Lexer,
  LineCounter,
  type Node,
  Parser,
} from "yaml";
import { clip } from "../errors.ts";

export type YamlScalar = string | number | boolean | null;

interface Placed {
  /** Where it begins, in characters from the beginning of the text. */
  readonly offset: number;
}

export interface YamlText extends Placed {
  readonly kind: "scalar";
  readonly value: YamlScalar;
  /** As it is written, without quotes. */
  readonly source: string;
}

export interface YamlList extends Placed {
  readonly kind: "list";
  readonly items: readonly YamlTree[];
}

export interface YamlMap extends Placed {
  readonly kind: "map";
  readonly entries: ReadonlyMap<string, YamlEntry>;
}

export interface YamlEntry {
  readonly keyOffset: number;
  readonly value: YamlTree;
}

export type YamlTree = YamlText | YamlList | YamlMap;

/** What is wrong with a text, and where. */
export interface YamlProblem extends Placed {
  readonly description: string;
}

export interface YamlReading {
  /** Undefined for an empty document, and where there are problems. */
  readonly tree: YamlTree | undefined;
  readonly problems: readonly YamlProblem[];
  /** Both from 1 on. */
  place(offset: number): { line: number; column: number };
}

/** Of one document. */
const MAX_BYTES = 4 * 1024 * 1024;
const MAX_NODES = 500_000;
const MAX_DEPTH = 48;
const MAX_ALIASES = 10_000;
/** Signs, marks of scalars and lines among them: each value takes a few. */
const MAX_LEXEMES = 1_500_000;
/** Mistakes of YAML that are told. What follows from the first is seldom worth more. */
const MAX_PROBLEMS = 100;

/** What the lexer puts between signs: that a document or a scalar begins, or that a flow ends. */
const MARKS = new Set(["\u0002", "\u0018", "\u001f"]);

/** Why the reading is given up. */
class BeyondBounds extends Error {
  readonly offset: number;

  constructor(offset: number, description: string) {
    super(description);
    this.offset = offset;
  }
}

export function readYamlTree(text: string): YamlReading {
  const lines = new LineCounter();
  const place = (offset: number) => {
    // Lines are known only as far as the text was read.
    const { line, col } = lines.lineStarts.length > 1 ? lines.linePos(offset) : { line: 0, col: 0 };
    return line === 0 ? counted(text, offset) : { line, column: col };
  };
  const failed = (problems: readonly YamlProblem[]): YamlReading => ({ tree: undefined, problems, place });
  const bytes = Buffer.byteLength(text);
  if (bytes > MAX_BYTES) {
    return failed([
      { offset: 0, description: `is longer than ${MAX_BYTES} bytes: it has ${bytes}. Split it into several` },
    ]);
  }
  const found: YamlProblem[] = [];
  try {
    const documents = compose(text, lines, found);
    const [document, another] = documents;
    if (another) {
      const description = "is a second document. Put everything into one, without a line of ---";
      return failed([{ offset: another.contents?.range?.[0] ?? another.range[0], description }]);
    }
    if (found.length > 0 || !document?.contents) return failed(found);
    const tree = grow(document.contents, found);
    if (found.length > 0) return failed(found);
    const isEmpty = tree.kind === "scalar" && tree.value === null;
    return { tree: isEmpty ? undefined : tree, problems: [], place };
  } catch (error) {
    if (error instanceof BeyondBounds) return failed([...found, { offset: error.offset, description: error.message }]);
    // The stack, or a list of arguments.
    if (error instanceof RangeError) return failed([{ offset: 0, description: "is too intricate. Write it plainly" }]);
    throw error;
  }
}

/** Where a composer says that something is: a token, a range, or where it begins. */
type Spot = number | readonly number[] | { readonly offset: number };

/** Problems go to `problems`; nothing that is beyond the bounds is built. */
function compose(text: string, lines: LineCounter, problems: YamlProblem[]): Document.Parsed[] {
  const lexemes = lexemesOf(text);
  const parser = new Parser(lines.addNewLine);
  // Keys that are given twice are found later, in less than the square of their number.
  const composer = new Composer({ schema: "core", uniqueKeys: false, prettyErrors: false });
  const tell = (spot: Spot, message: string) => {
    const offset = typeof spot === "number" ? spot : "offset" in spot ? spot.offset : (spot[0] ?? 0);
    problems.push({ offset, description: `is no valid YAML: ${clip(message, 200).replace(/\.$/, "")}` });
    if (problems.length === MAX_PROBLEMS) throw new BeyondBounds(offset, "has more such mistakes. Mend these first");
  };
  // Its own way is to make an Error with a stack of each mistake, of which a text can hold millions.
  Object.assign(composer, { onError: (spot: Spot, _code: string, message: string) => tell(spot, message) });
  const documents: Document.Parsed[] = [];
  const take = (token: CST.Token) => {
    if (token.type === "error") return tell(token.offset, token.message);
    for (const document of composer.next(token)) add(document);
  };
  const add = (document: Document.Parsed) => {
    documents.push(document);
    if (documents.length > 2)
      throw new BeyondBounds(document.range[0], "is one of many documents. Put everything into one");
  };
  lines.addNewLine(0);
  for (const lexeme of lexemes) {
    for (const token of parser.next(lexeme)) take(token);
    if (parser.stack.length > MAX_DEPTH) {
      throw new BeyondBounds(parser.offset, `is nested deeper than ${MAX_DEPTH} levels`);
    }
  }
  for (const token of parser.end()) take(token);
  for (const document of composer.end()) add(document);
  for (const { errors, warnings } of documents) {
    for (const { pos, message } of [...errors, ...warnings]) tell(pos, message);
  }
  return documents;
}

/** The signs of a text: cutting it is quick, building with them is not. */
function lexemesOf(text: string): string[] {
  const lexemes: string[] = [];
  let offset = 0;
  for (const lexeme of new Lexer().lex(text)) {
    if (lexemes.push(lexeme) > MAX_LEXEMES) {
      throw new BeyondBounds(
        offset,
        `is too much: the text before has ${MAX_LEXEMES} signs of YAML. Split it into several`,
      );
    }
    // Marks of the lexer stand for nothing in the text.
    if (!MARKS.has(lexeme)) offset += lexeme.length;
  }
  return lexemes;
}

function grow(root: Node, problems: YamlProblem[]): YamlTree {
  const anchors = new Map<string, Node>();
  const open = new Set<Node>();
  let nodes = 0;
  let aliases = 0;
  return visit(root, root.range?.[0] ?? 0, 0, false);

  /** `isCopy` is set below an alias: what it stands for has had its anchors counted. */
  function visit(node: Node | null, offset: number, depth: number, isCopy: boolean): YamlTree {
    const begin = node?.range?.[0] ?? offset;
    if (++nodes > MAX_NODES) throw new BeyondBounds(begin, `has more than ${MAX_NODES} values, aliases followed`);
    if (depth > MAX_DEPTH) throw new BeyondBounds(begin, `is nested deeper than ${MAX_DEPTH} levels, aliases followed`);
    if (isAlias(node)) return follow(node.source, begin, depth);
    if (node === null) return { kind: "scalar", offset: begin, value: null, source: "" };
    const { anchor } = node as { anchor?: string };
    if (anchor !== undefined && !isCopy) anchors.set(anchor, node);
    if (isScalar(node)) return leaf(node, begin);
    open.add(node);
    const tree = isMap(node) ? branch(node, begin, depth, isCopy) : list(node, begin, depth, isCopy);
    open.delete(node);
    return tree;
  }

  function follow(name: string, begin: number, depth: number): YamlTree {
    if (++aliases > MAX_ALIASES) throw new BeyondBounds(begin, `has more than ${MAX_ALIASES} aliases`);
    const target = anchors.get(name);
    if (target === undefined)
      throw new BeyondBounds(begin, `refers to *${clip(name, 64)}, which nothing before it is called`);
    if (open.has(target)) throw new BeyondBounds(begin, `refers to *${clip(name, 64)}, of which it is a part`);
    return visit(target, begin, depth, true);
  }

  function leaf(node: { value: unknown; source?: string }, offset: number): YamlTree {
    const { value, source } = node;
    const isPlain =
      value === null || typeof value === "boolean" || typeof value === "number" || typeof value === "string";
    if (!isPlain) problems.push({ offset, description: "is of a type that is not taken. Write it without a tag" });
    return {
      kind: "scalar",
      offset,
      value: isPlain ? value : null,
      source: typeof value === "string" ? value : (source ?? String(value)),
    };
  }

  function list(node: Node, offset: number, depth: number, isCopy: boolean): YamlTree {
    const items = isSeq(node) ? node.items : [];
    return { kind: "list", offset, items: items.map((item) => visit(item as Node | null, offset, depth + 1, isCopy)) };
  }

  function branch(node: Node, offset: number, depth: number, isCopy: boolean): YamlTree {
    const entries = new Map<string, YamlEntry>();
    for (const { key, value } of isMap(node) ? node.items : []) {
      const keyOffset = (key as Node | null)?.range?.[0] ?? offset;
      if (!isScalar(key)) {
        problems.push({ offset: keyOffset, description: "is no name: a name is one plain text" });
        continue;
      }
      const name = typeof key.value === "string" ? key.value : (key.source ?? String(key.value));
      const entry = { keyOffset, value: visit(value as Node | null, keyOffset, depth + 1, isCopy) };
      if (entries.has(name))
        problems.push({ offset: keyOffset, description: `gives ${clip(name, 64)} twice. Keep one` });
      entries.set(name, entry);
    }
    return { kind: "map", offset, entries };
  }
}

function counted(text: string, offset: number): { line: number; column: number } {
  const before = text.slice(0, offset);
  return { line: before.split("\n").length, column: offset - before.lastIndexOf("\n") };
}

/** The plain value that a tree stands for. */
export function plainValue(tree: YamlTree): unknown {
  if (tree.kind === "scalar") return tree.value;
  if (tree.kind === "list") return tree.items.map(plainValue);
  // Defined and not set, so that a name such as __proto__ is one like any other.
  return Object.fromEntries([...tree.entries].map(([name, { value }]) => [name, plainValue(value)]));
}

/** Where the value at a path such as `budgets[2].daily_limit` stands, its name where it has one; of a path that leads nowhere, its last part that does. */
export function offsetOf(tree: YamlTree, path: string): number {
  let { offset } = tree;
  let at: YamlTree = tree;
  for (const [, name, index] of path.matchAll(/([^.[\]]+)|\[(\d+)\]/g)) {
    if (name !== undefined) {
      const entry: YamlEntry | undefined = at.kind === "map" ? at.entries.get(name) : undefined;
      if (!entry) return offset;
      ({ keyOffset: offset, value: at } = entry);
    } else {
      const item: YamlTree | undefined = at.kind === "list" ? at.items[Number(index)] : undefined;
      if (!item) return offset;
      ({ offset } = item);
      at = item;
    }
  }
  return offset;
}
