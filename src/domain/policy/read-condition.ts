/** Reads the `when` of a rule: a fact and what must be true of it, several of them, all to hold. */
import { clip } from "../errors.ts";
import { suggestion } from "../nearest.ts";
import type { Condition, Operand, Test } from "./document.ts";
import { type FactInfo, factHint, factOf } from "./fact-table.ts";
import { canHold, isInRange, numberOf, operandOf } from "./operand.ts";
import { below, mapAt, type Reading, told } from "./reading.ts";
import type { YamlTree } from "./yaml-tree.ts";

/** Facts in one `when`, and values in one list. */
const MAX_CONDITIONS = 32;
const MAX_VALUES = 1_000;

const ORDER = ["<", "<=", ">", ">="] as const;
const OPERATORS = [...ORDER, "==", "!=", "in", "not_in", "matches", "exists"] as const;
type Operator = (typeof OPERATORS)[number];

/** The conditions that are right; what is wrong with the others is told. */
export function conditionsAt(reading: Reading, tree: YamlTree, path: string): Condition[] {
  const map = mapAt(reading, tree, path, "a mapping of facts to what they must be");
  if (!map) return [];
  if (map.entries.size > MAX_CONDITIONS) {
    reading.problem(map.offset, path, `has at most ${MAX_CONDITIONS} facts, but has ${map.entries.size}`);
    return [];
  }
  return [...map.entries].flatMap(([written, { keyOffset, value }]) => {
    const at = below(path, written);
    const fact = factOf(written);
    if (!fact) {
      reading.problem(keyOffset, at, `is no fact. ${factHint(clip(written, 64))}`);
      return [];
    }
    const tests = testsAt(reading, value, at, fact.info);
    return tests.length === 0 ? [] : [{ fact: fact.name, tests }];
  });
}

function testsAt(reading: Reading, tree: YamlTree, path: string, info: FactInfo): Test[] {
  if (tree.kind !== "map") {
    const values = valuesAt(reading, tree, path, info);
    return values ? [{ operator: "in", values }] : [];
  }
  if (tree.entries.size === 0) {
    reading.problem(tree.offset, path, `is empty: give it an operator, one of ${OPERATORS.join(", ")}`);
  }
  return [...tree.entries].flatMap(([operator, { keyOffset, value }]) => {
    const at = below(path, operator);
    if (!isOperator(operator)) {
      reading.problem(keyOffset, at, `is no operator. ${suggestion(clip(operator, 64), OPERATORS)}`);
      return [];
    }
    const test = testAt(reading, operator, value, at, info);
    return test ? [test] : [];
  });
}

function testAt(reading: Reading, operator: Operator, tree: YamlTree, path: string, info: FactInfo): Test | undefined {
  switch (operator) {
    case "==":
    case "!=": {
      if (tree.kind !== "scalar") {
        const other = operator === "==" ? "in" : "not_in";
        return void reading.problem(tree.offset, path, `compares with one value, but has ${told(tree)}. Use ${other}`);
      }
      const values = valuesAt(reading, tree, path, info);
      return values && { operator: operator === "==" ? "in" : "not_in", values };
    }
    case "in":
    case "not_in": {
      if (tree.kind !== "list") {
        return void reading.problem(tree.offset, path, `takes a list, as [a, b], but has ${told(tree)}`);
      }
      const values = valuesAt(reading, tree, path, info);
      return values && { operator, values };
    }
    case "matches":
      return patternAt(reading, tree, path, info);
    case "exists":
      if (tree.kind === "scalar" && typeof tree.value === "boolean") return { operator, exists: tree.value };
      return void reading.problem(tree.offset, path, `must be true or false, but is ${told(tree)}`);
    default: {
      const canOrder = info.isOrdered || ["number", "money", "date", "time"].includes(info.kind);
      if (!canOrder) {
        return void reading.problem(tree.offset, path, "orders numbers, times and priorities, and this fact is none");
      }
      const value = operandAt(reading, tree, path, info);
      if (value === undefined) return undefined;
      if (typeof value === "number" && !canHold(info, operator, value)) {
        return void reading.problem(tree.offset, path, `never holds: the fact is ${numberOf(info)}`);
      }
      return { operator, value: typeof value === "string" ? info.values!.indexOf(value) : value };
    }
  }
}

function patternAt(reading: Reading, tree: YamlTree, path: string, info: FactInfo): Test | undefined {
  if (info.kind !== "text" && info.kind !== "texts") {
    return void reading.problem(tree.offset, path, "looks into texts, and this fact is none");
  }
  if (tree.kind !== "scalar" || tree.value === null) {
    return void reading.problem(tree.offset, path, `must be a regular expression, but is ${told(tree)}`);
  }
  if (!reading.counts("patterns", tree.offset, path)) return undefined;
  const wrong = reading.patternProblem(tree.source);
  if (wrong !== undefined) return void reading.problem(tree.offset, path, wrong);
  return { operator: "matches", pattern: tree.source };
}

/** One value, or a list of them; undefined, with a problem, for what is none. */
function valuesAt(reading: Reading, tree: YamlTree, path: string, info: FactInfo): Operand[] | undefined {
  if (tree.kind !== "list") {
    const operand = valueAt(reading, tree, path, info);
    return operand === undefined ? undefined : [operand];
  }
  if (tree.items.length === 0 || tree.items.length > MAX_VALUES) {
    const description = `must have from 1 to ${MAX_VALUES} values, but has ${tree.items.length}`;
    return void reading.problem(tree.offset, path, description);
  }
  const operands = tree.items.map((item, i) => valueAt(reading, item, `${path}[${i}]`, info));
  const right = operands.filter((operand) => operand !== undefined);
  return right.length === operands.length ? right : undefined;
}

/** A value that the fact can have. */
function valueAt(reading: Reading, tree: YamlTree, path: string, info: FactInfo): Operand | undefined {
  const operand = operandAt(reading, tree, path, info);
  if (info.kind !== "number" || operand === undefined || isInRange(info, operand as number)) return operand;
  return void reading.problem(tree.offset, path, `must be ${numberOf(info)}, but is ${told(tree)}`);
}

function operandAt(reading: Reading, tree: YamlTree, path: string, info: FactInfo): Operand | undefined {
  if (tree.kind !== "scalar") {
    return void reading.problem(tree.offset, path, `must be one value, but is ${told(tree)}`);
  }
  const read = operandOf(tree, info);
  if ("operand" in read) return read.operand;
  return void reading.problem(tree.offset, path, `${read.must}, but is ${told(tree)}`);
}

const isOperator = (text: string): text is Operator => (OPERATORS as readonly string[]).includes(text);
