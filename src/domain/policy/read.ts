/**
 * Reads a policy document: YAML of `version: 1`, whole or not at all. Pure, and what it returns can be handed to another thread,
 * so that a large document need not stop anybody. docs/policy.md is the language.
 */
import { budgetRulesIn } from "../budget/budget-rule.ts";
import { trustRuleIn } from "../reputation/trust-rule.ts";
import type { DefaultEffect, PolicyDocument, PolicyProblem, PolicyRule } from "./document.ts";
import { checkVersion, ruleAt, zoneAt } from "./read-rule.ts";
import { createReading, MAX_RULES, mapAt, type Reading, refuseUnknown, told, wordAt } from "./reading.ts";
import { offsetOf, plainValue, readYamlTree, type YamlTree } from "./yaml-tree.ts";

const KEYS = ["version", "default", "time_zone", "description", "rules", "budgets", "reputation"];
const DEFAULTS: readonly DefaultEffect[] = ["ALLOW", "DENY"];

export interface PolicyProblems {
  /** In the order of the document, 100 at most. */
  readonly problems: PolicyProblem[];
  /** How many there are, as far as it was read. */
  readonly count: number;
}

/** `file` is what problems and decisions call the document; empty for a workspace's own. An empty text is a policy without rules. */
export function readPolicy(text: string, file = ""): { document: PolicyDocument } | PolicyProblems {
  const { tree, problems, place } = readYamlTree(text);
  const reading = createReading(file, place);
  for (const { offset, description } of problems) reading.problem(offset, "", description);
  const document = tree ? policyAt(reading, tree) : emptyPolicy(file);
  return reading.count > 0 ? { problems: [...reading.problems], count: reading.count } : { document };
}

const emptyPolicy = (file: string): PolicyDocument => ({
  file,
  default: undefined,
  rules: [],
  budgets: [],
  reputation: undefined,
});

/** The document that a tree is. What is wrong with it is told, by paths in it. */
export function policyAt(reading: Reading, tree: YamlTree): PolicyDocument {
  const map = mapAt(reading, tree, "", "a mapping, beginning with version: 1");
  if (!map) return emptyPolicy(reading.file);
  refuseUnknown(reading, map, "", "a policy", KEYS);
  checkVersion(reading, map);
  const at = (key: string) => map.entries.get(key)?.value;
  const said = at("default");
  const timeZone = zoneAt(reading, at("time_zone"), "time_zone") ?? "UTC";
  const rulesTree = at("rules");
  return {
    file: reading.file,
    default: said && wordAt(reading, said, "default", DEFAULTS),
    rules: rulesTree ? rulesAt(reading, rulesTree, "rules", timeZone) : [],
    budgets: sectionAt(reading, at("budgets"), "budgets", (value, p) => budgetRulesIn(value, p))?.rules ?? [],
    reputation: sectionAt(reading, at("reputation"), "reputation", (value, p) => trustRuleIn(value, p))?.rule,
  };
}

function rulesAt(reading: Reading, tree: YamlTree, path: string, timeZone: string): PolicyRule[] {
  // A section whose lines are all commented out.
  if (tree.kind === "scalar" && tree.value === null) return [];
  if (tree.kind !== "list") {
    reading.problem(tree.offset, path, `must be a list of rules, but is ${told(tree)}`);
    return [];
  }
  if (tree.items.length > MAX_RULES) {
    const description = `has at most ${MAX_RULES} rules, but has ${tree.items.length}. Split it into several documents`;
    reading.problem(tree.offset, path, description);
    return [];
  }
  return tree.items.flatMap((item, i) => ruleAt(reading, item, `${path}[${i}]`, { timeZone, depth: 0 }) ?? []);
}

/** A section that is read elsewhere from its plain value. Undefined where there is none, and for one with problems, which are told. */
function sectionAt<R extends object>(
  reading: Reading,
  tree: YamlTree | undefined,
  path: string,
  read: (value: unknown, path: string) => R | { problems: readonly { path: string; description: string }[] },
): Exclude<R, { problems: unknown }> | undefined {
  if (!tree) return undefined;
  const result = read(plainValue(tree), path);
  if (!("problems" in result)) return result as Exclude<R, { problems: unknown }>;
  for (const problem of result.problems) {
    const inner = problem.path.slice(path.length);
    reading.problem(offsetOf(tree, inner), problem.path, problem.description);
  }
  return undefined;
}
