/** `signalbox route`: where a message would go, why a task went where it did, and by what rules. */
import { toJson } from "@bufbuild/protobuf";
import { timestampDate } from "@bufbuild/protobuf/wkt";
import type { Command } from "commander";
import { FallbackCondition, RouteMode } from "../../gen/signalbox/v1/rollout_pb.ts";
import {
  type RolloutTrace,
  type RouteDecision,
  RouteDecisionSchema,
  RouteSource,
} from "../../gen/signalbox/v1/routing_pb.ts";
import { sendRequest } from "../sdk/client.ts";
import { facts, json, latencyText, table } from "./printable.ts";
import { stepText, word } from "./rollout.ts";
import { addRouteReplayCommand } from "./route-replay.ts";
import { addRouteSettingsCommands } from "./route-settings.ts";
import { type RoutingFlags, sendOptionsOf, weightsText, withRouting } from "./routing-flags.ts";
import type { Cli } from "./run.ts";
import { callServer, type ServerOptions, withServer } from "./server-call.ts";

export function addRouteCommands(program: Command, cli: Cli): void {
  const route = program.command("route").description("see which agent a message would go to, and why; and change it");
  const show = (decision: RouteDecision, options: ServerOptions) =>
    cli.io.out(options.json ? json(toJson(RouteDecisionSchema, decision)) : decisionText(decision));

  const preview = route
    .command("preview <text...>")
    .description("say which agent would take a message, without sending it");
  withServer(withRouting(preview)).action((words: string[], flags: RoutingFlags & ServerOptions) => {
    const request = sendRequest(words.join(" "), sendOptionsOf(preview, flags));
    return callServer(cli, flags, async ({ routes }) => {
      const decision = await routes.previewRoute({ request });
      show(decision, flags);
      if (decision.agentId !== "") return;
      cli.io.err("No agent could take it.\n");
      cli.exitCode = 1;
    });
  });

  const explain = route.command("explain <task>").description("say why a task was given to its agent");
  withServer(explain).action((taskId: string, options: ServerOptions) =>
    callServer(cli, options, async ({ routes }) => show(await routes.getRouteDecision({ taskId }), options)),
  );

  addRouteReplayCommand(route, cli);
  addRouteSettingsCommands(route, cli);
}

const SOURCES: Readonly<Record<RouteSource, string>> = {
  [RouteSource.UNSPECIFIED]: "",
  [RouteSource.ADDRESS]: "the address",
  [RouteSource.TENANT]: "the tenant of the request",
  [RouteSource.EXTENSION]: "the routing extension of the request",
  [RouteSource.TEXT]: "the text of the message",
  [RouteSource.DEFAULT]: "the workspace's default agent",
  [RouteSource.CACHE]: "the result of an earlier task",
};

function steeredText({ routeMode, canary, fallbackStep, fallbackCondition }: RolloutTrace): string {
  const steps = [
    routeMode === RouteMode.LOCAL ? "local agents only" : routeMode === RouteMode.REMOTE && "remote agents only",
    canary !== undefined && (canary ? "to the canary" : "beside the canary"),
    fallbackStep && `fallback to ${stepText(fallbackStep)}: ${word(FallbackCondition, fallbackCondition)}`,
  ];
  return steps.filter((step) => step).join(", ");
}

/** A decision, with who was in question. */
export function decisionText(decision: RouteDecision): string {
  const { candidates, candidateCount, cuts, matches, weights } = decision;
  const summary = facts([
    ["Agent", decision.agentId || "none could take it"],
    ["Capability", decision.capabilityId],
    ["Named by", SOURCES[decision.source]],
    ["Strategy", decision.strategy || (candidateCount > 0 ? "none: one agent was in question" : "")],
    ["Weights", weights && weightsText(weights)],
    ["Task", decision.taskId],
    ["Steered", decision.rollout && steeredText(decision.rollout)],
    ["Decided", decision.time && timestampDate(decision.time).toISOString()],
  ]);
  const rows = candidates.map(({ agentId, score, inFlight, latencyMs, errorRate, cost }) => [
    agentId === decision.agentId ? "*" : "",
    agentId,
    Number.isFinite(score) ? String(Number(score.toPrecision(4))) : "-",
    String(inFlight),
    latencyText(latencyMs),
    `${Math.round(errorRate * 100)}%`,
    cost || "0",
  ]);
  const more = candidateCount > candidates.length ? `and ${candidateCount - candidates.length} more\n` : "";
  const sections = [
    summary,
    rows.length > 0 && `${table(["", "CANDIDATE", "SCORE", "IN FLIGHT", "LATENCY MS", "ERRORS", "COST"], rows)}${more}`,
    cuts.length > 0 &&
      table(
        ["CUT BY", "AGENTS", "NAMES"],
        cuts.map(({ reason, count, agentIds, policyRule }) => [
          policyRule === "" ? reason : `${reason} ${policyRule}`,
          String(count),
          agentIds.join(", "),
        ]),
      ),
    matches.length > 0 &&
      table(
        ["TEXT FITS", "SCORE"],
        matches.map(({ capabilityId, score }) => [capabilityId, score.toFixed(2)]),
      ),
  ];
  return sections.filter((section) => section).join("\n");
}
