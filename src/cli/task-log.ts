/** `signalbox task log`: where a task stands in the engine, how it came there, and why. */
import { toJson } from "@bufbuild/protobuf";
import { type Timestamp, timestampDate } from "@bufbuild/protobuf/wkt";
import type { Command } from "commander";
import {
  EngineState,
  type TaskExecution,
  TaskExecutionSchema,
  TaskPriority,
  type TaskTransition,
  TaskTransitionSchema,
  TaskUpdateKind,
} from "../../gen/signalbox/v1/task_pb.ts";
import { facts, firstLine, json, table } from "./printable.ts";
import type { Cli } from "./run.ts";
import { callServer, type ServerOptions, withServer } from "./server-call.ts";

/** Adds `log` to the command `task`. */
export function addTaskLogCommand(task: Command, cli: Cli): void {
  const log = task
    .command("log <id>")
    .description("show what the server did with a task: every transition, attempt and cause");
  withServer(log).action((taskId: string, options: ServerOptions) =>
    callServer(cli, options, async ({ tasks }) => {
      const execution = await tasks.getTaskExecution({ taskId });
      const transitions: TaskTransition[] = [];
      let pageToken = "";
      do {
        const page = await tasks.listTaskTransitions({ taskId, pageSize: 1000, pageToken });
        transitions.push(...page.transitions);
        pageToken = page.nextPageToken;
      } while (pageToken !== "");
      cli.io.out(options.json ? logJson(execution, transitions) : logText(execution, transitions));
    }),
  );
}

const logJson = (execution: TaskExecution, transitions: readonly TaskTransition[]): string =>
  json({
    execution: toJson(TaskExecutionSchema, execution),
    transitions: transitions.map((transition) => toJson(TaskTransitionSchema, transition)),
  });

function logText(execution: TaskExecution, transitions: readonly TaskTransition[]): string {
  const { taskId, agentId, state, attempt, priority, replicaId, leaseExpireTime, fencingToken } = execution;
  const lease = leaseExpireTime ? `${replicaId}, lease until ${time(leaseExpireTime)}` : replicaId;
  const summary = facts([
    ["Task", taskId],
    ["Agent", agentId],
    ["State", nameIn(EngineState, state)],
    ["Attempt", String(attempt)],
    ["Priority", nameIn(TaskPriority, priority)],
    ["Replica", lease],
    ["Token", String(fencingToken)],
    ["Wakes", time(execution.wakeTime)],
    ["Deadline", time(execution.deadlineTime)],
    ["Accepted", time(execution.createTime)],
  ]);
  return `${summary}\n${transitionTable(transitions)}`;
}

/** What happened to a task in the engine. */
export function transitionTable(transitions: readonly TaskTransition[]): string {
  const rows = transitions.map((row) => [
    String(row.sequence),
    time(row.createTime),
    row.state === EngineState.UNSPECIFIED ? "" : nameIn(EngineState, row.state),
    String(row.attempt),
    String(row.fencingToken),
    row.replicaId,
    nameIn(TaskUpdateKind, row.kind).toLowerCase(),
    firstLine(row.cause),
  ]);
  return table(["NUMBER", "TIME", "STATE", "ATTEMPT", "TOKEN", "REPLICA", "KIND", "CAUSE"], rows);
}

const time = (timestamp: Timestamp | undefined): string => (timestamp ? timestampDate(timestamp).toISOString() : "");

/** The name of a value; its number when the server knows more values than this program. */
const nameIn = (values: Readonly<Record<string, number>>, value: number): string =>
  Object.keys(values).find((name) => values[name] === value) ?? String(value);
