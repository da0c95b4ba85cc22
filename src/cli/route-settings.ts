/** `signalbox route settings`: how the workspace routes. */
import { toJson } from "@bufbuild/protobuf";
import { timestampDate } from "@bufbuild/protobuf/wkt";
import type { Command } from "commander";
import { type RoutingSettings, RoutingSettingsSchema, WhenNothingFits } from "../../gen/signalbox/v1/routing_pb.ts";
import { facts, json } from "./printable.ts";
import { weightsFlag, weightsText } from "./routing-flags.ts";
import type { Cli } from "./run.ts";
import { callServer, type ServerOptions, withServer } from "./server-call.ts";

interface SetFlags extends ServerOptions {
  strategy?: string;
  weights?: string;
  whenNothingFits?: string;
}

const WHEN_NOTHING_FITS: Readonly<Record<string, WhenNothingFits>> = {
  refuse: WhenNothingFits.REFUSE,
  reject: WhenNothingFits.REJECT,
};

export function addRouteSettingsCommands(route: Command, cli: Cli): void {
  const settings = route.command("settings").description("how the workspace routes");
  const show = (current: RoutingSettings, options: ServerOptions) =>
    cli.io.out(options.json ? json(toJson(RoutingSettingsSchema, current)) : settingsText(current));

  const get = settings.command("get", { isDefault: true }).description("show how the workspace routes");
  withServer(get).action((options: ServerOptions) =>
    callServer(cli, options, async ({ routes }) => show(await routes.getRoutingSettings({}), options)),
  );

  const set = settings
    .command("set")
    .description("change how the workspace routes; what is not named stays")
    .option("--strategy <name>", 'what chooses where a message does not say, such as least-load; "" for the server\'s')
    .option(
      "--weights <list>",
      'of WEIGHTED_SCORE, such as load=1,cost=2; a weight that is not named is 0; "" for the default ones',
    )
    .option("--when-nothing-fits <what>", "refuse the message, or reject: store a task that is REJECTED");
  withServer(set).action((flags: SetFlags) => {
    const { strategy, weights, whenNothingFits } = flags;
    const given = {
      ...(strategy !== undefined && { strategy }),
      ...(weights !== undefined && weights !== "" && { weights: weightsFlag(set, weights) }),
      ...(whenNothingFits !== undefined && { whenNothingFits: whenNothingFitsOf(set, whenNothingFits) }),
    };
    const paths = [
      ...(strategy !== undefined ? ["strategy"] : []),
      ...(weights !== undefined ? ["weights"] : []),
      ...(whenNothingFits !== undefined ? ["when_nothing_fits"] : []),
    ];
    if (paths.length === 0)
      return set.error("error: nothing to change: give --strategy, --weights or --when-nothing-fits.");
    return callServer(cli, flags, async ({ routes }) =>
      show(await routes.updateRoutingSettings({ routingSettings: given, updateMask: { paths } }), flags),
    );
  });
}

function whenNothingFitsOf(command: Command, given: string): WhenNothingFits {
  return WHEN_NOTHING_FITS[given.toLowerCase()] ?? command.error("error: --when-nothing-fits takes refuse or reject.");
}

function settingsText({ strategy, weights, whenNothingFits, revision, updateTime }: RoutingSettings): string {
  return facts([
    ["Strategy", strategy || "the server's (routing.strategy)"],
    ["Weights", weights && weightsText(weights)],
    ["When nothing fits", whenNothingFits === WhenNothingFits.REJECT ? "reject" : "refuse"],
    ["Revision", String(revision)],
    ["Updated", updateTime && timestampDate(updateTime).toISOString()],
  ]);
}
