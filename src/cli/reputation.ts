/** `signalbox reputation`: how far agents are trusted, and what is said of what they did. */
import { toJson } from "@bufbuild/protobuf";
import { type Command, InvalidArgumentError } from "commander";
import { type Reputation, ReputationSchema, type ReputationWindow } from "../../gen/signalbox/v1/reputation_pb.ts";
import { facts, json, table } from "./printable.ts";
import type { Cli } from "./run.ts";
import { callServer, type ServerOptions, withServer } from "./server-call.ts";

interface SubjectFlags extends ServerOptions {
  capability?: string;
}

interface ListFlags extends ServerOptions {
  agent?: string;
}

interface ReportFlags extends SubjectFlags {
  task?: string;
  agent?: string;
  quality: number;
  weight?: number;
  id?: string;
  comment?: string;
}

interface TrustFlags extends SubjectFlags {
  comment?: string;
}

export function addReputationCommands(program: Command, cli: Cli): void {
  const reputation = program.command("reputation").description("see how far agents are trusted, and say what they did");
  const { io } = cli;
  const show = (shown: Reputation, options: ServerOptions) =>
    io.out(options.json ? json(toJson(ReputationSchema, shown)) : reputationText(shown));

  const list = reputation
    .command("list")
    .description("list how agents stand, as a whole and for each capability")
    .option("--agent <id>", "only this agent");
  withServer(list).action((options: ListFlags) =>
    callServer(cli, options, async ({ reputations }) => {
      const found: Reputation[] = [];
      let pageToken = "";
      do {
        const page = await reputations.listReputations({ agentId: options.agent ?? "", pageSize: 1000, pageToken });
        found.push(...page.reputations);
        pageToken = page.nextPageToken;
      } while (pageToken !== "");
      io.out(
        options.json
          ? json({ reputations: found.map((one) => toJson(ReputationSchema, one)) })
          : reputationTable(found),
      );
    }),
  );

  const get = reputation
    .command("get <agent>")
    .description("show how an agent stands, with what came of its tasks of late")
    .option("--capability <id>", "for this capability");
  withServer(get).action((agentId: string, options: SubjectFlags) =>
    callServer(cli, options, async ({ reputations }) =>
      show(await reputations.getReputation({ agentId, capabilityId: options.capability ?? "" }), options),
    ),
  );

  const report = reputation
    .command("report")
    .description("say how good a task that has ended was, or what an agent does")
    .option("--task <id>", "the task that is judged")
    .option("--agent <id>", "or else the agent")
    .option("--capability <id>", "what the agent does, where it is about that")
    .requiredOption("--quality <share>", "how good it is, from 0, a failure, to 1", parseNumber)
    .option("--weight <number>", "how much it counts beside a task, up to 100 (default: 1)", parseNumber)
    .option("--id <id>", "names the report: sent again under the same id, it counts once")
    .option("--comment <text>", "why, for people");
  withServer(report).action((options: ReportFlags) => {
    const { task: taskId = "", agent: agentId = "", capability: capabilityId = "" } = options;
    if ((taskId === "") === (agentId === "")) return report.error("error: give one of --task and --agent.");
    const { quality, weight = 0, id: reportId = "", comment = "" } = options;
    return callServer(cli, options, async ({ reputations }) =>
      show(
        await reputations.reportOutcome({ taskId, agentId, capabilityId, quality, weight, reportId, comment }),
        options,
      ),
    );
  });

  const setTrust = reputation
    .command("set-trust <agent> <trust>")
    .description("set how far an agent is trusted, from 0 to 1; what it does from then on counts on top")
    .option("--capability <id>", "for this capability; else for all of them")
    .option("--comment <text>", "why, for people");
  withServer(setTrust).action((agentId: string, given: string, options: TrustFlags) => {
    const trust = Number(given);
    if (given.trim() === "" || Number.isNaN(trust)) return setTrust.error("error: the trust is a number from 0 to 1.");
    const { capability: capabilityId = "", comment = "" } = options;
    return callServer(cli, options, async ({ reputations }) =>
      show(await reputations.setTrust({ agentId, capabilityId, trust, comment }), options),
    );
  });
}

function reputationTable(found: readonly Reputation[]): string {
  if (found.length === 0) return "Nothing is known of any agent: no task has ended yet.\n";
  const rows = found.map((one) => [
    one.agentId,
    one.capabilityId || "(all)",
    share(one.trust),
    mayText(one),
    share(one.score),
    String(one.succeeded),
    String(one.failed),
  ]);
  return table(["AGENT", "CAPABILITY", "TRUST", "MAY", "SCORE", "SUCCEEDED", "FAILED"], rows);
}

function reputationText(shown: Reputation): string {
  const { windows } = shown;
  const head = facts([
    ["Agent", shown.agentId],
    ["Capability", shown.capabilityId || "(all)"],
    ["Trust", `${share(shown.trust)}, enough for ${mayText(shown)}`],
    ["Score", share(shown.score)],
    ["Succeeded", String(shown.succeeded)],
    ["Failed", String(shown.failed)],
  ]);
  const rows = windows.map((window) => [
    `${Number(window.seconds) / 3600} h`,
    String(window.succeeded),
    String(window.failed),
    rateText(window),
    ms(window.p50Ms),
    ms(window.p95Ms),
    ms(window.p99Ms),
    slaText(window),
  ]);
  return `${head}\n${table(["LAST", "SUCCEEDED", "FAILED", "RATE (95 %)", "P50", "P95", "P99", "IN SLA"], rows)}`;
}

const mayText = ({ mayRead, mayWrite }: Reputation): string =>
  mayWrite ? "READ, WRITE" : mayRead ? "READ" : "nothing";

function rateText({ successRate, successRateLow = 0, successRateHigh = 0 }: ReputationWindow): string {
  if (successRate === undefined) return "";
  return `${percent(successRate)} (${percent(successRateLow)} to ${percent(successRateHigh)})`;
}

function slaText({ slaAdherence, slaMet }: ReputationWindow): string {
  if (slaAdherence === undefined) return "";
  return `${percent(slaAdherence)} %${slaMet === undefined ? "" : slaMet ? ", met" : ", not met"}`;
}

/** Never rounded up: what is not enough is not shown as what is. */
const share = (value: number): string => (Math.floor(value * 1000 + 1e-6) / 1000).toFixed(3);

const percent = (value: number): string => (value * 100).toFixed(1);

const ms = (value: number | undefined): string => (value === undefined ? "" : `${Math.round(value)} ms`);

function parseNumber(text: string): number {
  const number = Number(text);
  if (text.trim() === "" || Number.isNaN(number)) throw new InvalidArgumentError("It is a number.");
  return number;
}
