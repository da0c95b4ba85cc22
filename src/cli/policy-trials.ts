/** `signalbox policy eval` and `signalbox policy replay`: what a policy says of given facts, and what a draft would have said. */
import { type JsonObject, type JsonValue, toJson } from "@bufbuild/protobuf";
import { timestampDate, timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { Command } from "commander";
import {
  type PolicyDecision,
  PolicyDecisionSchema,
  PolicyEffect,
  PolicyPhase,
  type ReplayPolicyResponse,
  ReplayPolicyResponseSchema,
} from "../../gen/signalbox/v1/policy_pb.ts";
import { factOf } from "../domain/policy/fact-table.ts";
import { parseDuration } from "./duration.ts";
import { textOf } from "./given-text.ts";
import { facts, json, table } from "./printable.ts";
import type { Cli } from "./run.ts";
import { callServer, type ServerOptions, withServer } from "./server-call.ts";

const DAY_MS = 86_400_000;

interface EvalFlags extends ServerOptions {
  phase?: string;
  draft?: string;
}

interface ReplayFlags extends ServerOptions {
  since?: number;
  limit?: string;
}

const PHASES: Readonly<Record<string, PolicyPhase>> = {
  admission: PolicyPhase.ADMISSION,
  candidate: PolicyPhase.CANDIDATE,
  result: PolicyPhase.RESULT,
};

export function addPolicyTrialCommands(policy: Command, cli: Cli): void {
  const { io } = cli;

  const evaluate = policy
    .command("eval [facts...]")
    .description(
      "say what the policy decides about facts, such as agent_id=translator cost=0.25, at the present time if none says when; fails if it denies",
    )
    .option("--phase <phase>", "when it is asked: admission, candidate or result", "candidate")
    .option("--draft <file>", "decide by this file in place of the policy; - reads standard input");
  withServer(evaluate).action((given: string[], { phase = "", draft, ...options }: EvalFlags) => {
    const asked = PHASES[phase.toLowerCase()];
    if (!asked) return evaluate.error("error: --phase is admission, candidate or result.");
    const request = {
      facts: factsOf(evaluate, given),
      phase: asked,
      ...(draft !== undefined && { document: textOf(evaluate, cli, draft) }),
    };
    return callServer(cli, options, async ({ policies }) => {
      const decision = await policies.evaluatePolicy(request);
      io.out(options.json ? json(toJson(PolicyDecisionSchema, decision)) : decisionText(decision));
      if (decision.effect === PolicyEffect.DENY) cli.exitCode = 1;
    });
  });

  const replay = policy
    .command("replay <file>")
    .description("say which past decisions a draft would change, and why; - reads standard input")
    .option("--since <duration>", "how far back, such as 30m, 12h or 7d; 24h if not given", parseDuration)
    .option("--limit <n>", "tasks at most, the latest first (default: 10000, which is also the most)");
  withServer(replay).action((file: string, { since = DAY_MS, limit = "0", ...options }: ReplayFlags) => {
    if (!/^\d{1,9}$/.test(limit)) return replay.error(`error: --limit ${limit}: it is a whole number.`);
    const nowMs = Date.now();
    const request = {
      document: textOf(replay, cli, file),
      startTime: timestampFromMs(Math.max(0, nowMs - since)),
      endTime: timestampFromMs(nowMs),
      limit: Number(limit),
    };
    return callServer(cli, options, async ({ policies }) => {
      const answer = await policies.replayPolicy(request);
      io.out(options.json ? json(toJson(ReplayPolicyResponseSchema, answer)) : replayText(answer));
    });
  });
}

/** `name=value` each. Numbers are numbers, and lists have commas, where the fact is one. */
function factsOf(command: Command, given: readonly string[]): JsonObject {
  return Object.fromEntries(
    given.map((text) => {
      const at = text.indexOf("=");
      if (at < 1) return command.error(`error: ${text} is no fact: write it as agent_id=translator.`);
      const [name, value] = [text.slice(0, at), text.slice(at + 1)];
      return [name, factValue(name, value)];
    }),
  );
}

function factValue(name: string, text: string): JsonValue {
  const kind = factOf(name)?.info.kind;
  if (kind === "number" && text.trim() !== "" && Number.isFinite(Number(text))) return Number(text);
  return kind === "texts" ? text.split(",").filter((item) => item !== "") : text;
}

const EFFECTS: ReadonlyMap<number, string> = new Map(
  Object.entries(PolicyEffect).map(([name, effect]) => [effect, name]),
);

const effectText = (decision: PolicyDecision | undefined): string => EFFECTS.get(decision?.effect ?? 0) ?? "";

function decisionText(decision: PolicyDecision): string {
  const { rules, reason, policyVersion } = decision;
  const summary = facts([
    ["Effect", effectText(decision)],
    ["Reason", reason],
    ["Version", policyVersion > 0 ? String(policyVersion) : undefined],
  ]);
  if (rules.length === 0) return summary;
  const rows = rules.map(({ path, effect, scope, file, line, description }) => [
    path,
    effect,
    scope,
    file === "" ? String(line) : `${file}:${line}`,
    description,
  ]);
  return `${summary}\n${table(["RULE", "EFFECT", "SCOPE", "LINE", "DESCRIPTION"], rows)}`;
}

function replayText(answer: ReplayPolicyResponse): string {
  const { taskCount, unknownCount, changedCount, changes, hasMore, startTime, endTime } = answer;
  const time = (at: typeof startTime) => (at ? timestampDate(at).toISOString() : "");
  const summary = facts([
    ["Tasks", `${taskCount} from ${time(startTime)} to ${time(endTime)}`],
    ["", hasMore ? "the newest; there were more" : undefined],
    ["Unknown", unknownCount > 0 ? `${unknownCount} of which no facts were kept` : undefined],
    ["Would change", String(changedCount)],
  ]);
  if (changes.length === 0) return summary;
  const rows = changes.map(({ taskId, time: decided, before, after }) => [
    taskId || "-",
    time(decided),
    effectText(before),
    effectText(after),
    after?.reason ?? "",
  ]);
  const more = changedCount > changes.length ? `and ${changedCount - changes.length} more\n` : "";
  return `${summary}\n${table(["TASK", "DECIDED", "BEFORE", "AFTER", "WHY"], rows)}${more}`;
}
