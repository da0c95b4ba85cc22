/**
 * Test cases of a policy: what it should say of given facts. A file of cases names the policy that it is about, or holds it.
 *
 *     policy: policy.yaml            # beside the file, or the policy itself
 *     cases:
 *       - name: strangers are refused
 *         phase: ADMISSION           # left out: CANDIDATE
 *         facts: {principal_id: mallory}
 *         expect: {effect: DENY, rules: ["rules[0]"]}
 *
 * Pure: whoever runs the cases reads the files.
 */
import type { PolicyDocument } from "./document.ts";
import { type Facts, PHASES, type PolicyPhase } from "./facts.ts";
import { factsOf } from "./facts-json.ts";
import { type PolicyProblems, policyAt } from "./read.ts";
import { below, createReading, mapAt, type Reading, refuseUnknown, textAt, told, wordAt } from "./reading.ts";
import type { CompiledPolicy, Verdict } from "./verdict.ts";
import { plainValue, readYamlTree, type YamlMap, type YamlTree } from "./yaml-tree.ts";

export interface PolicyCase {
  readonly name: string;
  readonly phase: PolicyPhase;
  readonly facts: Facts;
  readonly expect: {
    readonly effect: Verdict["effect"];
    /** Paths of the rules that decide, the most specific first; undefined where any will do. */
    readonly rules: readonly string[] | undefined;
  };
  /** Where it stands. */
  readonly line: number;
}

export interface PolicyCases {
  /** The name of a file, or the policy itself. */
  readonly policy: string | PolicyDocument;
  readonly cases: readonly PolicyCase[];
}

export interface CaseResult {
  readonly name: string;
  readonly line: number;
  readonly passed: boolean;
  /** What came of it. */
  readonly verdict: Verdict;
  /** What was expected and is not so, in a sentence; empty where it passed. */
  readonly difference: string;
}

const MAX_CASES = 10_000;
const MAX_NAME = 256;
const EFFECTS = ["ALLOW", "DENY", "REQUIRE_APPROVAL"] as const;

/** Reads a file of cases. `file` is what problems call it. */
export function readPolicyCases(text: string, file: string): { cases: PolicyCases } | PolicyProblems {
  const { tree, problems, place } = readYamlTree(text);
  const reading = createReading(file, place);
  for (const { offset, description } of problems) reading.problem(offset, "", description);
  if (!tree && problems.length === 0) reading.problem(0, "", "is empty: write policy and cases");
  const cases = tree && casesAt(reading, tree);
  return cases && reading.count === 0 ? { cases } : { problems: [...reading.problems], count: reading.count };
}

/** What a policy says of each of the cases. */
export function runPolicyCases(policy: CompiledPolicy, cases: readonly PolicyCase[]): CaseResult[] {
  return cases.map(({ name, phase, facts, expect, line }) => {
    const verdict = policy.decide(phase, facts);
    const difference = differenceOf(verdict, expect);
    return { name, line, passed: difference === "", verdict, difference };
  });
}

function differenceOf(verdict: Verdict, expect: PolicyCase["expect"]): string {
  const paths = verdict.rules.map(({ path }) => path);
  const by = paths.length === 0 ? "the default" : paths.join(", ");
  const isOther = expect.rules !== undefined && expect.rules.join() !== paths.join();
  if (verdict.effect === expect.effect && !isOther) return "";
  const wanted = expect.rules === undefined ? "" : ` by ${expect.rules.join(", ") || "the default"}`;
  return `expected ${expect.effect}${wanted}, but it is ${verdict.effect} by ${by}`;
}

function casesAt(reading: Reading, tree: YamlTree): PolicyCases | undefined {
  const map = mapAt(reading, tree, "", "a mapping of policy and cases");
  if (!map) return undefined;
  refuseUnknown(reading, map, "", "a file of cases", ["policy", "cases"]);
  const policy = needed(reading, map, "", "policy");
  const cases = needed(reading, map, "", "cases");
  if (!policy || !cases) return undefined;
  return { policy: subjectAt(reading, policy), cases: listAt(reading, cases) };
}

function subjectAt(reading: Reading, tree: YamlTree): string | PolicyDocument {
  return tree.kind === "map" ? policyAt(reading, tree) : (textAt(reading, tree, "policy", 4_096) ?? "");
}

function listAt(reading: Reading, tree: YamlTree): PolicyCase[] {
  if (tree.kind !== "list" || tree.items.length === 0 || tree.items.length > MAX_CASES) {
    reading.problem(tree.offset, "cases", `must be a list of 1 to ${MAX_CASES} cases, but is ${told(tree)}`);
    return [];
  }
  return tree.items.flatMap((item, i) => caseAt(reading, item, `cases[${i}]`) ?? []);
}

function caseAt(reading: Reading, tree: YamlTree, path: string): PolicyCase | undefined {
  const map = mapAt(reading, tree, path, "a case, as {name: ..., facts: {}, expect: {effect: DENY}}");
  if (!map) return undefined;
  refuseUnknown(reading, map, path, "a case", ["name", "phase", "facts", "expect"]);
  const name = needed(reading, map, path, "name");
  const phase = map.entries.get("phase")?.value;
  const facts = map.entries.get("facts")?.value;
  const expect = needed(reading, map, path, "expect");
  return {
    name: (name && textAt(reading, name, below(path, "name"), MAX_NAME)) ?? "",
    phase: (phase && wordAt(reading, phase, below(path, "phase"), PHASES)) ?? "CANDIDATE",
    facts: facts ? factsAt(reading, facts, below(path, "facts")) : {},
    expect: expect ? expectAt(reading, expect, below(path, "expect")) : { effect: "ALLOW", rules: undefined },
    line: reading.lineOf(map.offset),
  };
}

function factsAt(reading: Reading, tree: YamlTree, path: string): Facts {
  const map = mapAt(reading, tree, path, "a mapping of facts");
  if (!map) return {};
  const read = factsOf(plainValue(map) as Record<string, unknown>);
  if ("facts" in read) return read.facts;
  for (const { fact, description } of read.problems) {
    reading.problem(map.entries.get(fact)?.keyOffset ?? map.offset, below(path, fact), description);
  }
  return {};
}

function expectAt(reading: Reading, tree: YamlTree, path: string): PolicyCase["expect"] {
  const none = { effect: "ALLOW", rules: undefined } as const;
  const map = mapAt(reading, tree, path, "a mapping of effect and rules");
  if (!map) return none;
  refuseUnknown(reading, map, path, "what is expected", ["effect", "rules"]);
  const effect = needed(reading, map, path, "effect");
  const rules = map.entries.get("rules")?.value;
  if (rules && rules.kind !== "list") {
    reading.problem(
      rules.offset,
      below(path, "rules"),
      `must be a list of paths, as ["rules[0]"], but is ${told(rules)}`,
    );
  }
  const at = below(path, "rules");
  return {
    effect: (effect && wordAt(reading, effect, below(path, "effect"), EFFECTS)) ?? "ALLOW",
    rules:
      rules?.kind === "list"
        ? rules.items.flatMap((item, i) => textAt(reading, item, `${at}[${i}]`, MAX_NAME) ?? [])
        : undefined,
  };
}

function needed(reading: Reading, map: YamlMap, path: string, key: string): YamlTree | undefined {
  const entry = map.entries.get(key);
  if (!entry) reading.problem(map.offset, path, `has no ${key}`);
  return entry?.value;
}
