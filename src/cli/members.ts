/** `signalbox members`: what those may do who are known by a token or a certificate. */
import { toJson } from "@bufbuild/protobuf";
import { timestampDate } from "@bufbuild/protobuf/wkt";
import type { Command } from "commander";
import { ListMembersResponseSchema, type Member, MemberSchema } from "../../gen/signalbox/v1/workspace_pb.ts";
import { age, json, table } from "./printable.ts";
import type { Cli } from "./run.ts";
import { callServer, type ServerOptions, withServer } from "./server-call.ts";

interface OfFlags extends ServerOptions {
  of?: string;
}

interface PutFlags extends OfFlags {
  role?: string[];
  scope?: string[];
  agent?: string;
}

export function addMembersCommands(program: Command, cli: Cli): void {
  const members = program
    .command("members")
    .description("say what those may do who are known by a token or a certificate");
  const { io } = cli;
  /** Whose members they are. */
  const withOf = (command: Command) =>
    withServer(command.option("--of <workspace>", "another workspace than your own; for those who run the router"));

  const put = members
    .command("put <principal>")
    .description("make somebody a member, as jwt/<issuer>/<subject> or spiffe/<domain>/<path>; a /* at its end is many")
    .option("--role <role...>", "viewer, caller, agent, operator or admin")
    .option("--scope <scope...>", "scopes beside those of the roles")
    .option("--agent <id>", "the agent that it is");
  withOf(put).action((principalId: string, { of = "", role, scope, agent = "", ...options }: PutFlags) =>
    callServer(cli, options, async (client) => {
      const said = { principalId, workspaceId: of, roles: role ?? [], scopes: scope ?? [], agentId: agent };
      const stored = await client.workspaces.putMember({ member: said });
      io.out(options.json ? json(toJson(MemberSchema, stored)) : membersTable([stored]));
    }),
  );

  const list = members
    .command("list")
    .description("list members by their ids")
    .option("--page-token <token>", "the page after another one");
  withOf(list).action(({ of = "", pageToken = "", ...options }: OfFlags & { pageToken?: string }) =>
    callServer(cli, options, async (client) => {
      const page = await client.workspaces.listMembers({ workspaceId: of, pageToken, pageSize: 100 });
      io.out(options.json ? json(toJson(ListMembersResponseSchema, page)) : membersTable(page.members));
      if (!options.json && page.nextPageToken !== "") io.err(`There are more: --page-token ${page.nextPageToken}\n`);
    }),
  );

  withOf(members.command("remove <principal>").description("take all from a member")).action(
    (principalId: string, { of = "", ...options }: OfFlags) =>
      callServer(cli, options, async (client) => {
        await client.workspaces.removeMember({ principalId, workspaceId: of });
        io.out(options.json ? json({ principalId }) : `${principalId} is no member any more.\n`);
      }),
  );
}

function membersTable(found: readonly Member[]): string {
  if (found.length === 0) return "There are no members. Keys need none: they say themselves what they may do.\n";
  const now = new Date();
  const rows = found.map((one) => [
    one.principalId,
    one.roles.join(",") || "-",
    one.scopes.join(",") || "-",
    one.agentId || "-",
    one.implied ? "yes" : "no",
    one.createTime ? age(timestampDate(one.createTime), now) : "",
    one.createdBy,
  ]);
  return table(["MEMBER", "ROLES", "SCOPES", "AGENT", "IMPLIED", "AGE", "BY"], rows);
}
