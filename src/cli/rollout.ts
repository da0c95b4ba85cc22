/** `signalbox rollout`: how traffic is steered; `signalbox alerts`: what is measured beside its thresholds. */
import { toJson } from "@bufbuild/protobuf";
import type { Command } from "commander";
import {
  type Alert,
  AlertSchema,
  CompatibilityMode,
  FallbackCondition,
  type FallbackStep,
  type Rollout,
  RolloutSchema,
  RouteMode,
} from "../../gen/signalbox/v1/rollout_pb.ts";
import { facts, json, table } from "./printable.ts";
import { addRolloutFlags, changeOf, type RolloutFlags } from "./rollout-flags.ts";
import { missingTargets } from "./rollout-targets.ts";
import type { Cli } from "./run.ts";
import { callServer, type ServerOptions, withServer } from "./server-call.ts";

export function addRolloutCommands(program: Command, cli: Cli): void {
  const rollout = program.command("rollout").description("show and change how traffic is steered");
  const { io } = cli;
  const show = (shown: Rollout, options: ServerOptions) =>
    io.out(options.json ? json(toJson(RolloutSchema, shown)) : rolloutText(shown));

  const get = rollout.command("get [capability]").description("show the rollout of a capability, or of the workspace");
  withServer(get).action((capabilityId: string | undefined, options: ServerOptions) =>
    callServer(cli, options, async ({ rollouts }) =>
      show(await rollouts.getRollout({ capabilityId: capabilityId ?? "" }), options),
    ),
  );

  const set = rollout
    .command("set [capability]")
    .description("change the rollout of a capability, or of the workspace; what is not named stays as it is");
  withServer(addRolloutFlags(set)).action((capabilityId: string | undefined, options: RolloutFlags & ServerOptions) => {
    const { change, paths } = changeOf(set, options);
    const named = { ...change, capabilityId: capabilityId ?? "" };
    return callServer(cli, options, async (client) => {
      const updated = await client.rollouts.updateRollout({ rollout: named, updateMask: { paths } });
      show(updated, options);
      io.err(await missingTargets(client, updated));
    });
  });

  const remove = rollout
    .command("delete [capability]")
    .description("forget the rollout of a capability, which the workspace's steers again, or of the workspace");
  withServer(remove).action((capabilityId: string | undefined, options: ServerOptions) =>
    callServer(cli, options, async ({ rollouts }) => {
      await rollouts.deleteRollout({ capabilityId: capabilityId ?? "" });
      io.out(options.json ? json({}) : "Forgotten.\n");
    }),
  );

  withServer(rollout.command("list").description("list all rollouts that there are")).action((options: ServerOptions) =>
    callServer(cli, options, async ({ rollouts }) => {
      const found = (await rollouts.listRollouts({})).rollouts;
      io.out(options.json ? json({ rollouts: found.map((one) => toJson(RolloutSchema, one)) }) : rolloutTable(found));
    }),
  );
}

interface AlertFlags extends ServerOptions {
  crossed?: true;
}

export function addAlertsCommands(program: Command, cli: Cli): void {
  const alerts = program.command("alerts").description("see which signals are above their thresholds");
  const list = alerts
    .command("list")
    .description("list what the server has measured of its tasks in the last 5 minutes")
    .option("--crossed", "only what is above its threshold");
  withServer(list).action((options: AlertFlags) =>
    callServer(cli, options, async ({ rollouts }) => {
      const found = (await rollouts.listAlerts({ crossedOnly: options.crossed ?? false })).alerts;
      cli.io.out(options.json ? json({ alerts: found.map((one) => toJson(AlertSchema, one)) }) : alertTable(found));
    }),
  );
}

/** The last part of an enum value's name, in lower case with dashes, as flags take it. */
export const word = (names: Readonly<Record<string, number>>, value: number): string =>
  (Object.keys(names).find((name) => names[name] === value) ?? String(value)).toLowerCase().replaceAll("_", "-");

function rolloutText(shown: Rollout): string {
  const { alertThresholds: alerts, mirror, hedging } = shown;
  return facts([
    ["Of", shown.capabilityId || "the workspace"],
    ["Canary", canaryText(shown)],
    ["Rolled back to local", shown.rollbackToLocal ? "yes" : "no"],
    ["Route mode", word(RouteMode, shown.routeModeDefault)],
    ["Fallback", shown.fallbackChain.map(stepText).join(", ")],
    ["Old event keys", shown.dualEventWrite ? word(CompatibilityMode, shown.compatibilityMode) : "no"],
    ["Mirror", mirror && mirror.percent > 0 ? `${mirror.percent} % to ${mirror.agentId}` : ""],
    ["Hedging", hedging?.enabled ? `after quantile ${hedging.quantile}, not before ${hedging.minDelayMs} ms` : ""],
    [
      "Alert above",
      alerts &&
        `error_rate ${alerts.errorRate}, p95_ms ${alerts.p95Ms}, retry_rate ${alerts.retryRate}, circuit_open_rate ${alerts.circuitOpenRate}`,
    ],
    ["Etag", shown.etag],
  ]);
}

function canaryText({ canaryEnabled, canaryPercent, canaryTarget }: Rollout): string {
  if (!canaryEnabled) return "no";
  const target = canaryTarget?.target;
  return `${canaryPercent} % to ${target?.case === "version" ? "version" : "agent"} ${target?.value}`;
}

/** As --fallback takes it. */
export function stepText({ target, conditions }: FallbackStep): string {
  const on = conditions.map((condition) => word(FallbackCondition, condition)).join(",");
  return `${target.case === "agentId" ? "a" : "c"}.${target.value}${on && `:${on}`}`;
}

function rolloutTable(found: readonly Rollout[]): string {
  if (found.length === 0) return 'No rollouts: nothing is steered. Change that with "signalbox rollout set".\n';
  const rows = found.map((one) => [
    one.capabilityId || "(workspace)",
    canaryText(one),
    one.rollbackToLocal ? "yes" : "no",
    word(RouteMode, one.routeModeDefault),
    one.fallbackChain.map(stepText).join(" "),
  ]);
  return table(["OF", "CANARY", "ROLLED BACK", "ROUTE MODE", "FALLBACK"], rows);
}

function alertTable(found: readonly Alert[]): string {
  if (found.length === 0) return "No signal is above its threshold.\n";
  const rows = found.map(({ capabilityId, signal, value, threshold, crossed, samples }) => [
    crossed ? "!" : "",
    capabilityId || "(workspace)",
    signal,
    String(Number(value.toPrecision(4))),
    String(threshold),
    String(samples),
  ]);
  return table(["", "OF", "SIGNAL", "VALUE", "THRESHOLD", "SAMPLES"], rows);
}
