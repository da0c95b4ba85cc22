/** `signalbox task submit` and `task wait`: tasks in plain words. */
import { fromJson, type JsonValue, toJson } from "@bufbuild/protobuf";
import { timestampDate, ValueSchema } from "@bufbuild/protobuf/wkt";
import { type Command, InvalidArgumentError } from "commander";
import { EngineState, type Task, TaskPriority, TaskSchema } from "../../gen/signalbox/v1/task_pb.ts";
import { parseDuration } from "./duration.ts";
import { facts, json, printable } from "./printable.ts";
import type { Cli } from "./run.ts";
import { callServer, type ServerOptions, withServer } from "./server-call.ts";
import { answerHint, isFailure } from "./task-text.ts";

interface SubmitFlags extends ServerOptions {
  agent?: string;
  context?: string;
  label: Record<string, string>;
  strategy?: string;
  maxCost?: string;
  priority?: TaskPriority;
  deadline?: number;
  idempotencyKey?: string;
  store: boolean;
  wait?: boolean;
  timeout?: number;
}

interface WaitFlags extends ServerOptions {
  timeout?: number;
}

/** The longest time that the server waits for one call, in milliseconds. */
const LONGEST_WAIT_MS = 600_000;

export function addTaskSubmitCommands(task: Command, cli: Cli): void {
  const submit = task
    .command("submit <capability> <json>")
    .description("give a task with JSON to whoever has a capability")
    .option("--agent <id>", "only this agent, of those that have it")
    .option("--context <id>", "the conversation that it belongs to")
    .option("--label <key=value>", "what the capability must be labelled with; may be repeated", gatherLabel, {})
    .option("--strategy <name>", "what chooses among several agents, as least-load")
    .option("--max-cost <number>", "the most that it may cost")
    .option("--priority <name>", "BACKGROUND, LOW, NORMAL, HIGH or CRITICAL", parsePriority)
    .option(
      "--deadline <duration>",
      "it fails when it has not ended so long after it was accepted, as 5m",
      parseDuration,
    )
    .option("--idempotency-key <key>", "given again with the same key, it is not begun again")
    .option("--no-store", "neither take the result from the cache nor put it there")
    .option("--wait", "wait until it has ended, or asks")
    .option("--timeout <duration>", "with --wait: how long, as 30s (default: as long as it takes)", parseDuration);
  withServer(submit).action((capabilityId: string, text: string, flags: SubmitFlags) => {
    if (flags.timeout !== undefined && !flags.wait) submit.error("error: --timeout needs --wait.");
    const { agent = "", context = "", strategy = "", maxCost = "", deadline = 0 } = flags;
    const request = {
      capabilityId,
      agentId: agent,
      content: { case: "input" as const, value: fromJson(ValueSchema, readJson(submit, text)) },
      contextId: context,
      labels: flags.label,
      strategy,
      maxCost,
      priority: flags.priority ?? TaskPriority.UNSPECIFIED,
      deadlineMs: BigInt(deadline),
      idempotencyKey: flags.idempotencyKey ?? "",
      noStore: !flags.store,
    };
    return callServer(cli, flags, async (client) => {
      const given = await client.tasks.submitTask(request);
      if (flags.wait) await waitAndShow(cli, client, given.taskId, flags);
      else show(cli, given, flags);
    });
  });

  const wait = task
    .command("wait <id>")
    .description("wait until a task has ended, or asks for something, and show it")
    .option("--timeout <duration>", "how long, as 30s (default: as long as it takes)", parseDuration);
  withServer(wait).action((taskId: string, flags: WaitFlags) =>
    callServer(cli, flags, (client) => waitAndShow(cli, client, taskId, flags)),
  );
}

type Client = Parameters<Parameters<typeof callServer>[2]>[0];

/** A task that ends without what was asked of it, or not in time, makes the exit code 1. */
async function waitAndShow(cli: Cli, { tasks }: Client, taskId: string, flags: WaitFlags): Promise<void> {
  const endsAt = performance.now() + (flags.timeout ?? Number.POSITIVE_INFINITY);
  for (;;) {
    const left = Math.max(0, Math.ceil(endsAt - performance.now()));
    const { task, done } = await tasks.waitTask({ taskId, timeoutMs: Math.min(left, LONGEST_WAIT_MS) });
    if (!done && left > 0) continue;
    show(cli, task!, flags);
    if (!done) {
      cli.io.err("The time is up; the task goes on.\n");
      cli.exitCode = 1;
    } else if (isFailure(task!.a2aState)) {
      cli.exitCode = 1;
    }
    return;
  }
}

function show({ io }: Cli, task: Task, options: ServerOptions): void {
  io.out(options.json ? json(toJson(TaskSchema, task)) : plainTaskText(task));
  if (!options.json) io.err(answerHint(task.taskId, task.a2aState));
}

function plainTaskText(task: Task): string {
  const summary = facts([
    ["Task", task.taskId],
    ["Context", task.contextId],
    ["Agent", task.agentId],
    ["Capability", task.capabilityId],
    ["State", Object.keys(EngineState).find((name) => EngineState[name as keyof typeof EngineState] === task.state)],
    ["Updated", task.updateTime && timestampDate(task.updateTime).toISOString()],
    ["Message", task.message],
    ["Approval", task.approvalId],
    ["Result of", task.cachedFrom],
  ]);
  if (!task.output) return summary;
  const output = toJson(ValueSchema, task.output);
  return `${summary}\n${printable(typeof output === "string" ? output : JSON.stringify(output, null, 2))}\n`;
}

function readJson(command: Command, text: string): JsonValue {
  try {
    return JSON.parse(text) as JsonValue;
  } catch (error) {
    return command.error(
      `error: the task is no JSON: ${(error as Error).message}. Words go by "signalbox send --capability ID WORDS".`,
    );
  }
}

function parsePriority(text: string): TaskPriority {
  const priority = TaskPriority[text.toUpperCase() as keyof typeof TaskPriority];
  if (!priority) throw new InvalidArgumentError("It is BACKGROUND, LOW, NORMAL, HIGH or CRITICAL.");
  return priority;
}

function gatherLabel(text: string, before: Record<string, string>): Record<string, string> {
  const at = text.indexOf("=");
  if (at < 1) throw new InvalidArgumentError("It is key=value.");
  return { ...before, [text.slice(0, at)]: text.slice(at + 1) };
}
