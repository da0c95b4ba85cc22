/** `signalbox task`: give tasks, look at them, follow them, cancel and remove them, see what became of them in the engine. */
import { toJson } from "@bufbuild/protobuf";
import { timestampDate } from "@bufbuild/protobuf/wkt";
import { type Command, InvalidArgumentError } from "commander";
import {
  type Message,
  type StreamResponse,
  StreamResponseSchema,
  type Task,
  TaskSchema,
  TaskState,
} from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { stateName } from "../domain/task-state.ts";
import { age, json, jsonLine, table } from "./printable.ts";
import type { Cli } from "./run.ts";
import { callServer, type ServerOptions, withServer } from "./server-call.ts";
import { addTaskCleanupCommands } from "./task-cleanup.ts";
import { addTaskEventsCommand } from "./task-events.ts";
import { addTaskLogCommand } from "./task-log.ts";
import { addTaskShareCommands } from "./task-share.ts";
import { addTaskSubmitCommands } from "./task-submit.ts";
import { answerHint, createUpdateTeller, isFailure, taskText } from "./task-text.ts";

interface ListFlags extends ServerOptions {
  state?: TaskState;
  context?: string;
  limit: number;
}

interface WatchFlags extends ServerOptions {
  after?: number;
}

export function addTaskCommands(program: Command, cli: Cli): void {
  const task = program.command("task").description("give, show, follow, explain, cancel and remove tasks");
  const { io } = cli;

  const show = (found: Task, options: ServerOptions) =>
    io.out(options.json ? json(toJson(TaskSchema, found)) : taskText(found));

  withServer(task.command("get <id>").description("show a task")).action((id: string, options: ServerOptions) =>
    callServer(cli, options, async ({ a2a }) => show(await a2a.getTask({ id }), options)),
  );

  const list = task
    .command("list")
    .description("list tasks, the latest first")
    .option("--state <state>", "only tasks in this state, as WORKING", parseState)
    .option("--context <id>", "only tasks of this context")
    .option("--limit <number>", "how many, 1 to 100", parseLimit, 50);
  withServer(list).action((flags: ListFlags) =>
    callServer(cli, flags, async ({ a2a }) => {
      const page = await a2a.listTasks({
        contextId: flags.context ?? "",
        status: flags.state ?? TaskState.UNSPECIFIED,
        pageSize: flags.limit,
        historyLength: 0,
      });
      const { tasks, totalSize } = page;
      if (flags.json) return io.out(json({ tasks: tasks.map((found) => toJson(TaskSchema, found)), totalSize }));
      io.out(taskTable(tasks));
      if (totalSize > tasks.length) io.err(`${tasks.length} of ${totalSize} tasks.\n`);
    }),
  );

  withServer(task.command("cancel <id>").description("cancel a task")).action((id: string, options: ServerOptions) =>
    callServer(cli, options, async ({ a2a }) => show(await a2a.cancelTask({ id }), options)),
  );

  addTaskSubmitCommands(task, cli);
  addTaskLogCommand(task, cli);
  addTaskEventsCommand(task, cli);
  addTaskCleanupCommands(task, cli);
  addTaskShareCommands(task, cli);

  const watch = task
    .command("watch <id>")
    .description("follow a task until it ends, also over connections that break")
    .option("--after <number>", "go on after this update: the number that --json shows with each", parseSequence);
  withServer(watch).action((id: string, { after, ...options }: WatchFlags) =>
    callServer(cli, options, (client) =>
      showUpdates(cli, client.watch(id, after === undefined ? {} : { after }), options),
    ),
  );
}

/** Shows the items of a stream as they come. A task that ends without what was asked of it makes the exit code 1. */
export async function showUpdates(
  cli: Cli,
  updates: AsyncIterable<StreamResponse>,
  options: ServerOptions,
): Promise<void> {
  const { io } = cli;
  const teller = createUpdateTeller();
  let taskId = "";
  let state: TaskState = TaskState.UNSPECIFIED;
  let question: Message | undefined;
  try {
    for await (const update of updates) {
      io.out(options.json ? jsonLine(toJson(StreamResponseSchema, update)) : teller.tell(update));
      const { case: kind, value } = update.payload;
      if (kind !== "task" && kind !== "statusUpdate") continue;
      taskId = kind === "task" ? value.id : value.taskId;
      state = value.status?.state ?? state;
      question = value.status?.message;
    }
  } finally {
    if (!options.json) io.out(teller.end());
  }
  if (!options.json) io.err(answerHint(taskId, state, question));
  if (isFailure(state)) cli.exitCode = 1;
}

function taskTable(tasks: readonly Task[]): string {
  if (tasks.length === 0) return "No tasks.\n";
  const now = new Date();
  const rows = tasks.map(({ id, contextId, status }) => [
    id,
    contextId,
    status ? stateName(status.state) : "",
    status?.timestamp ? age(timestampDate(status.timestamp), now) : "",
  ]);
  return table(["ID", "CONTEXT", "STATE", "UPDATED"], rows);
}

function parseState(text: string): TaskState {
  const name = text
    .toUpperCase()
    .replaceAll("-", "_")
    .replace(/^TASK_STATE_/, "");
  const state = TaskState[name as keyof typeof TaskState];
  if (!state) {
    const names = Object.keys(TaskState).filter((key) => /^[A-Z]/.test(key) && key !== "UNSPECIFIED");
    throw new InvalidArgumentError(`It is one of ${names.join(", ")}.`);
  }
  return state;
}

function parseSequence(text: string): number {
  const sequence = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(sequence)) throw new InvalidArgumentError("It is 0 or more.");
  return sequence;
}

function parseLimit(text: string): number {
  const limit = Number(text);
  if (!Number.isInteger(limit) || limit < 1 || limit > 100) throw new InvalidArgumentError("It is 1 to 100.");
  return limit;
}
