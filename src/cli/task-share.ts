/** `signalbox task share`, `unshare` and `shares`: who else sees one's tasks of a context. */
import { toJson } from "@bufbuild/protobuf";
import { timestampDate } from "@bufbuild/protobuf/wkt";
import { type Command, Option } from "commander";
import {
  type ContextShare,
  ContextShareSchema,
  ListContextSharesResponseSchema,
} from "../../gen/signalbox/v1/task_pb.ts";
import { age, json, printable, table } from "./printable.ts";
import type { Cli } from "./run.ts";
import { callServer, type ServerOptions, withServer } from "./server-call.ts";

interface SubjectFlags extends ServerOptions {
  with?: string;
  role?: string;
}

interface ShareFlags extends SubjectFlags {
  write?: true;
}

export function addTaskShareCommands(task: Command, cli: Cli): void {
  const { io } = cli;
  const withSubject = (command: Command): Command =>
    withServer(
      command
        .addOption(new Option("--with <principal>", "a principal of the workspace").conflicts("role"))
        .option("--role <role>", "all who have a role, as operator"),
    );

  const share = task
    .command("share <context>")
    .description("let others see your tasks of a context, those to come too");
  share.option("--write", "they may answer, cancel and add to them as well");
  withSubject(share).action((contextId: string, { write, ...flags }: ShareFlags) => {
    const subject = subjectOf(share, flags);
    return callServer(cli, flags, async ({ tasks, a2a }) => {
      const shared = await tasks.shareContext({ share: { contextId, subject, canWrite: write === true } });
      if (flags.json) return io.out(json(toJson(ContextShareSchema, shared)));
      io.out(`${subjectText(shared)} may ${mayText(shared)}: your tasks of context ${printable(contextId)}.\n`);
      const { tasks: some } = await a2a.listTasks({ contextId, pageSize: 1, historyLength: 0 });
      if (some.length === 0)
        io.err("There is no task of such a context yet. A task shows its context: signalbox task get ID.\n");
    });
  });

  const unshare = task.command("unshare <context>").description("take back what share gave");
  withSubject(unshare).action((contextId: string, flags: SubjectFlags) => {
    const subject = subjectOf(unshare, flags);
    return callServer(cli, flags, async ({ tasks }) => {
      await tasks.unshareContext({ contextId, subject });
      io.out(flags.json ? json({}) : `Context ${printable(contextId)} is not shared with ${subject.value} any more.\n`);
    });
  });

  withServer(task.command("shares <context>").description("show with whom you share your tasks of a context")).action(
    (contextId: string, options: ServerOptions) =>
      callServer(cli, options, async ({ tasks }) => {
        const found = await tasks.listContextShares({ contextId });
        io.out(options.json ? json(toJson(ListContextSharesResponseSchema, found)) : sharesTable(found.shares));
      }),
  );
}

function subjectOf(command: Command, { with: principalId, role }: SubjectFlags) {
  if (principalId !== undefined) return { case: "principalId" as const, value: principalId };
  if (role !== undefined) return { case: "role" as const, value: role };
  return command.error("error: say with whom: --with PRINCIPAL or --role ROLE", { exitCode: 2 });
}

const subjectText = ({ subject }: ContextShare): string =>
  subject.case === "role" ? `the role ${subject.value}` : printable(subject.value ?? "");

const mayText = ({ canWrite }: ContextShare): string => (canWrite ? "see and change them" : "see them");

function sharesTable(shares: readonly ContextShare[]): string {
  if (shares.length === 0) return "Shared with nobody.\n";
  const now = new Date();
  const rows = shares.map((share) => [
    subjectText(share),
    mayText(share),
    share.createTime ? age(timestampDate(share.createTime), now) : "",
  ]);
  return table(["WITH", "TO", "SINCE"], rows);
}
