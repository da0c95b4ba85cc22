/** What is no policy, where it says so, and that it says so soon. */
import { describe, expect, test } from "vitest";
import { compilePolicy } from "../../../src/domain/policy/compile.ts";
import { readPolicy } from "../../../src/domain/policy/read.ts";

function problemsOf(text: string) {
  const read = readPolicy(text, "p.yaml");
  return "problems" in read ? read : { problems: [], count: 0 };
}

const one = (text: string) => problemsOf(text).problems[0];
const rule = (text: string) => one(`version: 1\nrules:\n  - ${text}\n`);

describe("a rule is refused with its line, its column and the remedy", () => {
  test.each([
    ["{when: {agent_id: a}}", "rules[0]", "has no effect"],
    ["{effect: deny}", "rules[0].effect", "Did you mean DENY?"],
    ["{effect: DENY, scope: AGNET}", "rules[0].scope", "Did you mean AGENT?"],
    ["{effect: DENY, wen: {}}", "rules[0].wen", "Did you mean when?"],
    ["{effect: DENY, when: {agnt_id: a}}", "rules[0].when.agnt_id", "Did you mean agent_id?"],
    ["{effect: DENY, when: {reputation: 1}}", "rules[0].when.reputation", "Did you mean reputation_score?"],
    ["{effect: DENY, when: {labels.: a}}", "rules[0].when.labels.", "is no fact"],
    ["{effect: DENY, when: {agent_id: }}", "rules[0].when.agent_id", "{exists: false}"],
    ["{effect: DENY, when: {agent_id: []}}", "rules[0].when.agent_id", "from 1 to 1000 values"],
    ["{effect: DENY, when: {agent_id: {}}}", "rules[0].when.agent_id", "give it an operator"],
    ["{effect: DENY, when: {agent_id: {eq: a}}}", "rules[0].when.agent_id.eq", "is no operator"],
    ['{effect: DENY, when: {agent_id: {"<": a}}}', "rules[0].when.agent_id.<", "orders numbers"],
    ['{effect: DENY, when: {agent_id: {"==": [a]}}}', "rules[0].when.agent_id.==", "Use in"],
    ["{effect: DENY, when: {agent_id: {in: a}}}", "rules[0].when.agent_id.in", "takes a list"],
    ["{effect: DENY, when: {agent_id: {exists: 1}}}", "rules[0].when.agent_id.exists", "true or false"],
    ["{effect: DENY, when: {cost: {matches: a}}}", "rules[0].when.cost.matches", "looks into texts"],
    ["{effect: DENY, when: {agent_id: {matches: '(a'}}}", "rules[0].when.agent_id.matches", "RE2"],
    ["{effect: DENY, when: {agent_id: {matches: '(?=a)'}}}", "rules[0].when.agent_id.matches", "look-around"],
    ["{effect: DENY, when: {agent_id: {matches: '(a{99}){99}'}}}", "rules[0].when.agent_id.matches", ""],
    ["{effect: DENY, when: {cost: -1}}", "rules[0].when.cost", "decimal number"],
    ["{effect: DENY, when: {cost: 0.1234567}}", "rules[0].when.cost", "6 digits"],
    ['{effect: DENY, when: {message_bytes: "9"}}', "rules[0].when.message_bytes", "without quotes"],
    ["{effect: DENY, when: {message_bytes: .inf}}", "rules[0].when.message_bytes", "must be a number"],
    ["{effect: DENY, when: {hour: 25}}", "rules[0].when.hour", "from 0 to 23"],
    ["{effect: DENY, when: {hour: [1, 2.5]}}", "rules[0].when.hour[1]", "whole number from 0 to 23"],
    ["{effect: DENY, when: {hour: {'>': 23}}}", "rules[0].when.hour.>", "never holds"],
    ["{effect: DENY, when: {reputation_score: {'<': 0}}}", "rules[0].when.reputation_score.<", "from 0 to 1"],
    ["{effect: DENY, when: {reputation_score: {'>=': 50}}}", "rules[0].when.reputation_score.>=", "from 0 to 1"],
    ["{effect: DENY, when: {message_parts: {not_in: [-1]}}}", "rules[0].when.message_parts.not_in[0]", "0 or more"],
    ["{effect: DENY, when: {minute: 5}}", "rules[0].when.minute", "The facts are principal_id, "],
    ["{effect: DENY, when: {weekday: Monday}}", "rules[0].when.weekday", "must be one of MON"],
    ["{effect: DENY, when: {task_priority: URGENT}}", "rules[0].when.task_priority", "must be one of"],
    ["{effect: DENY, when: {time_of_day: 24:00}}", "rules[0].when.time_of_day", "23:59"],
    ["{effect: DENY, when: {date: 2026-02-30}}", "rules[0].when.date", "2026-12-24"],
    ["{effect: DENY, time_zone: Mars/Olympus}", "rules[0].time_zone", "Europe/Berlin"],
    ["{effect: DENY, on: ADMISSION, when: {agent_id: a}}", "rules[0].on", "before CANDIDATE"],
    ["{effect: DENY, on: CANDIDATE, expr: 'output_bytes > 1'}", "rules[0].on", "before RESULT"],
    ["{effect: ALLOW, on: RESULT}", "rules[0]", "into the then of a REQUIRE"],
    ["{effect: REQUIRE, on: RESULT, then: {approval: true}}", "rules[0]", "do not wait for approval"],
    ["{effect: REQUIRE}", "rules[0]", "requires nothing"],
    ["{effect: REQUIRE, then: []}", "rules[0].then", "must be a list"],
    ["{effect: DENY, then: {approval: true}}", "rules[0].then", "belongs to REQUIRE"],
    ["{effect: REQUIRE, then: [{effect: DENY, on: CANDIDATE}]}", "rules[0].then[0].on", "is no key of a nested rule"],
    ["{effect: REQUIRE, then: {minimum_reputation: 2}}", "rules[0].then.minimum_reputation", "from 0 to 1"],
    ["{effect: REQUIRE, then: {approval: {expires: 1y}}}", "rules[0].then.approval.expires", "24h"],
    [
      "{effect: REQUIRE, then: {approval: {approvers: []}}}",
      "rules[0].then.approval.approvers",
      "principals and roles",
    ],
    ["{effect: REQUIRE, then: [{approval: true}, {approval: true}]}", "rules[0].then[1]", "twice"],
    ["{effect: DENY, effect: ALLOW}", "", "twice"],
    ["{effect: DENY, expr: 'agent_id =='}", "rules[0].expr", "no valid CEL"],
    ["{effect: DENY, expr: 'agent == \"a\"'}", "rules[0].expr", "Did you mean agent_id?"],
    ["{effect: DENY, expr: 'cost > \"a\"'}", "rules[0].expr", "no such overload"],
    ["{effect: DENY, expr: 'message_bytes'}", "rules[0].expr", "must be true or false"],
    ["{effect: DENY, expr: 'agent_id.matches(\"(a+)+$\")'}", "rules[0].expr", "under when"],
    ['{effect: DENY, expr: \'cel.bind(a, "x", a == "x")\'}', "rules[0].expr", "bind"],
    ["{effect: DENY, expr: 'input_modes.map(m, m + m).size() > 1'}", "rules[0].expr", "calls map"],
    [
      "{effect: DENY, expr: 'input_modes.all(a, input_modes.exists(b, a == b))'}",
      "rules[0].expr",
      "loop within a loop",
    ],
    ["{effect: DENY, expr: 'input_modes.all(a, output_text.contains(a))'}", "rules[0].expr", "outside of the loop"],
    ["{effect: DENY, expr: '(output_text + output_text).size() > 1'}", "rules[0].expr", "output_text"],
    ["{effect: DENY, expr: '(\"a\" + output_text.trim()).size() > 1'}", "rules[0].expr", "output_text"],
    ['{effect: DENY, expr: \'[output_text, "b"].exists(t, t.contains("a"))\'}', "rules[0].expr", "output_text"],
    ["{effect: DENY, expr: '{\"a\": output_text}.size() > 1'}", "rules[0].expr", "output_text"],
    [`{effect: DENY, expr: '${"!".repeat(300)}true'}`, "rules[0].expr", ""],
    [`{effect: DENY, expr: '${"(".repeat(900)}'}`, "rules[0].expr", ""],
    [`{effect: DENY, expr: '${"x".repeat(3_000)}'}`, "rules[0].expr", "2048 characters"],
  ])("%s", (text, path, description) => {
    const problem = rule(text);
    expect(problem).toMatchObject({ file: "p.yaml", line: 3, path });
    expect(problem?.description).toContain(description);
    expect(problem?.column).toBeGreaterThan(4);
  });
});

describe("a document is refused", () => {
  test.each([
    ["rules: []", "", "has no version"],
    ["version: 2", "version", "must be 1"],
    ["version: 1\nrulez: []", "rulez", "Did you mean rules?"],
    ["version: 1\nrules: {}", "rules", "must be a list"],
    ["version: 1\ndefault: NO", "default", "ALLOW, DENY"],
    ["[1]", "", "must be a mapping"],
    ["version: 1\nrules: [", "", "no valid YAML"],
    ["version: 1\n---\nversion: 1", "", "second document"],
    ["version: 1\nrules: !mine []", "", "no valid YAML"],
    ["version: 1\nrules: *none", "", ""],
    ["version: 1\nbudgets:\n  - {daily_limit: -1}", "budgets[0].daily_limit", ""],
    ["version: 1\nreputation:\n  initial: 3", "reputation.initial", ""],
  ])("%j", (text, path, description) => {
    const problem = one(text);
    expect(problem?.path).toBe(path);
    expect(problem?.description).toContain(description);
  });

  test("in the sections of others with line and column", () => {
    expect(one("version: 1\nbudgets:\n  - daily_limit: 3\n    daly_tasks: 2\n")).toMatchObject({ line: 4, column: 5 });
    expect(one("version: 1\nreputation:\n  initial: 3\n")).toMatchObject({ line: 3, column: 3 });
  });

  test("with its first hundred problems, in order, and their count", () => {
    const { problems, count } = problemsOf(`version: 1\nrules:\n${"  - {effect: NO}\n".repeat(150)}`);
    expect(count).toBe(150);
    expect(problems.map(({ line }) => line)).toEqual(Array.from({ length: 100 }, (_, i) => i + 3));
  });
});

describe("what is beyond the bounds is refused", () => {
  const laughs = "bcdefghij".split("").map((name, i) => {
    const before = `*${"abcdefghij"[i]}`;
    return `${name}: &${name} [${Array(10).fill(before).join(",")}]`;
  });
  test.each([
    ["length", `version: 1\n${"# long\n".repeat(700_000)}`, "longer than 4194304 bytes"],
    ["rules", `version: 1\nrules:\n${"  - {effect: DENY}\n".repeat(20_001)}`, "at most 20000 rules"],
    ["nested rules", `version: 1\nrules: [${nestedRules(9)}]`, "nested deeper than 8"],
    ["depth of lists", `version: 1\nrules: ${"[".repeat(100_000)}`, "nested deeper"],
    ["depth of mappings", `version: 1\nrules: ${"{a: ".repeat(100_000)}`, "nested deeper"],
    ["signs", `version: 1\nrules: [${"a,".repeat(900_000)}]`, "signs of YAML"],
    ["quotes", `version: 1\ndefault: ${'"'.repeat(100_000)}`, "no valid YAML"],
    ["aliases", `version: 1\na: &a x\nrules: [${"*a,".repeat(20_000)}]`, "aliases"],
    ["laughs", `version: 1\na: &a [x,x]\n${laughs.join("\n")}\nrules: *j\n`, "aliases"],
    ["itself", "version: 1\nrules: &a [*a]", "of which it is a part"],
    ["facts", `version: 1\nrules: [{effect: DENY, when: {${labels(33)}}}]`, "at most 32 facts"],
    ["values", `version: 1\nrules: [{effect: DENY, when: {agent_id: [${"a,".repeat(1_001)}]}}]`, "1 to 1000"],
    ["documents", "--- a\n".repeat(1_000), "document"],
  ])("%s", (_, text, description) => {
    const { problems, count } = problemsOf(text);
    expect(problems.map((problem) => problem.description).join("\n")).toContain(description);
    expect(count).toBeLessThan(200);
  });

  test("and what is within them is read: 100,000 lines", () => {
    const rules = Array.from(
      { length: 19_999 },
      (_, i) => `  - effect: DENY\n    scope: AGENT\n    when:\n      agent_id: agent-${i}\n      cost: {">": 0.5}\n`,
    );
    const read = readPolicy(`version: 1\nrules:\n${rules.join("")}`);
    if ("problems" in read) throw new Error(JSON.stringify(read.problems));
    const policy = compilePolicy([read.document]);
    const facts = { agent_id: "agent-19998", cost: 500_001 };
    expect(policy.decide("CANDIDATE", facts)).toMatchObject({ effect: "DENY", rules: [{ line: 99_993 }] });
    expect(policy.decide("CANDIDATE", { ...facts, cost: 500_000 }).effect).toBe("ALLOW");
  });
});

test("a bound that a range has at its end is taken", () => {
  for (const when of ["{hour: {'>=': 18, '<': 24}}", "{hour: {'<=': 23}}", "{reputation_score: {'<=': 1, '>=': 0}}"]) {
    expect(problemsOf(`version: 1\nrules: [{effect: DENY, when: ${when}}]`)).toMatchObject({ problems: [] });
  }
});

test("an empty document is a policy without rules", () => {
  for (const text of ["", "# nothing\n", "version: 1\nrules:\n"]) {
    const read = readPolicy(text);
    expect(read).toMatchObject({ document: { rules: [], budgets: [], default: undefined } });
  }
});

test("the terms of several approvals are joined", () => {
  const read = readPolicy(`version: 1
rules:
  - {effect: REQUIRE, then: {approval: {expires: 2.5h, approvers: [ann], self: true}}}
  - {effect: REQUIRE, then: {approval: {expires: 1h}}}
  - {effect: REQUIRE, then: {approval: {approvers: [role:admin, bob], self: true}}}
`);
  if ("problems" in read) throw new Error(JSON.stringify(read.problems));
  expect(compilePolicy([read.document]).decide("CANDIDATE", {}).approval).toMatchObject({
    rule: { path: "rules[0]" },
    expiresMs: 3_600_000,
    approvers: ["ann"],
    also: [["role:admin", "bob"]],
    self: false,
  });
});

test("a text that is too long for its pattern is refused, and not looked through", () => {
  const read = readPolicy("version: 1\nrules: [{effect: DENY, when: {output_text: {matches: 'secret'}}}]");
  if ("problems" in read) throw new Error(JSON.stringify(read.problems));
  const policy = compilePolicy([read.document]);
  expect(policy.decide("RESULT", { output_text: "x".repeat(100_000) }).effect).toBe("ALLOW");
  expect(policy.decide("RESULT", { output_text: "x".repeat(17_000_000) }).effect).toBe("DENY");
});

test("a text is no longer looked through by expressions than by patterns, all of a decision together", () => {
  const compiled = (...rules: string[]) => {
    const read = readPolicy(`version: 1\nrules:\n${rules.map((each) => `  - ${each}\n`).join("")}`);
    if ("problems" in read) throw new Error(JSON.stringify(read.problems));
    return compilePolicy([read.document]);
  };
  const looks = (i: number) => `{effect: DENY, expr: 'output_text.contains("secret ${i}")'}`;
  const facts = { output_text: "x".repeat(4_000_000), accepted_modes: Array(100_000).fill("text/plain") };
  expect(compiled(looks(1)).decide("RESULT", facts).effect).toBe("ALLOW");
  const many = compiled(...Array.from({ length: 200 }, (_, i) => looks(i)));
  expect(many.decide("RESULT", { output_text: "x" }).effect).toBe("ALLOW");
  expect(many.decide("RESULT", facts).effect).toBe("DENY");
  const loop = compiled(`{effect: DENY, on: RESULT, expr: 'accepted_modes.exists(m, context_id.contains(m + "!"))'}`);
  expect(loop.decide("RESULT", { accepted_modes: ["text/plain"], context_id: "c" }).effect).toBe("ALLOW");
  expect(loop.decide("RESULT", { ...facts, context_id: "c" }).effect).toBe("DENY");
  // A number is no text that grows.
  expect(compiled("{effect: DENY, expr: 'size(output_text) + 1 > 9'}").decide("RESULT", facts).effect).toBe("DENY");
});

test("a capability is guarded where a rule about results could match it", () => {
  const read = readPolicy(`version: 1
rules:
  - {effect: DENY, on: RESULT, when: {capability_id: c, output_bytes: {">": 9}}}
  - {effect: DENY, when: {labels.secret: "yes", output_state: COMPLETED}}
`);
  if ("problems" in read) throw new Error(JSON.stringify(read.problems));
  const { guards } = compilePolicy([read.document]);
  expect(guards({ capability_id: "c", labels: {} })).toBe(true);
  expect(guards({ capability_id: "d", labels: {} })).toBe(false);
  expect(guards({ capability_id: "d", labels: { secret: "yes" } })).toBe(true);
  expect(guards({})).toBe(true);
});

const labels = (count: number): string => Array.from({ length: count }, (_, i) => `labels.l${i}: x`).join(", ");

function nestedRules(depth: number): string {
  return depth === 0 ? "{effect: DENY}" : `{effect: REQUIRE, then: [${nestedRules(depth - 1)}]}`;
}
