/**
 * Conditions in CEL, the Common Expression Language, within bounds. An expression is checked when it is read: its size, its
 * types, and that it asks for nothing that could take long or grow. It has no loop but over a list that is there, and none within
 * another, so its time is at most its size times the longest list. docs/decisions/0012-policy.md says why by this library.
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
/** What an expression may call. Nothing here makes a text or a list longer than what went in. */
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
/** Texts of any length: not to be looked through once for each item of a list. */
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

/** The facts that an expression asks about, or what is wrong with it. */
export function expressionFacts(text: string): Asked | { problem: string } {
  if (text.length > MAX_LENGTH)
    return { problem: `must have at most ${MAX_LENGTH} characters, but has ${text.length}` };
  try {
    const parsed = environment.parse(text);
    const facts = new Set<string>();
    const refused = refusalOf(parsed.ast, facts);
    if (refused !== undefined) return { problem: refused };
    const { valid, type, error } = parsed.check();
    if (!valid) return { problem: `is no valid CEL: ${summary(error)}` };
    if (type !== "bool" && type !== "dyn") return { problem: `must be true or false, but is of type ${type}` };
    return { facts: [...facts], from: [...facts].map(phaseOf).reduce(laterOf, "ADMISSION") };
  } catch (error) {
    if (error instanceof RangeError) return { problem: "is nested too deeply" };
    return { problem: `is no valid CEL: ${summary(error)}` };
  }
}

/** An expression that `expressionFacts` has taken. Its test throws where it comes to nothing: for a fact that is not known, or one of another type. */
export function compileExpression(text: string): {
  facts: readonly string[];
  holds: (value: (name: string) => unknown) => boolean;
} {
  const read = expressionFacts(text);
  if ("problem" in read) throw new Error(`The expression ${read.problem}.`);
  const evaluate: ParseResult = environment.parse(text);
  const wantsMicros = text.includes(COST_MICROS);
  const holds = (value: (name: string) => unknown): boolean => {
    const context: Record<string, unknown> = {};
    for (const name of read.facts) setFact(context, name, value(name));
    if ("workspace_id" in context) context[TENANT] = context.workspace_id;
    if (wantsMicros && context.cost !== undefined) context[COST_MICROS] = BigInt(value("cost") as number);
    const result: unknown = evaluate(context);
    if (typeof result !== "boolean") throw new TypeError("the expression is neither true nor false");
    return result;
  };
  return { facts: read.facts, holds };
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

/** Why an expression is not taken; undefined where it is. Adds the facts that it asks about. */
function refusalOf(root: ASTNode, facts: Set<string>): string | undefined {
  /** `loop` is the variable of the loop around, undefined outside of one. */
  const visit = (node: ASTNode, loop: string | undefined): string | undefined => {
    switch (node.op) {
      case "value":
        return undefined;
      case "id":
        return node.args === loop ? undefined : variable(node.args, loop !== undefined);
      case ".":
      case ".?":
        return visit(node.args[0], loop);
      case "call":
        return called(node.args[0]) ?? first(node.args[1], loop);
      case "rcall": {
        const [name, receiver, args] = node.args;
        const refused = called(name) ?? visit(receiver, loop);
        if (refused !== undefined || !LOOPS.has(name)) return refused ?? first(args, loop);
        if (loop !== undefined) return `has a loop within a loop (${name}). Write it as two rules`;
        const [item, ...bodies] = args;
        return first(bodies, item?.op === "id" ? item.args : "");
      }
      case "map":
        return first(node.args.flat(), loop);
      case "!_":
      case "-_":
        return visit(node.args, loop);
      default:
        return first(node.args as readonly ASTNode[], loop);
    }
  };
  const first = (nodes: readonly ASTNode[], loop: string | undefined): string | undefined => {
    for (const node of nodes) {
      const refused = visit(node, loop);
      if (refused !== undefined) return refused;
    }
    return undefined;
  };
  const variable = (name: string, isInLoop: boolean): string | undefined => {
    if (isInLoop && LONG_TEXTS.has(name))
      return `looks through ${name} once for each item of a list. Do it outside of the loop`;
    if (name === COST_MICROS) facts.add("cost");
    else if (name === LABELS) facts.add(LABELS);
    else {
      const fact = factOf(name);
      if (!fact) return `asks about ${clip(name, 64)}, which is no fact. ${factHint(clip(name, 64))}`;
      facts.add(fact.name);
    }
    return undefined;
  };
  return visit(root, undefined);
}

const phaseOf = (name: string): PolicyPhase => (name === LABELS ? "CANDIDATE" : factOf(name)!.info.from);

function called(name: string): string | undefined {
  if (FUNCTIONS.has(name)) return undefined;
  if (name === "matches") return "calls matches. Use the operator of that name under when, which takes linear time";
  return `calls ${clip(name, 64)}, which is not taken. There are ${[...FUNCTIONS].join(", ")}`;
}

const summary = (error: unknown): string =>
  clip(((error as { summary?: string }).summary ?? (error as Error).message).split("\n", 1)[0]!, 200);
