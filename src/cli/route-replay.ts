/** `signalbox route replay`: what would have come of past decisions by another strategy, or other weights. */
import { toJson } from "@bufbuild/protobuf";
import { timestampDate, timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { Command } from "commander";
import {
  type ReplayRoutesResponse,
  ReplayRoutesResponseSchema,
  type RouteExpectation,
} from "../../gen/signalbox/v1/routing_pb.ts";
import { parseDuration } from "./duration.ts";
import { facts, json, table } from "./printable.ts";
import { weightsFlag } from "./routing-flags.ts";
import type { Cli } from "./run.ts";
import { callServer, type ServerOptions, withServer } from "./server-call.ts";

interface ReplayFlags extends ServerOptions {
  since: number;
  capability?: string;
  strategy?: string;
  weights?: string;
}

export function addRouteReplayCommand(route: Command, cli: Cli): void {
  const replay = route
    .command("replay")
    .description("say what would have come of past decisions by another strategy, or other weights")
    .option("--since <duration>", "how far back, such as 30m, 12h or 7d", parseDuration, 3_600_000)
    .option("--capability <id>", "only decisions of this capability")
    .option("--strategy <name>", "the strategy to try, such as lowest-cost (default: each decision keeps its own)")
    .option("--weights <list>", "the weights to try, such as load=1,cost=2; a weight that is not named is 0");
  withServer(replay).action((flags: ReplayFlags) => {
    const { since, capability = "", strategy = "", weights } = flags;
    const nowMs = Date.now();
    const request = {
      startTime: timestampFromMs(Math.max(0, nowMs - since)),
      endTime: timestampFromMs(nowMs),
      capabilityId: capability,
      strategy,
      ...(weights !== undefined && { weights: weightsFlag(replay, weights) }),
    };
    return callServer(cli, flags, async ({ routes }) => {
      const answer = await routes.replayRoutes(request);
      cli.io.out(flags.json ? json(toJson(ReplayRoutesResponseSchema, answer)) : replayText(answer));
    });
  });
}

function replayText(answer: ReplayRoutesResponse): string {
  const { decisionCount, hasMore, startTime, endTime, openCount, partialCount, changedCount } = answer;
  const { before, after, latencyCount, unchanged, shares, agentCount, changes } = answer;
  const time = (at: typeof startTime) => (at ? timestampDate(at).toISOString() : "");
  const summary = facts([
    ["Decisions", `${decisionCount} from ${time(startTime)} to ${time(endTime)}`],
    ["", hasMore ? "the newest; there were more" : undefined],
    ["With a choice", String(openCount)],
    ["In part", partialCount > 0 ? `${partialCount} had more candidates than were kept` : undefined],
    ["Would change", String(changedCount)],
  ]);
  const row = (name: string, cell: (of: RouteExpectation) => string) => [
    name,
    before ? cell(before) : "",
    after ? cell(after) : "",
  ];
  const expected = [
    row("cost", ({ cost }) => cost),
    row("latency ms", ({ latencyMs }) => (latencyCount > 0 ? String(Math.round(latencyMs)) : "-")),
    row("success", ({ success }) => percent(success)),
  ];
  const sections = [summary, table(["EXPECTED", "BEFORE", "AFTER"], expected)];
  if (unchanged && unchanged.endedCount > 0) {
    const { endedCount, completedCount, cost, latencyMs } = unchanged;
    const share = percent(completedCount / endedCount);
    sections.push(
      facts([
        ["Really happened", `to ${endedCount} that would not change and have ended`],
        ["Cost", cost],
        ["Latency ms", completedCount > 0 ? String(Math.round(latencyMs)) : "-"],
        ["Completed", share],
      ]),
    );
  }
  if (shares.length > 0) {
    const rows = shares.map((share) => [share.agentId, String(share.before), String(share.after)]);
    const more = agentCount > shares.length ? `and ${agentCount - shares.length} more\n` : "";
    sections.push(`${table(["AGENT", "BEFORE", "AFTER"], rows)}${more}`);
  }
  if (changes.length > 0) {
    const rows = changes.map((change) => [
      change.taskId || "-",
      time(change.time),
      change.fromAgentId,
      change.toAgentId,
    ]);
    const more = changedCount > changes.length ? `and ${changedCount - changes.length} more\n` : "";
    sections.push(`${table(["TASK", "DECIDED", "FROM", "TO"], rows)}${more}`);
  }
  return sections.join("\n");
}

const percent = (share: number): string => `${(share * 100).toFixed(1)}%`;
