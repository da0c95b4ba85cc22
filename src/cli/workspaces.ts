/** `signalbox workspaces` and `signalbox quotas`: who there is, and how much they may use. */
import { toJson } from "@bufbuild/protobuf";
import { type Timestamp, timestampDate } from "@bufbuild/protobuf/wkt";
import type { Command } from "commander";
import {
  GetQuotasResponseSchema,
  ListWorkspacesResponseSchema,
  type Quotas,
  QuotasSchema,
  type QuotaUse,
  type Workspace,
  WorkspaceSchema,
} from "../../gen/signalbox/v1/workspace_pb.ts";
import { age, facts, json, table } from "./printable.ts";
import type { Cli } from "./run.ts";
import { callServer, type ServerOptions, withServer } from "./server-call.ts";

interface PageFlags extends ServerOptions {
  pageToken?: string;
}

interface QuotaFlags extends ServerOptions {
  tasksPerSecond?: string;
  tasksInFlight?: string;
  storedBytes?: string;
  streams?: string;
  callsPerSecond?: string;
  etag?: string;
}

export function addWorkspacesCommands(program: Command, cli: Cli): void {
  const workspaces = program.command("workspaces").description("make, see, suspend and resume workspaces");
  const { io } = cli;
  const show = (shown: Workspace, options: ServerOptions) =>
    io.out(options.json ? json(toJson(WorkspaceSchema, shown)) : workspaceText(shown));

  const create = workspaces
    .command("create <id>")
    .description("make a workspace; for those who run the router")
    .option("--name <text>", "what people call it");
  withServer(create).action((workspaceId: string, { name = "", ...options }: ServerOptions & { name?: string }) =>
    callServer(cli, options, async (client) =>
      show(await client.workspaces.createWorkspace({ workspace: { workspaceId, displayName: name } }), options),
    ),
  );

  const list = workspaces
    .command("list")
    .description("list workspaces: all for those who run the router, and their own for others")
    .option("--page-token <token>", "the page after another one");
  withServer(list).action(({ pageToken = "", ...options }: PageFlags) =>
    callServer(cli, options, async (client) => {
      const page = await client.workspaces.listWorkspaces({ pageToken, pageSize: 100 });
      io.out(options.json ? json(toJson(ListWorkspacesResponseSchema, page)) : workspacesTable(page.workspaces));
      if (!options.json && page.nextPageToken !== "") io.err(`There are more: --page-token ${page.nextPageToken}\n`);
    }),
  );

  const get = workspaces.command("get [id]").description("show a workspace; without an id, your own");
  withServer(get).action((workspaceId: string | undefined, options: ServerOptions) =>
    callServer(cli, options, async (client) =>
      show(await client.workspaces.getWorkspace({ workspaceId: workspaceId ?? "" }), options),
    ),
  );

  const suspend = workspaces
    .command("suspend <id>")
    .description("let nobody of a workspace in, and begin none of its tasks, before it is resumed")
    .option("--reason <text>", "what others read of it");
  withServer(suspend).action((workspaceId: string, { reason = "", ...options }: ServerOptions & { reason?: string }) =>
    callServer(cli, options, async (client) =>
      show(await client.workspaces.suspendWorkspace({ workspaceId, reason }), options),
    ),
  );

  const resume = workspaces.command("resume <id>").description("take a suspension back");
  withServer(resume).action((workspaceId: string, options: ServerOptions) =>
    callServer(cli, options, async (client) => show(await client.workspaces.resumeWorkspace({ workspaceId }), options)),
  );
}

export function addQuotasCommands(program: Command, cli: Cli): void {
  const quotas = program.command("quotas").description("see and set how much a workspace may use");
  const { io } = cli;

  const get = quotas.command("get [workspace]").description("show the quotas of a workspace; without an id, your own");
  withServer(get).action((workspaceId: string | undefined, options: ServerOptions) =>
    callServer(cli, options, async (client) => {
      const found = await client.workspaces.getQuotas({ workspaceId: workspaceId ?? "" });
      io.out(options.json ? json(toJson(GetQuotasResponseSchema, found)) : quotasText(found.quotas, found.use));
    }),
  );

  const set = quotas
    .command("set <workspace>")
    .description("say how much a workspace may use: what is left out has no limit")
    .option("--tasks-per-second <n>", "new tasks a second")
    .option("--tasks-in-flight <n>", "tasks that have not ended")
    .option("--stored-bytes <n>", "bytes of stored tasks, with their logs and artifacts, and of exchanges")
    .option("--streams <n>", "streams that are open at once")
    .option("--calls-per-second <n>", "calls a second of each principal")
    .option("--etag <etag>", "fail when they changed since `quotas get` showed this etag");
  withServer(set).action((workspaceId: string, options: QuotaFlags) => {
    const number = (flag: string, text: string | undefined) => {
      if (text === undefined) return undefined;
      const value = Number(text);
      if (/^\d{1,16}$/.test(text) && Number.isSafeInteger(value) && value > 0) return value;
      return set.error(`error: ${flag} must be a whole number above 0.`);
    };
    const storedBytes = number("--stored-bytes", options.storedBytes);
    const int = (flag: string, text: string | undefined) => {
      const value = number(flag, text);
      if (value !== undefined && value >= 2 ** 31) set.error(`error: ${flag} must be below 2147483648.`);
      return value;
    };
    const said = {
      tasksPerSecond: int("--tasks-per-second", options.tasksPerSecond),
      tasksInFlight: int("--tasks-in-flight", options.tasksInFlight),
      storedBytes: storedBytes === undefined ? undefined : BigInt(storedBytes),
      streams: int("--streams", options.streams),
      principalCallsPerSecond: int("--calls-per-second", options.callsPerSecond),
      etag: options.etag ?? "",
    };
    return callServer(cli, options, async (client) => {
      const stored = await client.workspaces.setQuotas({ workspaceId, quotas: said });
      io.out(options.json ? json(toJson(QuotasSchema, stored)) : quotasText(stored));
    });
  });
}

const time = (at: Timestamp | undefined): string => (at ? timestampDate(at).toISOString() : "");

const workspaceText = (shown: Workspace): string =>
  facts([
    ["Workspace", shown.workspaceId],
    ["Name", shown.displayName],
    ["Since", time(shown.createTime)],
    ["Suspended", time(shown.suspendTime)],
    ["Because", shown.suspendReason],
  ]);

function workspacesTable(found: readonly Workspace[]): string {
  if (found.length === 0) return "There are no more workspaces.\n";
  const now = new Date();
  const rows = found.map((one) => [
    one.workspaceId,
    one.suspendTime ? "SUSPENDED" : "ACTIVE",
    one.createTime ? age(timestampDate(one.createTime), now) : "",
    one.displayName,
  ]);
  return table(["WORKSPACE", "STATE", "AGE", "NAME"], rows);
}

function quotasText(quotas: Quotas | undefined, use?: QuotaUse): string {
  const rows: [string, string, string][] = [
    ["new tasks a second", limit(quotas?.tasksPerSecond), ""],
    ["tasks in flight", limit(quotas?.tasksInFlight), used(use?.tasksInFlight)],
    ["stored bytes", limit(quotas?.storedBytes), used(use?.storedBytes)],
    ["open streams", limit(quotas?.streams), used(use?.streams)],
    ["calls a second of a principal", limit(quotas?.principalCallsPerSecond), ""],
  ];
  return `${table(["QUOTA", "LIMIT", "USED"], rows)}etag ${quotas?.etag ?? ""}\n`;
}

const limit = (value: number | bigint | undefined): string => (value === undefined ? "none" : String(value));
const used = (value: bigint | undefined): string => (value === undefined ? "-" : String(value));
