/** `signalbox approvals`: tasks that wait until somebody has approved them. */
import { toJson } from "@bufbuild/protobuf";
import { type Timestamp, timestampDate } from "@bufbuild/protobuf/wkt";
import type { Command } from "commander";
import {
  type Approval,
  ApprovalSchema,
  ApprovalState,
  ApprovalVerdict,
  ListApprovalsResponseSchema,
} from "../../gen/signalbox/v1/approval_pb.ts";
import { age, facts, json, table } from "./printable.ts";
import { word } from "./rollout.ts";
import type { Cli } from "./run.ts";
import { callServer, type ServerOptions, withServer } from "./server-call.ts";

interface ListFlags extends ServerOptions {
  all?: true;
  task?: string;
  pageToken?: string;
}

interface DecideFlags extends ServerOptions {
  comment?: string;
}

export function addApprovalsCommands(program: Command, cli: Cli): void {
  const approvals = program.command("approvals").description("see and decide which tasks may begin");
  const { io } = cli;
  const show = (shown: Approval, options: ServerOptions) =>
    io.out(options.json ? json(toJson(ApprovalSchema, shown)) : approvalText(shown));

  const list = approvals
    .command("list")
    .description("list the approvals that wait for a decision, the latest first")
    .option("--all", "those that were decided too")
    .option("--task <id>", "only those of one task")
    .option("--page-token <token>", "the page after another one");
  withServer(list).action(({ all, task = "", pageToken = "", ...options }: ListFlags) =>
    callServer(cli, options, async (client) => {
      const state = all ? ApprovalState.UNSPECIFIED : ApprovalState.PENDING;
      const page = await client.approvals.listApprovals({ state, taskId: task, pageToken, pageSize: 100 });
      io.out(options.json ? json(toJson(ListApprovalsResponseSchema, page)) : approvalsTable(page.approvals));
      if (!options.json && page.nextPageToken !== "") io.err(`There are more: --page-token ${page.nextPageToken}\n`);
    }),
  );

  withServer(approvals.command("get <id>").description("show one approval")).action(
    (approvalId: string, options: ServerOptions) =>
      callServer(cli, options, async (client) => show(await client.approvals.getApproval({ approvalId }), options)),
  );

  for (const [name, verdict, about] of VERDICTS) {
    const decide = approvals
      .command(`${name} <id>`)
      .description(about)
      .option("--comment <text>", "what its client and others read of the decision");
    withServer(decide).action((approvalId: string, { comment = "", ...options }: DecideFlags) =>
      callServer(cli, options, async (client) =>
        show(await client.approvals.decideApproval({ approvalId, verdict, comment }), options),
      ),
    );
  }
}

const VERDICTS = [
  ["approve", ApprovalVerdict.APPROVE, "let a task go to its agent"],
  ["reject", ApprovalVerdict.REJECT, "end a task before it begins"],
] as const;

const stateOf = ({ state }: Approval): string => word(ApprovalState, state);
const time = (at: Timestamp | undefined): string => (at ? timestampDate(at).toISOString() : "");

function approvalText(shown: Approval): string {
  return facts([
    ["Approval", shown.approvalId],
    ["State", stateOf(shown)],
    ["Task", shown.taskId],
    ["Agent", shown.agentId],
    ["Capability", shown.capabilityId],
    ["Asked by", shown.principalId],
    ["Rule", shown.rule],
    ["Because", shown.description],
    ["Policy version", shown.policyVersion === 0 ? "" : String(shown.policyVersion)],
    ["Since", time(shown.createTime)],
    ["Expires", time(shown.expireTime)],
    ["Decided", time(shown.decideTime)],
    ["By", shown.decidedBy],
    ["Comment", shown.comment],
  ]);
}

function approvalsTable(found: readonly Approval[]): string {
  if (found.length === 0) return "No task waits for its approval.\n";
  const now = new Date();
  const rows = found.map((one) => [
    one.approvalId,
    stateOf(one),
    one.agentId,
    one.capabilityId || "-",
    one.principalId,
    one.createTime ? age(timestampDate(one.createTime), now) : "",
    one.state === ApprovalState.PENDING && one.expireTime ? age(now, timestampDate(one.expireTime)) : "-",
    one.description || one.rule,
    one.taskId,
  ]);
  return table(["APPROVAL", "STATE", "AGENT", "CAPABILITY", "ASKED BY", "AGE", "LEFT", "BECAUSE", "TASK"], rows);
}
