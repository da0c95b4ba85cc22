/** Reads rules, and what they require. */
import { durationMs } from "../duration.ts";
import type { Approval, Condition, PolicyRule, Requirement } from "./document.ts";
import { factOf, isLater, laterOf } from "./fact-table.ts";
import { PHASES, type PolicyPhase } from "./facts.ts";
import { conditionsAt } from "./read-condition.ts";
import { below, mapAt, type Reading, refuseUnknown, textAt, told, wordAt } from "./reading.ts";
import type { RuleRef } from "./verdict.ts";
import type { YamlMap, YamlTree } from "./yaml-tree.ts";

/** A `then` within a `then`, so many times. */
const MAX_NESTING = 8;
const MAX_DESCRIPTION = 1_024;
const MAX_APPROVERS = 100;
const MAX_APPROVER = 256;
const DEFAULT_EXPIRY_MS = 24 * 3_600_000;
const MAX_EXPIRY_MS = 90 * 86_400_000;

const EFFECTS = ["ALLOW", "DENY", "REQUIRE"] as const;
const SCOPES = ["GLOBAL", "TENANT", "WORKSPACE", "AGENT", "CAPABILITY"] as const;
const NESTED_KEYS = ["effect", "scope", "when", "expr", "then", "time_zone", "description"];
const KEYS = [...NESTED_KEYS, "on"];
const WANTS = ["approval", "minimum_reputation"];
const APPROVAL_KEYS = ["expires", "approvers", "self"];

/** What a nested rule has from the one around it. */
interface Around {
  readonly timeZone: string;
  /** Undefined at the top. */
  readonly scope?: RuleRef["scope"];
  readonly depth: number;
}

/** The rule that a tree is; undefined where it has no effect that could be named. What is wrong with it is told. */
export function ruleAt(reading: Reading, tree: YamlTree, path: string, around: Around): PolicyRule | undefined {
  const map = mapAt(reading, tree, path, "a rule, as {effect: DENY, when: {agent_id: a}}");
  if (!map || !reading.counts("rules", tree.offset, path)) return undefined;
  const isNested = around.depth > 0;
  refuseUnknown(reading, map, path, isNested ? "a nested rule" : "a rule", isNested ? NESTED_KEYS : KEYS);
  const at = (key: string) => map.entries.get(key)?.value;

  const effectTree = at("effect");
  if (!effectTree) reading.problem(map.offset, path, `has no effect. Give it one of ${EFFECTS.join(", ")}`);
  const effect = effectTree && wordAt(reading, effectTree, below(path, "effect"), EFFECTS);
  const timeZone = zoneAt(reading, at("time_zone"), below(path, "time_zone")) ?? around.timeZone;
  const whenTree = at("when");
  const when = whenTree ? conditionsAt(reading, whenTree, below(path, "when")) : [];
  const expr = exprAt(reading, at("expr"), below(path, "expr"));
  const scopeTree = at("scope");
  const written = scopeTree && wordAt(reading, scopeTree, below(path, "scope"), SCOPES);
  const scope = written === "WORKSPACE" ? "TENANT" : (written ?? around.scope ?? scopeOf(when));
  const description = at("description");
  const ref: RuleRef = {
    path,
    effect: effect ?? "DENY",
    scope,
    description: (description && textAt(reading, description, below(path, "description"), MAX_DESCRIPTION)) ?? "",
    file: reading.file,
    line: reading.lineOf(map.offset),
  };

  const thenTree = at("then");
  const thenPath = below(path, "then");
  if (effect === "REQUIRE" && !thenTree) {
    reading.problem(map.offset, path, `requires nothing. Give it a then: rules, ${WANTS.join(" or ")}`);
  }
  if (effect && effect !== "REQUIRE" && thenTree) {
    reading.problem(thenTree.offset, thenPath, `belongs to REQUIRE, but this rule is ${effect}. Remove it`);
  }
  const then =
    effect === "REQUIRE" && thenTree
      ? thenAt(reading, thenTree, thenPath, { timeZone, scope, depth: around.depth + 1 })
      : undefined;
  const known = phaseOf(when, expr, then);
  const phase = isNested ? known : onAt(reading, at("on"), below(path, "on"), known);
  if (!isNested) refuseUseless(reading, map, path, { effect, phase, then });
  return effect && { ref, phase, timeZone, when, expr: expr?.text, then };
}

/** Rules that would never have any effect are mistakes of whoever wrote them. */
function refuseUseless(
  reading: Reading,
  map: YamlMap,
  path: string,
  { effect, phase, then }: Pick<PolicyRule, "phase" | "then"> & { effect: RuleRef["effect"] | undefined },
): void {
  if (phase !== "RESULT") return;
  if (effect === "ALLOW") {
    const description =
      "is about results, which leave unless something refuses them. Put this ALLOW into the then of a REQUIRE";
    reading.problem(map.offset, path, description);
  } else if (then && wantsApproval(then)) {
    reading.problem(
      map.offset,
      path,
      "is about results, which do not wait for approval. Ask for it before: on: CANDIDATE",
    );
  }
}

const wantsApproval = ({ approval, rules }: Requirement): boolean =>
  approval !== undefined || rules.some(({ then }) => then !== undefined && wantsApproval(then));

function thenAt(
  reading: Reading,
  tree: YamlTree,
  path: string,
  around: Around & { scope: RuleRef["scope"] },
): Requirement | undefined {
  if (around.depth > MAX_NESTING) {
    return void reading.problem(tree.offset, path, `is nested deeper than ${MAX_NESTING} levels`);
  }
  if (tree.kind === "scalar" || (tree.kind === "list" ? tree.items.length : tree.entries.size) === 0) {
    const description = `must be a list of rules, ${WANTS.join(" and ")}, but is ${told(tree)}`;
    return void reading.problem(tree.offset, path, description);
  }
  const items =
    tree.kind === "list" ? tree.items.map((item, i) => [item, `${path}[${i}]`] as const) : [[tree, path] as const];
  const rules: PolicyRule[] = [];
  let minimumReputation: number | undefined;
  let approval: Approval | undefined;
  for (const [item, at] of items) {
    if (item.kind === "map" && !item.entries.has("effect") && WANTS.some((key) => item.entries.has(key))) {
      refuseUnknown(reading, item, at, "a requirement", WANTS);
      const minimum = item.entries.get("minimum_reputation")?.value;
      const asked = item.entries.get("approval")?.value;
      const twice = (minimum && minimumReputation !== undefined) || (asked && approval);
      if (twice) reading.problem(item.offset, at, "asks twice for the same. Keep one");
      if (minimum) minimumReputation = shareAt(reading, minimum, below(at, "minimum_reputation"));
      if (asked) approval = approvalAt(reading, asked, below(at, "approval"));
    } else {
      const rule = ruleAt(reading, item, at, around);
      if (rule) rules.push(rule);
    }
  }
  return { rules, minimumReputation, approval };
}

function shareAt(reading: Reading, tree: YamlTree, path: string): number | undefined {
  const value = tree.kind === "scalar" ? tree.value : undefined;
  if (typeof value === "number" && value >= 0 && value <= 1) return value;
  return void reading.problem(tree.offset, path, `must be a number from 0 to 1, but is ${told(tree)}`);
}

function approvalAt(reading: Reading, tree: YamlTree, path: string): Approval | undefined {
  const isYes = tree.kind === "scalar" && tree.value === true;
  const map = isYes ? undefined : mapAt(reading, tree, path, "true, or a mapping as {expires: 24h}");
  if (!isYes && !map) return undefined;
  if (map) refuseUnknown(reading, map, path, "an approval", APPROVAL_KEYS);
  const at = (key: string) => map?.entries.get(key)?.value;
  return {
    expiresMs: expiryAt(reading, at("expires"), below(path, "expires")),
    approvers: approversAt(reading, at("approvers"), below(path, "approvers")),
    self: selfAt(reading, at("self"), below(path, "self")),
  };
}

function expiryAt(reading: Reading, tree: YamlTree | undefined, path: string): number {
  if (!tree) return DEFAULT_EXPIRY_MS;
  const ms = tree.kind === "scalar" ? durationMs(tree.source) : undefined;
  if (ms !== undefined && ms >= 1_000 && ms <= MAX_EXPIRY_MS) return ms;
  reading.problem(tree.offset, path, `must be a duration from 1s to 90d, as 30m, 24h or 7d, but is ${told(tree)}`);
  return DEFAULT_EXPIRY_MS;
}

function approversAt(reading: Reading, tree: YamlTree | undefined, path: string): string[] {
  if (!tree) return [];
  if (tree.kind !== "list" || tree.items.length === 0 || tree.items.length > MAX_APPROVERS) {
    const description = `must be a list of 1 to ${MAX_APPROVERS} principals and roles, but is ${told(tree)}`;
    reading.problem(tree.offset, path, description);
    return [];
  }
  return tree.items.flatMap((item, i) => textAt(reading, item, `${path}[${i}]`, MAX_APPROVER) ?? []);
}

function selfAt(reading: Reading, tree: YamlTree | undefined, path: string): boolean {
  if (!tree) return false;
  if (tree.kind === "scalar" && typeof tree.value === "boolean") return tree.value;
  reading.problem(tree.offset, path, `must be true or false, but is ${told(tree)}`);
  return false;
}

/** A zone's name; undefined where none is given, or none that is known, which is told. */
export function zoneAt(reading: Reading, tree: YamlTree | undefined, path: string): string | undefined {
  if (!tree) return undefined;
  if (tree.kind === "scalar" && tree.source.length <= 64 && reading.isZone(tree.source)) return tree.source;
  const description = `must be the IANA name of a time zone, as Europe/Berlin, but is ${told(tree)}`;
  return void reading.problem(tree.offset, path, description);
}

interface Expression {
  readonly text: string;
  /** From when on everything is known that it asks about. */
  readonly from: PolicyPhase;
}

function exprAt(reading: Reading, tree: YamlTree | undefined, path: string): Expression | undefined {
  if (!tree) return undefined;
  if (tree.kind !== "scalar" || typeof tree.value !== "string") {
    return void reading.problem(tree.offset, path, `must be a CEL expression in quotes, but is ${told(tree)}`);
  }
  if (!reading.counts("expressions", tree.offset, path)) return undefined;
  const read = reading.expression(tree.source);
  if ("from" in read) return { text: tree.source, from: read.from };
  return void reading.problem(tree.offset, path, read.problem);
}

/** From when on everything is known that a rule asks about. */
function phaseOf(when: readonly Condition[], expr: Expression | undefined, then: Requirement | undefined): PolicyPhase {
  const facts = when.map(({ fact }) => factOf(fact)!.info.from);
  // What is approved is that a task goes to an agent.
  const wants = then?.minimumReputation !== undefined || then?.approval ? (["CANDIDATE"] as const) : [];
  const nested = then?.rules.map(({ phase }) => phase) ?? [];
  return [...facts, ...wants, ...nested].reduce(laterOf, expr?.from ?? "ADMISSION");
}

function onAt(reading: Reading, tree: YamlTree | undefined, path: string, known: PolicyPhase): PolicyPhase {
  const on = tree && wordAt(reading, tree, path, PHASES);
  if (!tree || !on) return known;
  if (!isLater(known, on)) return on;
  reading.problem(tree.offset, path, `is too early: not all that the rule asks about is known before ${known}`);
  return known;
}

/** The narrowest thing that a rule names. */
function scopeOf(when: readonly Condition[]): RuleRef["scope"] {
  const names = when.map(({ fact }) => fact);
  if (names.includes("capability_id")) return "CAPABILITY";
  if (names.includes("agent_id")) return "AGENT";
  return names.includes("workspace_id") ? "TENANT" : "GLOBAL";
}

/** The version that a document says it is of. */
export function checkVersion(reading: Reading, map: YamlMap): void {
  const version = map.entries.get("version")?.value;
  if (!version) reading.problem(map.offset, "", "has no version. Write version: 1");
  else if (version.kind !== "scalar" || version.value !== 1) {
    reading.problem(version.offset, "version", `must be 1, but is ${told(version)}`);
  }
}
