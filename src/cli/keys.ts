/** `signalbox keys`: who may call, by keys of their own. And `signalbox whoami`. */
import { toJson } from "@bufbuild/protobuf";
import { type Timestamp, timestampDate, timestampFromDate } from "@bufbuild/protobuf/wkt";
import { type Command, Option } from "commander";
import {
  type CreateKeyResponse,
  CreateKeyResponseSchema,
  type Key,
  KeyKind,
  KeySchema,
  ListKeysResponseSchema,
  WhoAmIResponseSchema,
} from "../../gen/signalbox/v1/workspace_pb.ts";
import { parseDuration } from "./duration.ts";
import { age, facts, json, table } from "./printable.ts";
import { word } from "./rollout.ts";
import type { Cli } from "./run.ts";
import { callServer, type ServerOptions, withServer } from "./server-call.ts";

interface KeyOptions extends ServerOptions {
  inWorkspace?: string;
}

interface CreateFlags extends KeyOptions {
  role: string[];
  scope: string[];
  agent?: string;
  description?: string;
  expiresIn?: number;
  signs?: true;
}

interface ListFlags extends KeyOptions {
  principal?: string;
  all?: true;
  pageToken?: string;
}

interface RotateFlags extends KeyOptions {
  overlap?: number;
  expiresIn?: number;
}

export function addKeysCommands(program: Command, cli: Cli): void {
  const keys = program.command("keys").description("make, list, rotate and revoke API keys");
  const { io } = cli;
  const showMade = (made: CreateKeyResponse, options: ServerOptions) => {
    io.out(options.json ? json(toJson(CreateKeyResponseSchema, made)) : madeText(made));
    if (!options.json) io.err("The token is shown this once. Keep it where secrets are kept.\n");
  };

  const create = keys
    .command("create <principal>")
    .description("make a key for somebody, who gets this name if it is new")
    .option("--role <role>", "viewer, caller, agent, operator or admin; several may be given", collect, [])
    .option(
      "--scope <scope>",
      "a scope beside those of the roles, such as tasks.read; several may be given",
      collect,
      [],
    )
    .option("--agent <id>", "the agent that it is")
    .option("--description <text>", "for people")
    .addOption(expiresIn("no end"))
    .option("--signs", "a key that signs each call and is never sent");
  withKeys(create).action((principalId: string, { role, scope, agent, description, signs, ...options }: CreateFlags) =>
    callServer(cli, options, async ({ workspaces }) => {
      const made = await workspaces.createKey({
        key: {
          kind: signs ? KeyKind.HMAC : KeyKind.BEARER,
          principalId,
          roles: role,
          scopes: scope,
          agentId: agent ?? "",
          description: description ?? "",
          workspaceId: options.inWorkspace ?? "",
          ...endIn(options.expiresIn),
        },
      });
      showMade(made, options);
    }),
  );

  const list = keys
    .command("list")
    .description("list keys that hold, the latest first")
    .option("--principal <name>", "only those of one principal")
    .option("--all", "those that have ended too")
    .option("--page-token <token>", "the page after another one");
  withKeys(list).action(({ principal = "", all, pageToken = "", ...options }: ListFlags) =>
    callServer(cli, options, async ({ workspaces }) => {
      const workspaceId = options.inWorkspace ?? "";
      const page = await workspaces.listKeys({ workspaceId, principalId: principal, pageToken, pageSize: 100 });
      const now = new Date();
      if (!all) page.keys = page.keys.filter((key) => stateOf(key, now) === "ACTIVE");
      io.out(options.json ? json(toJson(ListKeysResponseSchema, page)) : keysTable(page.keys, now));
      if (!options.json && page.nextPageToken !== "") io.err(`There are more: --page-token ${page.nextPageToken}\n`);
    }),
  );

  const rotate = keys
    .command("rotate <key-id>")
    .description("make a key in the place of another, which goes on for a while")
    .option("--overlap <time>", "how long the old one holds, up to 30d (default: 24h)", parseDuration)
    .addOption(expiresIn("as long as the old one was made to last"));
  withKeys(rotate).action((keyId: string, { overlap, ...options }: RotateFlags) =>
    callServer(cli, options, async ({ workspaces }) => {
      const made = await workspaces.rotateKey({
        keyId,
        workspaceId: options.inWorkspace ?? "",
        ...(overlap !== undefined && { overlap: durationOf(overlap) }),
        ...endIn(options.expiresIn),
      });
      showMade(made, options);
    }),
  );

  withKeys(keys.command("revoke <key-id>").description("end a key now")).action((keyId: string, options: KeyOptions) =>
    callServer(cli, options, async ({ workspaces }) => {
      const key = await workspaces.revokeKey({ keyId, workspaceId: options.inWorkspace ?? "" });
      io.out(options.json ? json(toJson(KeySchema, key)) : keyText(key));
    }),
  );
}

export function addWhoAmICommand(program: Command, cli: Cli): void {
  const whoami = program.command("whoami").description("show who you are to the server, and what you may do");
  withServer(whoami).action((options: ServerOptions) =>
    callServer(cli, options, async ({ workspaces }) => {
      const me = await workspaces.whoAmI({});
      if (options.json) return cli.io.out(json(toJson(WhoAmIResponseSchema, me)));
      cli.io.out(
        facts([
          ["Principal", me.principalId],
          ["Workspace", me.workspaceId],
          ["Authentication", me.authentication],
          ["Roles", me.roles.join(", ")],
          ["Scopes", me.scopes.join(", ")],
          ["Agent", me.agentId],
          ["On behalf of it", me.actors.join(", ")],
        ]),
      );
    }),
  );
}

const withKeys = (command: Command): Command =>
  withServer(command).option("--in-workspace <id>", "another workspace than yours, for those who run the router");

const collect = (value: string, before: string[]): string[] => [...before, value];

const expiresIn = (otherwise: string): Option =>
  new Option("--expires-in <time>", `such as 90d (default: ${otherwise})`).argParser(parseDuration);

const endIn = (ms: number | undefined) =>
  ms === undefined ? {} : { expireTime: timestampFromDate(new Date(Date.now() + ms)) };

const durationOf = (ms: number) => ({ seconds: BigInt(Math.floor(ms / 1000)), nanos: (ms % 1000) * 1e6 });

const time = (at: Timestamp | undefined): string => (at ? timestampDate(at).toISOString() : "");

function stateOf({ revokeTime, expireTime }: Key, now: Date): string {
  if (revokeTime) return "REVOKED";
  return expireTime && timestampDate(expireTime) <= now ? "EXPIRED" : "ACTIVE";
}

const rows = (key: Key): [string, string][] => [
  ["Key", key.keyId],
  ["Kind", word(KeyKind, key.kind)],
  ["Workspace", key.workspaceId],
  ["Principal", key.principalId],
  ["Roles", key.roles.join(", ")],
  ["Scopes", key.scopes.join(", ")],
  ["Agent", key.agentId],
  ["Description", key.description],
  ["Made", time(key.createTime)],
  ["By", key.createdBy],
  ["Expires", time(key.expireTime)],
  ["Revoked", time(key.revokeTime)],
  ["Last used", time(key.lastUseTime)],
];

const keyText = (key: Key): string => facts(rows(key));

const madeText = ({ key, token }: CreateKeyResponse): string => facts([...(key ? rows(key) : []), ["Token", token]]);

function keysTable(found: readonly Key[], now: Date): string {
  if (found.length === 0) return "There is no key.\n";
  const cells = found.map((key) => [
    key.keyId,
    word(KeyKind, key.kind),
    key.principalId,
    [...key.roles, ...key.scopes].join(","),
    stateOf(key, now),
    key.createTime ? age(timestampDate(key.createTime), now) : "",
    key.lastUseTime ? `${age(timestampDate(key.lastUseTime), now)} ago` : "never",
    key.expireTime ? time(key.expireTime) : "never",
    key.description,
  ]);
  return table(["KEY", "KIND", "PRINCIPAL", "MAY", "STATE", "AGE", "LAST USED", "EXPIRES", "DESCRIPTION"], cells);
}
