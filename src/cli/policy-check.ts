/** `signalbox policy validate` and `signalbox policy test`: what can be said of a policy without a server. */
import { dirname, isAbsolute, join } from "node:path";
import type { Command } from "commander";
import { type CaseResult, type PolicyCases, readPolicyCases, runPolicyCases } from "../domain/policy/cases.ts";
import { compilePolicy } from "../domain/policy/compile.ts";
import { type PolicyDocument, type PolicyProblem, problemText } from "../domain/policy/document.ts";
import { readPolicy } from "../domain/policy/read.ts";
import { nameOf, textOf } from "./given-text.ts";
import { countsText } from "./policy.ts";
import { json, printable } from "./printable.ts";
import type { Cli } from "./run.ts";

interface CheckFlags {
  json?: boolean;
}

interface TestFlags extends CheckFlags {
  policy?: string;
  verbose?: boolean;
}

/** So many problems of a file are told; more would not be read. */
const MOST_TOLD = 100;

/** Says what is wrong with a policy, each with its place, and makes the exit code 1. */
export function failWith(cli: Cli, problems: readonly PolicyProblem[], count: number, flags: CheckFlags): void {
  const { io } = cli;
  cli.exitCode = 1;
  if (flags.json) {
    io.out(json({ problems, problemCount: count }));
    return;
  }
  for (const problem of problems.slice(0, MOST_TOLD)) io.err(printable(`${problemText(problem)}\n`));
  const more = count - Math.min(problems.length, MOST_TOLD);
  if (more > 0) io.err(`and ${more} more problems\n`);
}

export function addPolicyCheckCommands(policy: Command, cli: Cli): void {
  const { io } = cli;

  const validate = policy
    .command("validate <file>")
    .description("say what is wrong with a policy file, without a server; - reads standard input")
    .option("--json", "print JSON for programs");
  validate.action((file: string, flags: CheckFlags) => {
    const name = nameOf(file);
    const read = readPolicy(textOf(validate, cli, file), name);
    if (!("document" in read)) return failWith(cli, read.problems, read.count, flags);
    const { rules, budgets } = read.document;
    const counts = { ruleCount: rules.length, budgetCount: budgets.length };
    if (flags.json) io.out(json({ problems: [], problemCount: 0, ...counts }));
    else io.out(printable(`${name} is a policy: ${countsText(rules.length, budgets.length)}.\n`));
  });

  const test = policy
    .command("test <cases>")
    .description(
      "check what a policy says of the facts in a file of cases, without a server; what it leaves out, also the time, is not known",
    )
    .option("--policy <file>", "the policy, in place of the one that the file of cases names")
    .option("--verbose", "name the cases that pass, too")
    .option("--json", "print JSON for programs");
  test.action((file: string, flags: TestFlags) => {
    const name = nameOf(file);
    const read = readPolicyCases(textOf(test, cli, file), name);
    if (!("cases" in read)) return failWith(cli, read.problems, read.count, flags);
    const subject = documentOf(read.cases, file, flags);
    if ("problems" in subject) return failWith(cli, subject.problems, subject.count, flags);
    const results = runPolicyCases(compilePolicy([subject.document]), read.cases.cases);
    if (results.some(({ passed }) => !passed)) cli.exitCode = 1;
    io.out(flags.json ? json(resultsJson(results)) : resultsText(results, name, flags.verbose === true));
  });

  /** The policy that the cases are about: a path in their file is relative to that. */
  function documentOf({ policy: named }: PolicyCases, file: string, flags: TestFlags) {
    if (flags.policy === undefined && typeof named !== "string") return { document: named satisfies PolicyDocument };
    const given = flags.policy ?? (named as string);
    const isBeside = flags.policy === undefined && file !== "-" && !isAbsolute(given);
    return readPolicy(textOf(test, cli, isBeside ? join(dirname(file), given) : given), nameOf(given));
  }
}

const resultsJson = (results: readonly CaseResult[]) => ({
  passed: results.filter(({ passed }) => passed).length,
  failed: results.filter(({ passed }) => !passed).length,
  cases: results.map(({ name, line, passed, difference, verdict }) => ({
    name,
    line,
    passed,
    ...(difference !== "" && { difference }),
    effect: verdict.effect,
    rules: verdict.rules.map(({ path }) => path),
  })),
});

function resultsText(results: readonly CaseResult[], file: string, isVerbose: boolean): string {
  const lines = results
    .filter(({ passed }) => isVerbose || !passed)
    .map(({ name, line, passed, difference }) =>
      passed ? `ok    ${file}:${line}: ${name}` : `FAIL  ${file}:${line}: ${name}: ${difference}`,
    );
  const failed = results.filter(({ passed }) => !passed).length;
  return printable([...lines, `${results.length - failed} passed, ${failed} failed`, ""].join("\n"));
}
