/** `signalbox grants`: agents that workspaces lend each other. */
import { toJson } from "@bufbuild/protobuf";
import { type Timestamp, timestampDate, timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { Command } from "commander";
import { type Grant, GrantSchema, GrantState, ListGrantsResponseSchema } from "../../gen/signalbox/v1/workspace_pb.ts";
import { age, facts, json, table } from "./printable.ts";
import { word } from "./rollout.ts";
import type { Cli } from "./run.ts";
import { callServer, type ServerOptions, withServer } from "./server-call.ts";

interface OfferFlags extends ServerOptions {
  capability?: string;
  expires?: string;
}

interface ListFlags extends ServerOptions {
  state?: string;
  pageToken?: string;
}

const STATES = Object.keys(GrantState).filter((name) => name !== "UNSPECIFIED");

export function addGrantsCommands(program: Command, cli: Cli): void {
  const grants = program.command("grants").description("lend agents to other workspaces, and take what they lend");
  const { io } = cli;
  const show = (shown: Grant, options: ServerOptions) =>
    io.out(options.json ? json(toJson(GrantSchema, shown)) : grantText(shown));

  const offer = grants
    .command("offer <agent> <workspace>")
    .description("offer another workspace the use of an agent; nothing crosses before it accepts")
    .option("--capability <id>", "only what the agent does for this capability")
    .option("--expires <time>", "when it ends by itself, as 2027-01-31T00:00:00Z");
  withServer(offer).action(
    (agentId: string, consumerWorkspaceId: string, { capability = "", expires, ...options }: OfferFlags) => {
      const expiresAt = expires === undefined ? undefined : new Date(expires);
      if (expiresAt && Number.isNaN(expiresAt.getTime())) {
        offer.error("error: --expires must be a time, as 2027-01-31T00:00:00Z.");
      }
      return callServer(cli, options, async (client) => {
        const expireTime = expiresAt && timestampFromDate(expiresAt);
        const said = { agentId, consumerWorkspaceId, capabilityId: capability, ...(expireTime && { expireTime }) };
        show(await client.workspaces.offerGrant({ grant: said }), options);
      });
    },
  );

  const accept = grants
    .command("accept <id>")
    .description("accept what another workspace offers: its agent is one of yours from then on")
    .option("--as <agent>", "its id in your workspace; default: the one that it has in its own");
  withServer(accept).action((grantId: string, { as = "", ...options }: ServerOptions & { as?: string }) =>
    callServer(cli, options, async (client) =>
      show(await client.workspaces.acceptGrant({ grantId, aliasAgentId: as }), options),
    ),
  );

  withServer(grants.command("revoke <id>").description("end a grant, from either side")).action(
    (grantId: string, options: ServerOptions) =>
      callServer(cli, options, async (client) => show(await client.workspaces.revokeGrant({ grantId }), options)),
  );

  const list = grants
    .command("list")
    .description("list what the workspace lends and what is lent to it, the latest first")
    .option("--state <state>", `only those that are ${STATES.join(", ")}`)
    .option("--page-token <token>", "the page after another one");
  withServer(list).action(({ state: wanted, pageToken = "", ...options }: ListFlags) => {
    const state = wanted === undefined ? GrantState.UNSPECIFIED : stateNamed(wanted);
    if (state === undefined) return list.error(`error: --state must be one of ${STATES.join(", ")}.`);
    return callServer(cli, options, async (client) => {
      const page = await client.workspaces.listGrants({ state, pageToken, pageSize: 100 });
      io.out(options.json ? json(toJson(ListGrantsResponseSchema, page)) : grantsTable(page.grants));
      if (!options.json && page.nextPageToken !== "") io.err(`There are more: --page-token ${page.nextPageToken}\n`);
    });
  });
}

const stateNamed = (name: string): GrantState | undefined =>
  STATES.includes(name.toUpperCase()) ? GrantState[name.toUpperCase() as keyof typeof GrantState] : undefined;

const time = (at: Timestamp | undefined): string => (at ? timestampDate(at).toISOString() : "");

const grantText = (shown: Grant): string =>
  facts([
    ["Grant", shown.grantId],
    ["State", word(GrantState, shown.state)],
    ["Agent", shown.agentId],
    ["Capability", shown.capabilityId],
    ["Lent by", shown.providerWorkspaceId],
    ["Lent to", shown.consumerWorkspaceId],
    ["There", shown.aliasAgentId],
    ["Since", time(shown.createTime)],
    ["Expires", time(shown.expireTime)],
    ["Offered by", shown.offeredBy],
    ["Accepted by", shown.acceptedBy],
  ]);

function grantsTable(found: readonly Grant[]): string {
  if (found.length === 0) return "Nothing is lent, and nothing is offered.\n";
  const now = new Date();
  const rows = found.map((one) => [
    one.grantId,
    word(GrantState, one.state),
    one.agentId,
    one.capabilityId || "-",
    one.providerWorkspaceId,
    one.consumerWorkspaceId,
    one.aliasAgentId || "-",
    one.createTime ? age(timestampDate(one.createTime), now) : "",
    time(one.expireTime) || "-",
  ]);
  return table(["GRANT", "STATE", "AGENT", "CAPABILITY", "FROM", "TO", "THERE", "AGE", "EXPIRES"], rows);
}
