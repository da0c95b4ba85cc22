/**
 * Conditions in CEL, the Common Expression Language, within bounds. An expression is checked when it is read: its size, its
 * types, and that it asks for nothing that could take long or grow. It has no loop but over a list that is there, and none within
 * another. What it costs at most follows from its size and from that of the facts, and is charged before it runs.
 * docs/decisions/0012-policy.md says why by this library.
 */
import { type ASTNode, Environment, type ParseResult } from "@marcbachmann/cel-js";
import { clip } from "../errors.ts";
import { FACTS, type FactInfo, factHint, factOf, laterOf } from "./fact-table.ts";
import type { PolicyPhase } from "./facts.ts";

/** Longest expression in characters, the most of its nodes, and how deep they are nested. */
const MAX_LENGTH = 2_048;
const MAX_AST_NODES = 256;
const MAX_DEPTH = 24;
const MAX_LITERALS = 256;

/** Loops over a list. */
const LOOPS = new Set(["all", "exists", "exists_one", "filter"]);
/** What an expression may call. Nothing here makes a text or a list longer than what went in; only `+` does, and lists and maps keep it. */
const FUNCTIONS = new Set([
  ...LOOPS,
  "has",
  "size",
  "startsWith",
  "endsWith",
  "contains",
  "lowerAscii",
  "upperAscii",
  "trim",
  "int",
  "double",
  "string",
]);
/** Of them, those that give a text or a list again, which may be as long. */
const PASSING = new Set(["filter", "lowerAscii", "upperAscii", "trim", "string"]);
/** Texts of any length: not to be looked through once for each item of a list, joined or kept. */
const LONG_TEXTS = new Set(["output_text"]);
/** Money once more, exact, for sums. */
const COST_MICROS = "cost_micros";
const LABELS = "labels";
const TENANT = "tenant_id";

const environment = createEnvironment();

/** What an expression asks about. */
interface Asked {
  /** Names of facts; `labels` for all labels. */
  readonly facts: readonly string[];
  /** From when on they are known. */
  readonly from: PolicyPhase;
}

/** What was read of an expression. */
export interface ReadExpression extends Asked {
  readonly program: ParseResult;
  readonly nodes: number;
  /** How often it says `+`: so many copies of a text or a list can become one, and one more. */
  readonly sums: number;
  readonly hasLoop: boolean;
}

/** An expression within its bounds, or what is wrong with it. */
export function readExpression(text: string): ReadExpression | { problem: string } {
  if (text.length > MAX_LENGTH)
    return { problem: `must have at most ${MAX_LENGTH} characters, but has ${text.length}` };
  try {
    const program = environment.parse(text);
    const found: Found = { facts: new Set(), nodes: 0, sums: 0, hasLoop: false };
    const refused = refusalOf(program.ast, found);
    if (refused !== undefined) return { problem: refused };
    const { valid, type, error } = program.check();
    if (!valid) return { problem: `is no valid CEL: ${summary(error)}` };
    if (type !== "bool" && type !== "dyn") return { problem: `must be true or false, but is of type ${type}` };
    const { nodes, sums, hasLoop } = found;
    const facts = [...found.facts];
    return { facts, from: facts.map(phaseOf).reduce(laterOf, "ADMISSION"), program, nodes, sums, hasLoop };
  } catch (error) {
    if (error instanceof RangeError) return { problem: "is nested too deeply" };
    return { problem: `is no valid CEL: ${summary(error)}` };
  }
}

export interface CompiledExpression {
  /** Names of facts; `labels` for all labels. */
  readonly facts: readonly string[];
  /** Throws where it comes to nothing: for a fact that is not known, or one of another type, or where `spend` does. */
  readonly holds: (value: (name: string) => unknown) => boolean;
}

/**
 * Compiles an expression that `readExpression` has taken. `spend` is told of each run before it begins, in characters that it looks
 * through at most, and throws where that is too much.
 */
export function compileExpression(text: string, spend: (steps: number) => void): CompiledExpression {
  const read = readExpression(text);
  if ("problem" in read) throw new Error(`The expression ${read.problem}.`);
  const { facts, program } = read;
  const wantsMicros = text.includes(COST_MICROS);
  const holds = (value: (name: string) => unknown): boolean => {
    const size: Size = { items: 0, listed: 0, characters: 0, long: 0 };
    const context: Record<string, unknown> = {};
    for (const name of facts) {
      const given = value(name);
      measure(size, name, given);
      setFact(context, name, given);
    }
    spend(stepsOf(read, size));
    if ("workspace_id" in context) context[TENANT] = context.workspace_id;
    if (wantsMicros && context.cost !== undefined) context[COST_MICROS] = BigInt(value("cost") as number);
    const result: unknown = program(context);
    if (typeof result !== "boolean") throw new TypeError("the expression is neither true nor false");
    return result;
  };
  return { facts, holds };
}

/** How large the facts of an expression are: items of lists, and characters: of those, of texts, and of texts of any length. */
interface Size {
  items: number;
  listed: number;
  characters: number;
  long: number;
}

function measure(size: Size, name: string, value: unknown): void {
  if (typeof value === "string") size[LONG_TEXTS.has(name) ? "long" : "characters"] += value.length;
  else if (Array.isArray(value)) {
    size.items += value.length;
    for (const item of value as readonly string[]) size.listed += item.length;
  }
}

/**
 * Each node looks through everything once; in a loop, once for each item, which may be written in the expression, and of which
 * each is looked through once.
 */
function stepsOf({ nodes, sums, hasLoop }: ReadExpression, { items, listed, characters, long }: Size): number {
  const once = 1 + items + characters;
  const all = hasLoop ? listed + (items + nodes) * once : listed + once;
  return nodes * (long + all * (1 + sums) ** 2);
}

/** A fact as CEL has it: one that may be missing is null, one that should be there and is not is no variable at all. */
function setFact(context: Record<string, unknown>, name: string, value: unknown): void {
  if (name === LABELS) {
    context[name] = value ?? {};
    return;
  }
  const info: FactInfo = FACTS[name as keyof typeof FACTS];
  if (value === undefined || value === null) {
    if (info.kind === "texts") context[name] = [];
    else if (info.mayBeMissing) context[name] = null;
  } else if (info.isWhole) context[name] = BigInt(value as number);
  // Divided once, a decimal number is the double nearest to it, as is the one that stands in the expression.
  else if (info.kind === "money") context[name] = (value as number) / 1e6;
  else context[name] = value;
}

function createEnvironment(): Environment {
  const created = new Environment({
    unlistedVariablesAreDyn: false,
    limits: {
      maxAstNodes: MAX_AST_NODES,
      maxDepth: MAX_DEPTH,
      maxListElements: MAX_LITERALS,
      maxMapEntries: 16,
      maxCallArguments: 4,
    },
  });
  for (const [name, info] of Object.entries<FactInfo>(FACTS)) created.registerVariable(name, typeOf(info));
  return created
    .registerVariable(LABELS, "map<string, string>")
    .registerVariable(TENANT, "string")
    .registerVariable(COST_MICROS, "int");
}

function typeOf({ kind, isWhole, mayBeMissing }: FactInfo): string {
  if (kind === "texts") return "list<string>";
  if (mayBeMissing) return "dyn";
  if (isWhole) return "int";
  return kind === "number" || kind === "money" ? "double" : "string";
}

/** What is found in an expression on the way through it. */
interface Found {
  readonly facts: Set<string>;
  nodes: number;
  sums: number;
  hasLoop: boolean;
}

/** Where a node stands. */
interface Place {
  /** The variable of the loop around; undefined outside of one. */
  readonly loop?: string;
  /** Whether what it comes to is joined with others, or kept. */
  readonly isKept?: boolean;
}

/** Why an expression is not taken; undefined where it is. */
function refusalOf(root: ASTNode, found: Found): string | undefined {
  const visit = (node: ASTNode, place: Place): string | undefined => {
    found.nodes += 1;
    const { loop } = place;
    switch (node.op) {
      case "value":
        return undefined;
      case "id":
        return node.args === loop ? undefined : variable(node.args, place);
      case ".":
      case ".?":
        return visit(node.args[0], place);
      case "call": {
        const [name, args] = node.args;
        return called(name) ?? first(args, within(place, name));
      }
      case "rcall": {
        const [name, receiver, args] = node.args;
        const refused = called(name) ?? visit(receiver, within(place, name));
        if (refused !== undefined || !LOOPS.has(name)) return refused ?? first(args, within(place, name));
        if (loop !== undefined) return `has a loop within a loop (${name}). Write it as two rules`;
        found.hasLoop = true;
        const [item, ...bodies] = args;
        return first(bodies, { loop: item?.op === "id" ? item.args : "" });
      }
      case "map":
        return first(node.args.flat(), { ...place, isKept: true });
      case "list":
        return first(node.args, { ...place, isKept: true });
      case "+":
        found.sums += 1;
        return first(node.args, { ...place, isKept: true });
      case "!_":
      case "-_":
        return visit(node.args, place);
      default:
        return first(node.args as readonly ASTNode[], place);
    }
  };
  const first = (nodes: readonly ASTNode[], place: Place): string | undefined => {
    for (const node of nodes) {
      const refused = visit(node, place);
      if (refused !== undefined) return refused;
    }
    return undefined;
  };
  const variable = (name: string, { loop, isKept }: Place): string | undefined => {
    if (LONG_TEXTS.has(name)) {
      if (loop !== undefined) return `looks through ${name} once for each item of a list. Do it outside of the loop`;
      if (isKept)
        return `joins ${name} with + or puts it into a list or a map, which would make more of it. Ask about it alone`;
    }
    if (name === COST_MICROS) found.facts.add("cost");
    else if (name === LABELS) found.facts.add(LABELS);
    else {
      const fact = factOf(name);
      if (!fact) return `asks about ${clip(name, 64)}, which is no fact. ${factHint(clip(name, 64))}`;
      found.facts.add(fact.name);
    }
    return undefined;
  };
  return visit(root, {});
}

/** Where what a function is given stands: what it gives for it may be a number, which does not grow. */
const within = (place: Place, name: string): Place => (PASSING.has(name) ? place : { ...place, isKept: false });

const phaseOf = (name: string): PolicyPhase => (name === LABELS ? "CANDIDATE" : factOf(name)!.info.from);

function called(name: string): string | undefined {
  if (FUNCTIONS.has(name)) return undefined;
  if (name === "matches") return "calls matches. Use the operator of that name under when, which takes linear time";
  return `calls ${clip(name, 64)}, which is not taken. There are ${[...FUNCTIONS].join(", ")}`;
}

const summary = (error: unknown): string =>
  clip(((error as { summary?: string }).summary ?? (error as Error).message).split("\n", 1)[0]!, 200);
