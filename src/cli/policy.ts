/** `signalbox policy`: what is allowed, and how that is changed. */
import { toJson } from "@bufbuild/protobuf";
import { timestampDate } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Command } from "commander";
import { type ListPolicyVersionsResponse, type Policy, PolicySchema } from "../../gen/signalbox/v1/policy_pb.ts";
import { problemText } from "../domain/policy/document.ts";
import type { SignalboxClient } from "../sdk/client.ts";
import { nameOf, textOf } from "./given-text.ts";
import { addPolicyCheckCommands, failWith } from "./policy-check.ts";
import { addPolicyTrialCommands } from "./policy-trials.ts";
import { age, json, printable, table } from "./printable.ts";
import type { Cli } from "./run.ts";
import { callServer, type ServerOptions, withServer } from "./server-call.ts";

interface ChangeFlags extends ServerOptions {
  etag?: string;
  comment?: string;
}

interface VersionsFlags extends ServerOptions {
  limit: string;
}

export function addPolicyCommands(program: Command, cli: Cli): void {
  const policy = program.command("policy").description("see, change and try what is allowed");
  const { io } = cli;

  const get = policy
    .command("get [version]")
    .description("print the policy as it was put, or one of its versions; what is said of it goes to standard error");
  withServer(get).action((version: string | undefined, options: ServerOptions) => {
    const asked = version === undefined ? 0 : versionOf(get, version);
    return callServer(cli, options, async ({ policies }) => {
      const found = await policies.getPolicy({ version: asked });
      if (options.json) return io.out(json(toJson(PolicySchema, found)));
      io.out(found.document);
      io.err(aboutText(found));
    });
  });

  const put = withChange(policy.command("put <file>"), "why it changes").description(
    "make a file the policy; - reads standard input. One with mistakes changes nothing",
  );
  withServer(put).action((file: string, { etag = "", comment = "", ...options }: ChangeFlags) => {
    const document = textOf(put, cli, file);
    return callServer(cli, options, async ({ policies }) => {
      try {
        showChange(await policies.putPolicy({ policy: { document, etag, comment } }), options);
      } catch (error) {
        // An error says only as much as its sentence holds.
        if (ConnectError.from(error).code !== Code.InvalidArgument) throw error;
        const { problems, problemCount } = await policies.validatePolicy({ document });
        if (problemCount === 0) throw error;
        const placed = problems.map(({ $typeName: _, ...problem }) => ({ ...problem, file: nameOf(file) }));
        failWith(cli, placed, problemCount, options);
      }
    });
  });

  const rollback = withChange(policy.command("rollback <version>"), "why it goes back").description(
    "make an earlier version the policy again, as the next one; 0 is the policy without rules",
  );
  withServer(rollback).action((given: string, { etag = "", comment = "", ...options }: ChangeFlags) => {
    const version = versionOf(rollback, given);
    return callServer(cli, options, async ({ policies }) =>
      showChange(await policies.rollbackPolicy({ version, etag, comment }), options),
    );
  });

  const versions = policy
    .command("versions")
    .description("list the versions of the policy, the latest first")
    .option("--limit <n>", "how many at most", "20");
  withServer(versions).action(({ limit, ...options }: VersionsFlags) => {
    const most = versionOf(versions, limit);
    return callServer(cli, options, async (client) => {
      const found = await listVersions(client, most);
      io.out(options.json ? json({ versions: found.map((one) => toJson(PolicySchema, one)) }) : versionsTable(found));
    });
  });

  function showChange(changed: Policy, options: ServerOptions): void {
    const { version, ruleCount, budgetCount } = changed;
    const text = `Version ${version} is in force: ${countsText(ruleCount, budgetCount)}.\n`;
    io.out(options.json ? json(toJson(PolicySchema, changed)) : text);
  }

  addPolicyCheckCommands(policy, cli);
  addPolicyTrialCommands(policy, cli);
}

const withChange = (command: Command, why: string): Command =>
  command
    .option("--etag <etag>", "only if the policy is still the one with this etag, as `policy get --json` prints it")
    .option("--comment <text>", why);

function versionOf(command: Command, given: string): number {
  return /^\d{1,9}$/.test(given)
    ? Number(given)
    : command.error(`error: ${given} is no number; "signalbox policy versions" lists what there is.`);
}

async function listVersions({ policies }: SignalboxClient, most: number): Promise<Policy[]> {
  const found: Policy[] = [];
  let pageToken = "";
  do {
    const page: ListPolicyVersionsResponse = await policies.listPolicyVersions({
      pageSize: Math.min(100, most - found.length),
      pageToken,
    });
    found.push(...page.versions);
    pageToken = page.nextPageToken;
  } while (pageToken !== "" && found.length < most);
  return found;
}

export const countsText = (rules: number, budgets: number): string =>
  `${rules} ${rules === 1 ? "rule" : "rules"}, ${budgets} ${budgets === 1 ? "budget" : "budgets"}`;

function aboutText({ version, etag, author, createTime, files, fileProblems, problems }: Policy): string {
  const since = createTime ? `, put by ${author} ${age(timestampDate(createTime), new Date())} ago` : "";
  const own =
    version === 0 ? `No policy yet; its etag is ${etag}.\n` : `Version ${version}${since}; its etag is ${etag}.\n`;
  const held = files.map(({ name }) => name).join(", ");
  return [
    printable(own),
    held && printable(`The server's own files hold beside it: ${held}.\n`),
    fileProblems.length > 0 && "These files have mistakes, and what they said before holds:\n",
    ...fileProblems.map((problem) => printable(`  ${problemText(problem)}\n`)),
    problems.length > 0 && "The server cannot read this version, and goes by an older one:\n",
    ...problems.map((problem) => printable(`  ${problemText(problem)}\n`)),
  ]
    .filter((part) => part)
    .join("");
}

function versionsTable(versions: readonly Policy[]): string {
  if (versions.length === 0) return "No policy was ever put: signalbox policy put FILE.\n";
  const rows = versions.map(({ version, ruleCount, budgetCount, author, createTime, comment }) => [
    String(version),
    String(ruleCount),
    String(budgetCount),
    author,
    createTime ? age(timestampDate(createTime), new Date()) : "",
    comment,
  ]);
  return table(["VERSION", "RULES", "BUDGETS", "BY", "AGE", "COMMENT"], rows);
}
